internal import NetworkAddresses
public import Nftables

/// The shape of the table `inet fairlead-services`, whatever the services are.
///
/// Two maps carry everything that grows with the cluster: `frontends` leads a packet's destination to the chain
/// `pick-N` of services with N endpoints, and that chain sends it to one of the N entries that `endpoints` holds for
/// the same destination. A service costs one verdict element and N data elements: no chain, no rule, no map. Only
/// services with session affinity or source ranges have chains and sets of their own.
public enum ServiceTable {
    public static let name = TableName(.inet, "fairlead-services")

    static func frontends(_ family: AddressFamily) -> String { family == .ipv4 ? "frontends4" : "frontends6" }
    static func endpoints(_ family: AddressFamily) -> String { family == .ipv4 ? "endpoints4" : "endpoints6" }
    static func clusterIPs(_ family: AddressFamily) -> String { family == .ipv4 ? "cluster-ips4" : "cluster-ips6" }
    static func external(_ family: AddressFamily) -> String { family == .ipv4 ? "external4" : "external6" }
    static func hairpin(_ family: AddressFamily) -> String { family == .ipv4 ? "hairpin4" : "hairpin6" }
    /// Frontends that only some clients may use, each with the chain that tells them apart.
    static func restricted(_ family: AddressFamily) -> String { family == .ipv4 ? "restricted4" : "restricted6" }
    /// External frontends of policy Local, as clients of the cluster itself use them: by all endpoints.
    static func shortcuts(_ family: AddressFamily) -> String { family == .ipv4 ? "shortcuts4" : "shortcuts6" }
    /// The same frontends, to be masqueraded for this node's own programs only.
    static func kept(_ family: AddressFamily) -> String { family == .ipv4 ? "kept4" : "kept6" }

    /// The chain that ends what no endpoint can answer. Not `reject`: that is a word of nft's grammar.
    static let refuse = "refuse"

    /// The table without any service.
    public static func frame(on node: NodeContext) -> Ruleset {
        var table = Ruleset(name)
        for family in AddressFamily.allCases {
            let frontend: [KeyType] = [.address(family), .transportProtocol, .port]
            table.sets[frontends(family)] = NamedSet(.init(key: frontend, data: .verdict))
            table.sets[endpoints(family)] = NamedSet(
                .init(key: frontend + [.number], data: .values([.address(family), .port])))
            table.sets[external(family)] = NamedSet(.init(key: frontend))
            table.sets[kept(family)] = NamedSet(.init(key: frontend))
            table.sets[restricted(family)] = NamedSet(.init(key: frontend, data: .verdict))
            table.sets[shortcuts(family)] = NamedSet(.init(key: frontend, data: .verdict))
            table.sets[clusterIPs(family)] = NamedSet(.init(key: [.address(family)]))
            table.sets[hairpin(family)] = NamedSet(.init(key: [.address(family), .address(family)]))
        }
        table.chains[refuse] = Chain(comment: "no endpoint, or no such port", [Rule(.reject)])
        for (name, chain) in nodeChains(on: node) { table.chains[name] = chain }
        return table
    }

    /// The chains whose rules name the node's or the cluster's networks; made anew when those change.
    public static func nodeChains(on node: NodeContext) -> [String: Chain] {
        // Traffic that this node forwards may come from its pods; what its own programs send is all its own.
        let fromPods = AddressFamily.allCases.compactMap { family in
            node.localTraffic(family).map { field, operand in
                Rule(
                    .match(field, operand), .dispatch(destination(family), map: shortcuts(family)),
                    comment: "a pod of this node needs no node in between")
            }
        }
        let fromPrograms = AddressFamily.allCases.map { family in
            Rule(.dispatch(destination(family), map: shortcuts(family)))
        }
        return [
            "prerouting": Chain(
                hook: Hook(.nat, .prerouting, priority: -100), translationRules(on: node, shortcuts: fromPods)),
            "output": Chain(
                hook: Hook(.nat, .output, priority: -100), translationRules(on: node, shortcuts: fromPrograms)),
            "postrouting": Chain(hook: Hook(.nat, .postrouting, priority: 100), masqueradeRules(on: node)),
        ]
    }

    private static func translationRules(on node: NodeContext, shortcuts: [Rule]) -> [Rule] {
        let families = AddressFamily.allCases
        return families.map { Rule(.dispatch(destination($0), map: restricted($0))) } + shortcuts
            + families.map { Rule(.dispatch(destination($0), map: frontends($0))) }
            + families.map { family in
                Rule(
                    .lookup([.destination(family)], set: clusterIPs(family)), .verdict(.goto(refuse)),
                    comment: "a cluster IP, but none of its ports")
            }
            + node.serviceCIDRs.sorted().map { cidr in
                Rule(
                    .match(.destination(cidr.family), .prefix(cidr)), .drop,
                    comment: "no service has this address")
            }
    }

    /// The decision is taken from what conntrack remembers of the first packet, so no packet mark is needed and none
    /// can collide with another program's.
    private static func masqueradeRules(on node: NodeContext) -> [Rule] {
        let translated = Statement.match(.conntrackStatus, .destinationTranslated)
        return AddressFamily.allCases.flatMap { family -> [Rule] in
            // nft 1.0.6 reads a port of the conntrack tuple back only behind the protocol's name.
            func reached(_ set: String, _ transport: TransportProtocol) -> [Statement] {
                [
                    translated, .match(.transportProtocol, .transport(transport)),
                    .lookup(
                        [.originalDestination(family), .transportProtocol, .originalDestinationPort], set: set),
                ]
            }
            return [
                Rule(
                    translated, .lookup([.source(family), .destination(family)], set: hairpin(family)), .masquerade,
                    comment: "a pod that reached itself through a service")
            ]
                + TransportProtocol.allCases.map { transport in
                    Rule(
                        reached(external(family), transport) + [.masquerade],
                        comment: "from outside: the answer must come back through this node")
                }
                + TransportProtocol.allCases.map { transport in
                    Rule(
                        reached(kept(family), transport) + [.match(.sourceAddressType, .local), .masquerade],
                        comment: "by this node itself to an endpoint anywhere")
                }
                + toClusterIP(translated, family, on: node)
        }
    }

    /// Connections to cluster IPs are masqueraded unless they come from this node's pods, or even then. Where nothing
    /// tells those pods apart, none is.
    private static func toClusterIP(
        _ translated: Statement, _ family: AddressFamily, on node: NodeContext
    ) -> [Rule] {
        let reached = [translated, .lookup([.originalDestination(family)], set: clusterIPs(family))]
        if node.settings.masqueradesAll {
            return [Rule(reached + [.masquerade], comment: "to a cluster IP: all are masqueraded here")]
        }
        return node.localTraffic(family).map { field, operand in
            [
                Rule(
                    reached + [.match(field, operand, negated: true), .masquerade],
                    comment: "to a cluster IP, not from a pod of this node")
            ]
        } ?? []
    }

    private static func destination(_ family: AddressFamily) -> [Field] {
        [.destination(family), .transportProtocol, .destinationPort]
    }

    /// Where the entries of shortcuts begin among a frontend's entries in `endpoints`.
    static let firstShortcut: UInt32 = 1 << 16

    /// The key in `endpoints` of one of a frontend's endpoints.
    static func slot(_ number: UInt32, of frontend: ElementKey) -> ElementKey {
        ElementKey(frontend, number)
    }

    /// The chain shared by all frontends with this many endpoints, or by all shortcuts with this many.
    static func pick(_ count: Int, shortcut: Bool = false) -> (name: String, chain: Chain) {
        if !shortcut, commonPicks.indices.contains(count - 1) { return commonPicks[count - 1] }
        return makePick(count, shortcut: shortcut)
    }

    /// Those that most services share, made once.
    private static let commonPicks = (1...64).map { makePick($0, shortcut: false) }

    private static func makePick(_ count: Int, shortcut: Bool) -> (name: String, chain: Chain) {
        let index = Field.random(below: UInt32(count), from: shortcut ? firstShortcut : 0)
        let rules = AddressFamily.allCases.map { family in
            Rule(.destinationNAT(family, destination(family) + [index], map: endpoints(family)))
        }
        return ("\(shortcut ? "pick-all" : "pick")-\(count)", Chain(rules))
    }
}
