public import NetworkAddresses
public import Nftables

/// The table `bridge fairlead-spoofcheck`: ports of bridges that take in packets of one Ethernet address only.
///
/// A port is two elements: that it is checked, and what it may send as.
public enum SpoofCheckTable {
    public static let name = TableName(.bridge, "fairlead-spoofcheck")

    private static let ports = "ports"
    private static let addresses = "addresses"

    /// The table without any port.
    public static let frame: Ruleset = {
        var table = Ruleset(name)
        table.sets[ports] = NamedSet(.init(key: [.interfaceName]))
        table.sets[addresses] = NamedSet(.init(key: [.interfaceName, .ethernetAddress]))
        // Before everything else that looks at a bridge's packets, as in the reference plugin.
        table.chains["prerouting"] = Chain(
            hook: Hook(.filter, .prerouting, priority: -300),
            [
                Rule(
                    .lookup([.inputInterfaceName], set: ports),
                    .lookup([.inputInterfaceName, .sourceEthernetAddress], set: addresses, negated: true), .drop,
                    comment: "not the pod's Ethernet address")
            ])
        return table
    }()

    /// What an attachment's port adds to the table.
    public static func contribution(of port: InterfaceName, mac: MACAddress, for tag: AttachmentTag) -> Contribution {
        let comment = tag.description
        return Contribution(members: [
            .init(Element(ElementKey(.interface(port)), comment: comment), in: ports),
            .init(Element(ElementKey(.interface(port), .ethernet(mac)), comment: comment), in: addresses),
        ])
    }
}
