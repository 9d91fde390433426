import KubernetesObjects
import NetworkAddresses
import Testing

/// Policies as they are read; the rule is that a doubt is settled against the connection.
struct NetworkPolicyReadingTests {
    private func decode(_ spec: FieldValue) -> (policy: NetworkPolicy?, notes: [String]) {
        let decoded = KubernetesObject.decode(
            [
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": ["namespace": "shop", "name": "p"], "spec": spec,
            ], source: "p.yaml")
        guard case .networkPolicy(let policy)? = decoded.objects.first else {
            return (nil, decoded.notes.map(\.description))
        }
        return (policy, decoded.notes.map { "\($0.field): \($0.message)" })
    }

    @Test(
        arguments: [
            ([:], [.ingress]),
            (["policyTypes": []], [.ingress]),
            (["ingress": []], [.ingress]),
            (["egress": []], [.ingress]),
            (["egress": [[:]]], [.ingress, .egress]),
            (["policyTypes": ["Egress"], "ingress": [[:]]], [.egress]),
            (["policyTypes": ["Ingress"], "egress": [[:]]], [.ingress]),
            (["policyTypes": ["Ingress", "Egress"]], [.ingress, .egress]),
        ] as [(FieldValue, Set<NetworkPolicy.Direction>)])
    func `directions default as the API server has it`(spec: FieldValue, directions: Set<NetworkPolicy.Direction>) {
        let (policy, notes) = decode(spec)
        #expect(policy?.directions == directions)
        #expect(notes.isEmpty)
    }

    @Test func `every form of peer and port is read`() throws {
        let (policy, notes) = decode([
            "podSelector": ["matchLabels": ["app": "web"]],
            "ingress": [
                [
                    "from": [
                        ["podSelector": ["matchLabels": ["app": "front"]]],
                        ["namespaceSelector": [:]],
                        [
                            "namespaceSelector": ["matchLabels": ["team": "a"]],
                            "podSelector": [
                                "matchExpressions": [["key": "tier", "operator": "In", "values": ["x", "y"]]]
                            ],
                        ],
                        ["ipBlock": ["cidr": "10.0.0.1/24", "except": ["10.0.0.128/25"]]],
                    ],
                    "ports": [
                        [:], ["port": 80], ["protocol": "UDP", "port": 8000, "endPort": 8010],
                        ["protocol": "SCTP", "port": "sigtran"],
                    ],
                ], [:],
            ],
        ])
        #expect(notes.isEmpty)
        let rules = try #require(policy?.ingress)
        #expect(
            rules[0].peers
                == .only([
                    .pods(LabelSelector(matchLabels: ["app": "front"]), in: .own),
                    .pods(.everything, in: .matching(.everything)),
                    .pods(
                        LabelSelector([.init("tier", .in, ["y", "x"])]),
                        in: .matching(LabelSelector(matchLabels: ["team": "a"]))),
                    .block(IPBlock(cidr: IPPrefix("10.0.0.0/24")!, except: [IPPrefix("10.0.0.128/25")!])),
                ]))
        #expect(
            rules[0].ports
                == .only([
                    PolicyPort(), PolicyPort(.range(Port(80)!...Port(80)!)),
                    PolicyPort(protocol: .udp, .range(Port(8000)!...Port(8010)!)),
                    PolicyPort(protocol: .sctp, .named("sigtran")),
                ]))
        #expect(rules[1] == PolicyRule(peers: .any, ports: .any))
    }

    /// Each a spec with one mistake, the note it costs, and the ingress rules that are left.
    static let mistakes: [(spec: FieldValue, note: String, rules: [PolicyRule])] = [
        (
            ["ingress": [["from": [["podSelector": "app=web"]]]]],
            "spec.ingress[0].from[0].podSelector: is a string (\"app=web\"), not a map",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [[:]]]]], "spec.ingress[0].from[0]: names no peer; it matches nothing",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [.null, ["namespaceSelector": [:]]]]]], "spec.ingress[0].from[0]: is missing",
            [PolicyRule(peers: .only([.pods(.everything, in: .matching(.everything))]))]
        ),
        (
            ["ingress": [["from": [["podSelector": [:], "serviceAccounts": [:]]]]]],
            "spec.ingress[0].from[0].serviceAccounts: is no field of a peer; the peer matches nothing",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [["podSelector": ["matchLabel": ["app": "web"]]]]]]],
            "spec.ingress[0].from[0].podSelector.matchLabel: is no field of a selector",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [["podSelector": [:], "ipBlock": ["cidr": "10.0.0.0/8"]]]]]],
            "spec.ingress[0].from[0]: has a selector beside ipBlock; the peer matches nothing",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [["ipBlock": ["cidr": "10.0.0.0"]]]]]],
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0\" is no network in CIDR notation",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [["ipBlock": ["cidr": "10.0.0.0/8", "except": ["10.300.0.0/16"]]]]]]],
            "spec.ingress[0].from[0].ipBlock.except[0]: \"10.300.0.0/16\" is no network in CIDR notation",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["from": [["ipBlock": ["cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]]]]]]],
            "spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/16 is no part of 10.0.0.0/8",
            [
                PolicyRule(
                    peers: .only([
                        .block(IPBlock(cidr: IPPrefix("10.0.0.0/8")!, except: [IPPrefix("11.0.0.0/16")!]))
                    ]))
            ]
        ),
        (
            ["ingress": [["form": [["podSelector": [:]]]]]],
            "spec.ingress[0].form: is no field of this rule; the rule matches nothing", [.nothing]
        ),
        (
            ["ingress": [.null, [:]]], "spec.ingress[0]: is empty; the rule matches nothing",
            [.nothing, PolicyRule()]
        ),
        (["ingress": ["all"]], "spec.ingress[0]: is a string (\"all\"), not a map", [.nothing]),
        (["ingress": [:]], "spec.ingress: is a map, not a list; nothing is allowed", [.nothing]),
        (
            ["ingress": [["from": ["podSelector": [:]]]]], "spec.ingress[0].from: is a map, not a list",
            [PolicyRule(peers: .only([]))]
        ),
        (
            ["ingress": [["ports": [["port": 70000]]]]],
            "spec.ingress[0].ports[0].port: 70000 is no port (1 to 65535)", [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["port": 0]]]]], "spec.ingress[0].ports[0].port: 0 is no port (1 to 65535)",
            [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["port": "80"]]]]],
            "spec.ingress[0].ports[0].port: \"80\" is no port name (15 lower-case letters, digits and '-')",
            [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["protocol": "tcp"]]]]],
            "spec.ingress[0].ports[0].protocol: \"tcp\" is none of TCP, UDP, SCTP", [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["port": 90, "endPort": 80]]]]],
            "spec.ingress[0].ports[0].endPort: 80 is below the port, 90", [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["port": "web", "endPort": 80]]]]],
            "spec.ingress[0].ports[0].endPort: needs a port that is a number", [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["endPort": 80]]]]],
            "spec.ingress[0].ports[0].endPort: needs a port to begin at", [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [.null]]]], "spec.ingress[0].ports[0]: is missing",
            [PolicyRule(ports: .only([]))]
        ),
        (
            ["ingress": [["ports": [["prot": 80]]]]],
            "spec.ingress[0].ports[0].prot: is no field of a port; it matches nothing",
            [PolicyRule(ports: .only([]))]
        ),
    ]

    @Test(arguments: mistakes.indices)
    func `a mistake in a rule closes what it is in`(index: Int) {
        let (spec, note, rules) = Self.mistakes[index]
        let (policy, notes) = decode(spec)
        #expect(notes == [note])
        #expect(policy?.ingress == rules)
        #expect(policy?.directions == [.ingress])
    }

    @Test(
        arguments: [
            (
                ["policyTypes": ["Ingres"]],
                "spec.policyTypes[0]: \"Ingres\" is none of Ingress, Egress; pods are isolated both ways"
            ),
            (
                ["policyTypes": "Ingress"],
                "spec.policyTypes: is a string (\"Ingress\"), not a list; pods are isolated both ways"
            ),
            (["policyTypes": [.null]], "spec.policyTypes[0]: is missing; pods are isolated both ways"),
            (
                ["podSelector": [:], "egres": [[:]]],
                "spec.egres: is no field of a NetworkPolicy; pods are isolated both ways"
            ),
            (["egress": "none"], "spec.egress: is a string (\"none\"), not a list; nothing is allowed"),
        ] as [(FieldValue, String)])
    func `a mistake in the directions isolates both ways`(spec: FieldValue, note: String) {
        let (policy, notes) = decode(spec)
        #expect(notes == [note])
        #expect(policy?.directions == [.ingress, .egress])
    }

    @Test(
        arguments: [
            (["podSelector": "app=web"], "spec.podSelector: is a string (\"app=web\"), not a map"),
            (
                ["podSelctor": ["matchLabels": ["app": "web"]]],
                "spec.podSelctor: is no field of a NetworkPolicy, and podSelector is missing"
            ),
            (
                ["podSelector": ["matchExpressions": [["key": "a", "operator": "in", "values": ["b"]]]]],
                "spec.podSelector.matchExpressions[0].operator: \"in\" is none of In, NotIn, Exists, DoesNotExist"
            ),
            (
                ["podSelector": ["matchExpressions": [["key": "a", "operator": "In"]]]],
                "spec.podSelector.matchExpressions[0].values: is empty, but In needs values"
            ),
            (
                ["podSelector": ["matchExpressions": [["key": "a", "operator": "Exists", "values": ["b"]]]]],
                "spec.podSelector.matchExpressions[0].values: holds values, but Exists takes none"
            ),
            (
                ["podSelector": ["matchExpressions": [["operator": "Exists"]]]],
                "spec.podSelector.matchExpressions[0].key: is missing"
            ),
            (
                ["podSelector": ["matchLabels": ["version": 2]]],
                "spec.podSelector.matchLabels.version: is a number (2), not a string"
            ),
            ("deny", "spec: is a string (\"deny\"), not a map"),
            (.null, "spec: is missing"),
        ] as [(FieldValue, String)])
    func `a policy whose selector cannot be read is refused, and never selects all`(spec: FieldValue, note: String) {
        let (policy, notes) = decode(spec)
        #expect(policy == nil)
        #expect(notes == ["p.yaml: NetworkPolicy shop/p: \(note)"])
    }
}
