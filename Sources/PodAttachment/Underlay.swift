internal import CNIProtocol
public import NetworkAddresses

/// How packets between nodes travel, as far as it takes bytes of them.
public enum Overlay: String, Hashable, Sendable {
    /// Routes to the other nodes, or no other nodes: packets travel as they are.
    case direct
    /// Ethernet in VXLAN in UDP.
    case vxlan

    /// The bytes that the tunnel adds: inner Ethernet 14, VXLAN 8, UDP 8 and the outer header of the underlay's family.
    func overhead(over family: AddressFamily) -> Int {
        switch self {
        case .direct: 0
        case .vxlan: 14 + 8 + 8 + (family == .ipv4 ? 20 : 40)
        }
    }
}

/// The interface that a node's default route leads through.
public struct Underlay: Hashable, Sendable {
    public var mtu: Int
    /// The family of the default route; IPv4 where both have one, as nodes reach each other by IPv4 then.
    public var family: AddressFamily

    public init(mtu: Int, family: AddressFamily) {
        self.mtu = mtu
        self.family = family
    }

    /// The MTU that pods get when nobody says otherwise: what the underlay carries less what the overlay takes.
    ///
    /// A node without a default route is taken for one on Ethernet.
    public static func podMTU(_ underlay: Underlay?, overlay: Overlay) -> Int {
        let underlay = underlay ?? Underlay(mtu: 1500, family: .ipv4)
        // The kernel's least for IPv6; an underlay that has less carries no IPv6 anyway.
        return max(underlay.mtu - overlay.overhead(over: underlay.family), 1280)
    }
}

/// Reads the key `mtu`, where 0 is the same as absent.
func configuredMTU(_ reader: ConfigurationReader) throws(CNIError) -> Int? {
    guard let mtu = try reader.integer("mtu"), mtu != 0 else { return nil }
    guard (68...65_535).contains(mtu) else { throw reader.fault("mtu", "\(mtu) is not within 68…65535") }
    return mtu
}
