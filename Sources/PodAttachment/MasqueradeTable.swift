public import NetworkAddresses
public import Nftables

/// The table `inet fairlead-masquerade`: pods whose connections leave under the node's address.
///
/// A pod's address is one element. It leads to the chain of the networks within which the pod keeps its address: the
/// one that it is on, or all that know the way back to it.
public enum MasqueradeTable {
    public static let name = TableName(.inet, "fairlead-masquerade")

    static func sources(_ family: AddressFamily) -> String { "sources\(family.digit)" }

    /// The table without any pod.
    public static let frame: Ruleset = {
        var table = Ruleset(name)
        for family in AddressFamily.allCases {
            table.sets[sources(family)] = NamedSet(.init(key: [.address(family)], data: .verdict))
        }
        table.chains["postrouting"] = Chain(
            hook: Hook(.nat, .postrouting, priority: 100),
            AddressFamily.allCases.map { Rule(.dispatch([.source($0)], map: sources($0))) })
        return table
    }()

    /// An address of a pod, and the networks in which it is known as what it is.
    public struct Source: Hashable, Sendable {
        public var address: IPAddress
        /// Of the address's family; at least one.
        public var inside: [IPPrefix]

        public init(_ address: IPAddress, inside: [IPPrefix]) {
            self.address = address
            self.inside = inside
        }

        /// An address that is known on its own network only.
        public init(_ prefix: IPPrefix) { self.init(prefix.address, inside: [prefix.network]) }
    }

    /// What a pod's addresses add to the table.
    public static func contribution(of sources: [Source], for tag: AttachmentTag) -> Contribution {
        var contribution = Contribution()
        for source in sources {
            let family = source.address.family
            let chain = chainName(of: source.inside)
            contribution.chains[chain] = Chain(
                (source.inside + [multicast(family)]).map { Rule(.match(.destination(family), .prefix($0)), .return) }
                    + [Rule(.masquerade)])
            let element = Element(
                ElementKey(.address(source.address)), .verdict(.jump(chain)), comment: tag.description)
            contribution.members.append(.init(element, in: self.sources(family)))
        }
        return contribution
    }

    /// The networks themselves as far as a name can hold them, so that equal names mean equal rules.
    private static func chainName(of networks: [IPPrefix]) -> String {
        let text = networks.map(\.chainText).joined(separator: "-")
        return "outside-" + (text.utf8.count <= 100 ? text : String(StableHash(text).value, radix: 16))
    }

    private static func multicast(_ family: AddressFamily) -> IPPrefix {
        guard let prefix = IPPrefix(family == .ipv4 ? "224.0.0.0/4" : "ff00::/8") else {
            preconditionFailure("both are prefixes")
        }
        return prefix
    }
}
