public import NetworkAddresses
public import Nftables

/// The table `inet fairlead-masquerade`: pods whose connections leave under the node's address.
///
/// A pod's address is one element. It leads to the chain of the network that the pod is on, for what stays within that
/// network keeps the pod's address.
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

    /// What a pod's addresses add to the table, each with the length of the network it is on.
    public static func contribution(of addresses: [IPPrefix], for tag: AttachmentTag) -> Contribution {
        var contribution = Contribution()
        for address in addresses {
            let family = address.family
            let chain = "outside-\(address.network.chainText)"
            contribution.chains[chain] = Chain([
                Rule(.match(.destination(family), .prefix(address.network)), .return),
                Rule(.match(.destination(family), .prefix(multicast(family))), .return),
                Rule(.masquerade),
            ])
            let element = Element(
                ElementKey(.address(address.address)), .verdict(.jump(chain)), comment: tag.description)
            contribution.members.append(.init(element, in: sources(family)))
        }
        return contribution
    }

    private static func multicast(_ family: AddressFamily) -> IPPrefix {
        guard let prefix = IPPrefix(family == .ipv4 ? "224.0.0.0/4" : "ff00::/8") else {
            preconditionFailure("both are prefixes")
        }
        return prefix
    }
}
