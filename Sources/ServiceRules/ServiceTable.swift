internal import KubernetesObjects
public import NetworkAddresses
public import Nftables

/// What of the node the service table depends on.
public struct NodeContext: Hashable, Sendable {
    public var name: String
    /// The addresses at which node ports answer: one per family, the node's first.
    public var addresses: [IPAddress]
    /// Where this node's pods have their addresses; connections from elsewhere to a cluster IP are masqueraded.
    public var podCIDRs: [IPPrefix]
    /// Where cluster IPs come from; an address there that no service has leads nowhere.
    public var serviceCIDRs: [IPPrefix]

    public init(
        name: String, addresses: [IPAddress] = [], podCIDRs: [IPPrefix] = [], serviceCIDRs: [IPPrefix] = []
    ) {
        self.name = name
        self.addresses = addresses
        self.podCIDRs = podCIDRs
        self.serviceCIDRs = serviceCIDRs
    }
}

/// The shape of the table `inet fairlead-services`, whatever the services are.
///
/// Two maps carry everything that grows with the cluster: `frontends` leads a packet's destination to the chain
/// `pick-N` of services with N endpoints, and that chain sends it to one of the N entries that `endpoints` holds for
/// the same destination. A service costs one verdict element and N data elements: no chain, no rule, no map.
public enum ServiceTable {
    public static let name = TableName(.inet, "fairlead-services")

    static func frontends(_ family: AddressFamily) -> String { "frontends\(family.digit)" }
    static func endpoints(_ family: AddressFamily) -> String { "endpoints\(family.digit)" }
    static func clusterIPs(_ family: AddressFamily) -> String { "cluster-ips\(family.digit)" }
    static func external(_ family: AddressFamily) -> String { "external\(family.digit)" }
    static func hairpin(_ family: AddressFamily) -> String { "hairpin\(family.digit)" }

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
            table.sets[clusterIPs(family)] = NamedSet(.init(key: [.address(family)]))
            table.sets[hairpin(family)] = NamedSet(.init(key: [.address(family), .address(family)]))
        }
        table.chains[refuse] = Chain(comment: "no endpoint, or no such port", [Rule(.reject)])
        for (name, chain) in nodeChains(on: node) { table.chains[name] = chain }
        return table
    }

    /// The chains whose rules name the node's or the cluster's networks; made anew when those change.
    public static func nodeChains(on node: NodeContext) -> [String: Chain] {
        let translation = translationRules(on: node)
        return [
            "prerouting": Chain(hook: Hook(.nat, .prerouting, priority: -100), translation),
            "output": Chain(hook: Hook(.nat, .output, priority: -100), translation),
            "postrouting": Chain(hook: Hook(.nat, .postrouting, priority: 100), masqueradeRules(on: node)),
        ]
    }

    private static func translationRules(on node: NodeContext) -> [Rule] {
        AddressFamily.allCases.map { family in
            Rule(.dispatch(destination(family), map: frontends(family)))
        }
            + AddressFamily.allCases.map { family in
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
            [
                Rule(
                    translated, .lookup([.source(family), .destination(family)], set: hairpin(family)), .masquerade,
                    comment: "a pod that reached itself through a service")
            ]
                // nft 1.0.6 reads a port of the conntrack tuple back only behind the protocol's name.
                + TransportProtocol.allCases.map { transport in
                    Rule(
                        translated, .match(.transportProtocol, .transport(transport)),
                        .lookup(
                            [.originalDestination(family), .transportProtocol, .originalDestinationPort],
                            set: external(family)),
                        .masquerade, comment: "from outside: the answer must come back through this node")
                }
                + node.podCIDRs.filter { $0.family == family }.prefix(1).map { cidr in
                    Rule(
                        translated, .lookup([.originalDestination(family)], set: clusterIPs(family)),
                        .match(.source(family), .prefix(cidr), negated: true), .masquerade,
                        comment: "to a cluster IP, not from a pod of this node")
                }
        }
    }

    private static func destination(_ family: AddressFamily) -> [Field] {
        [.destination(family), .transportProtocol, .destinationPort]
    }

    /// The chain shared by all frontends with this many endpoints.
    static func pick(_ count: Int) -> (name: String, chain: Chain) {
        let rules = AddressFamily.allCases.map { family in
            Rule(
                .destinationNAT(
                    family, destination(family) + [.random(below: UInt32(count))], map: endpoints(family)))
        }
        return ("pick-\(count)", Chain(rules))
    }
}

extension AddressFamily {
    fileprivate var digit: Int { self == .ipv4 ? 4 : 6 }
}
