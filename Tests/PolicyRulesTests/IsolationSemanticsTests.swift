import KubernetesObjects
import NetworkAddresses
import Testing

@testable import PolicyRules

/// NetworkPolicy as the API defines it, S1 to S17 of the checklist: who is isolated, and who is a peer.
///
/// `allows` asks the rules and lets the oracle contradict.
@Suite struct IsolationSemanticsTests {
    /// Pods `a` and `b` of shop on two nodes, `c` of another namespace.
    private let cluster: Cluster = {
        var cluster = Cluster()
        cluster.namespace("shop", ["team": "sales"])
        cluster.namespace("lab", ["team": "science"])
        cluster.pod("shop/a", ["app": "a", "tier": "front"])
        cluster.pod("shop/b", ["app": "b", "tier": "back"], on: "n2")
        cluster.pod("lab/c", ["app": "c", "tier": "front"])
        return cluster
    }()
    private let selectsA: FieldValue = ["matchLabels": ["app": "a"]]
    private let selectsB: FieldValue = ["matchLabels": ["app": "b"]]

    @Test func `S1: ingress and egress are isolated apart, and nothing is by default`() {
        var cluster = cluster
        #expect(cluster.allows("shop/a", "shop/b") && cluster.allows("shop/b", "shop/a"))
        cluster.policy("shop/p", ["podSelector": selectsA, "policyTypes": ["Ingress"]])
        #expect(!cluster.allows("shop/b", "shop/a") && cluster.allows("shop/a", "shop/b"))
        cluster.policy("shop/p", ["podSelector": selectsA, "policyTypes": ["Egress"]])
        #expect(cluster.allows("shop/b", "shop/a") && !cluster.allows("shop/a", "shop/b"))
    }

    @Test func `S2: a policy isolates only pods it selects, of its own namespace and in its directions`() {
        var cluster = cluster
        cluster.policy("lab/p", ["podSelector": selectsA])
        #expect(cluster.allows("shop/b", "shop/a"))
        cluster.policy("shop/p", ["podSelector": selectsA])
        #expect(!cluster.allows("shop/b", "shop/a"))
        #expect(cluster.allows("lab/c", "shop/b"))
    }

    @Test func `S3: both ends must agree, and an egress rule never opens the other end's ingress`() {
        var cluster = cluster
        cluster.policy(
            "shop/p", ["policyTypes": ["Ingress", "Egress"], "egress": [["to": [["podSelector": selectsB]]]]])
        #expect(!cluster.allows("shop/a", "shop/b"))
        cluster.policy("shop/q", ["podSelector": selectsB, "ingress": [["from": [["podSelector": selectsA]]]]])
        #expect(cluster.allows("shop/a", "shop/b"))
        #expect(!cluster.allows("lab/c", "shop/b"))
    }

    @Test func `S4: policies add up; none takes away what another allows`() {
        var cluster = cluster
        cluster.policy("shop/1", ["podSelector": selectsA, "ingress": [["from": [["podSelector": selectsB]]]]])
        cluster.policy("shop/2", ["podSelector": selectsA])
        cluster.policy("shop/3", ["ingress": [["from": [["namespaceSelector": ["matchLabels": ["team": "science"]]]]]]])
        #expect(cluster.allows("shop/b", "shop/a") && cluster.allows("lab/c", "shop/a"))
        #expect(!cluster.allows("198.51.100.1", "shop/a"))
    }

    @Test(arguments: [["podSelector": [:]], ["policyTypes": ["Ingress"]]] as [FieldValue])
    func `S5: no selector is all pods of the namespace, and of no other`(spec: FieldValue) {
        var cluster = cluster
        cluster.policy("shop/p", spec)
        #expect(!cluster.allows("lab/c", "shop/a") && !cluster.allows("lab/c", "shop/b"))
        #expect(cluster.allows("shop/a", "lab/c"))
    }

    @Test(
        arguments: [
            (["podSelector": [:]], false, true),
            (["podSelector": [:], "policyTypes": []], false, true),
            (["podSelector": [:], "egress": []], false, true),
            (["podSelector": [:], "egress": [["ports": [["port": 53]]]]], false, false),
        ] as [(FieldValue, Bool, Bool)])
    func `S6: without policyTypes it is ingress, and egress only with rules for it`(
        spec: FieldValue, ingress: Bool, egress: Bool
    ) {
        var cluster = cluster
        cluster.policy("lab/p", spec)
        #expect(cluster.allows("shop/a", "lab/c") == ingress)
        #expect(cluster.allows("lab/c", "shop/a") == egress)
    }

    @Test func `S7: rules of a direction that is not named have no effect`() {
        var cluster = cluster
        cluster.policy("lab/p", ["policyTypes": ["Egress"], "ingress": [["from": [["podSelector": [:]]]]]])
        #expect(cluster.allows("shop/a", "lab/c") && !cluster.allows("lab/c", "shop/a"))
    }

    @Test(
        arguments: [
            ["policyTypes": ["Ingress", "Egress"]],
            ["policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []],
        ] as [FieldValue])
    func `S8: no rules, missing or empty, deny everything`(spec: FieldValue) {
        var cluster = cluster
        cluster.policy("lab/p", spec)
        #expect(!cluster.allows("shop/a", "lab/c") && !cluster.allows("lab/c", "shop/a"))
        #expect(!cluster.allows("198.51.100.1", "lab/c") && !cluster.allows("lab/c", "198.51.100.1"))
    }

    @Test func `S9: an empty rule allows everything; a rule's peer and port must both match, any of each`() {
        var cluster = cluster
        cluster.policy("lab/p", ["ingress": [[:]]])
        #expect(cluster.allows("shop/a", "lab/c", 1234) && cluster.allows("198.51.100.1", "lab/c", nil, 1))
        cluster.policy(
            "lab/p",
            [
                "ingress": [
                    [
                        "from": [
                            ["namespaceSelector": ["matchLabels": ["team": "sales"]], "podSelector": selectsA],
                            ["ipBlock": ["cidr": "198.51.100.0/24"]],
                        ], "ports": [["port": 80], ["port": 443]],
                    ]
                ]
            ])
        for peer in ["shop/a", "198.51.100.1"] {
            #expect(cluster.allows(peer, "lab/c", 80) && cluster.allows(peer, "lab/c", 443))
            #expect(!cluster.allows(peer, "lab/c", 81))
        }
        #expect(!cluster.allows("shop/b", "lab/c", 80))
    }

    @Test(arguments: [[[:]], [["from": [], "ports": []]]] as [FieldValue])
    func `S10: no peers are all peers, outside the cluster too; no ports are all ports and protocols`(rules: FieldValue)
    {
        var cluster = cluster
        cluster.policy("lab/p", ["ingress": rules])
        for peer in ["shop/a", "shop/b", "198.51.100.1"] {
            for number: UInt8 in [6, 17, 132] { #expect(cluster.allows(peer, "lab/c", 7, number)) }
            for number: UInt8 in [1, 47] { #expect(cluster.allows(peer, "lab/c", nil, number)) }
        }
        cluster.policy("lab/p", ["ingress": [["from": [["podSelector": [:]]]]]])
        #expect(!cluster.allows("198.51.100.1", "lab/c"))
    }

    @Test func `S11: a direction that cannot be read isolates both ways, and is noted`() {
        var cluster = cluster
        #expect(cluster.policy("lab/p", ["policyTypes": ["ingress"]]).count == 1)
        #expect(!cluster.allows("shop/a", "lab/c") && !cluster.allows("lab/c", "shop/a"))
    }

    @Test func `S12: pods of the own namespace, all of others, both in one item, either of two`() {
        var cluster = cluster
        func peers(_ items: FieldValue) -> [Bool] {
            cluster.policy("shop/p", ["podSelector": selectsB, "ingress": [["from": items]]])
            return ["shop/a", "lab/c", "198.51.100.1"].map { cluster.allows($0, "shop/b") }
        }
        #expect(peers([["podSelector": ["matchLabels": ["tier": "front"]]]]) == [true, false, false])
        #expect(peers([["namespaceSelector": ["matchLabels": ["team": "science"]]]]) == [false, true, false])
        #expect(peers([["namespaceSelector": [:]]]) == [true, true, false])
        #expect(
            peers([["namespaceSelector": [:], "podSelector": ["matchLabels": ["app": "c"]]]]) == [false, true, false])
        #expect(
            peers([
                ["namespaceSelector": ["matchLabels": ["team": "science"]]],
                ["podSelector": ["matchLabels": ["tier": "front"]]],
            ]) == [true, true, false])
    }

    @Test(
        arguments: [
            [:], ["podSelector": [:], "ipBlock": ["cidr": "0.0.0.0/0"]], ["futureSelector": [:]],
            ["podSelector": [:], "futureSelector": [:]],
        ] as [FieldValue])
    func `S13: a peer that is not understood matches nothing`(peer: FieldValue) {
        var cluster = cluster
        #expect(cluster.policy("shop/p", ["podSelector": selectsB, "ingress": [["from": [peer]]]]).count == 1)
        #expect(!cluster.allows("shop/a", "shop/b") && !cluster.allows("198.51.100.1", "shop/b"))
    }

    @Test(
        arguments: [
            (["key": "tier", "operator": "In", "values": ["front", "middle"]], [true, false, false]),
            (["key": "tier", "operator": "NotIn", "values": ["front"]], [false, true, true]),
            (["key": "tier", "operator": "Exists"], [true, true, false]),
            (["key": "tier", "operator": "DoesNotExist"], [false, false, true]),
        ] as [(FieldValue, [Bool])])
    func `S14: expressions; NotIn and DoesNotExist match what lacks the key`(expression: FieldValue, expected: [Bool]) {
        var cluster = cluster
        cluster.pod("shop/d", ["app": "d"])
        cluster.pod("shop/server", ["role": "server"])
        cluster.policy(
            "shop/p",
            [
                "podSelector": ["matchLabels": ["role": "server"]],
                "ingress": [["from": [["podSelector": ["matchExpressions": [expression]]]]]],
            ])
        #expect(["shop/a", "shop/b", "shop/d"].map { cluster.allows($0, "shop/server") } == expected)
    }

    @Test func `S15: every namespace can be named, known or not`() {
        var cluster = cluster
        cluster.pod("elsewhere/d")
        func named(_ name: FieldValue) -> FieldValue {
            ["namespaceSelector": ["matchLabels": ["kubernetes.io/metadata.name": name]]]
        }
        cluster.policy("shop/p", ["podSelector": selectsB, "ingress": [["from": [named("lab"), named("elsewhere")]]]])
        #expect(cluster.allows("lab/c", "shop/b") && cluster.allows("elsewhere/d", "shop/b"))
        #expect(!cluster.allows("shop/a", "shop/b"))
    }

    @Test func `S16: a new label of a pod or a namespace gives and takes, as peer and as subject`() {
        var cluster = cluster
        cluster.policy(
            "shop/p",
            [
                "podSelector": selectsB,
                "ingress": [
                    [
                        "from": [
                            [
                                "namespaceSelector": ["matchLabels": ["team": "science"]],
                                "podSelector": ["matchLabels": ["tier": "front"]],
                            ]
                        ]
                    ]
                ],
            ])
        #expect(cluster.allows("lab/c", "shop/b"))
        cluster.pod("lab/c", ["tier": "back"])
        #expect(!cluster.allows("lab/c", "shop/b"))
        cluster.pod("lab/c", ["tier": "front"])
        cluster.namespace("lab", ["team": "arts"])
        #expect(!cluster.allows("lab/c", "shop/b"))
        cluster.namespace("lab", ["team": "science"])
        #expect(cluster.allows("lab/c", "shop/b") && !cluster.allows("shop/a", "shop/b"))
        cluster.pod("shop/b", ["app": "other"])
        #expect(cluster.allows("shop/a", "shop/b"))
    }

    @Test func `S17: a selector that cannot be read selects nothing, one with odd values means what it says`() {
        var cluster = cluster
        for selector: FieldValue in [
            ["matchLabels": ["app": 7]], ["matchExpressions": [["key": "app", "operator": "Is"]]],
        ] {
            #expect(cluster.policy("shop/unreadable", ["podSelector": selector]).count == 1)
            #expect(cluster.allows("lab/c", "shop/a") && cluster.allows("lab/c", "shop/b"))
            let rules: FieldValue = [["from": [["podSelector": selector]]]]
            #expect(cluster.policy("shop/p", ["podSelector": selectsB, "ingress": rules]).count == 1)
            #expect(!cluster.allows("shop/a", "shop/b"))
            cluster.removePolicy("shop/p")
        }
        cluster.policy("shop/odd", ["podSelector": ["matchLabels": ["app": "no \"label\" | value, =x"]]])
        #expect(cluster.allows("lab/c", "shop/a") && cluster.allows("lab/c", "shop/b"))
    }
}
