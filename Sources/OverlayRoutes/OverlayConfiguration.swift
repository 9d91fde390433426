public import NetworkAddresses

/// How this node's pods reach those of other nodes.
public enum OverlayMode: String, Hashable, Sendable, CaseIterable {
    /// Through one VXLAN device; works over any network between the nodes.
    case vxlan
    /// By routes to the nodes themselves, which must share a link with this one.
    case direct
    /// By routes to the nodes that share a link with this one, and through the VXLAN device to all others.
    case crossSubnet = "cross-subnet"
    /// Somebody else's business: a cloud's route table, or there are no other nodes.
    case none

    /// Whether there is a VXLAN device.
    public var hasTunnel: Bool { self == .vxlan || self == .crossSubnet }

    /// Whether it matters which nodes share a link.
    public var usesDirectRoutes: Bool { self == .direct || self == .crossSubnet }
}

/// What people may choose about the overlay.
public struct OverlayConfiguration: Hashable, Sendable {
    public var mode: OverlayMode
    /// The VXLAN device's name.
    public var device: InterfaceName
    /// VXLAN network identifier, the same on all nodes.
    public var vni: UInt32
    /// UDP port of the tunnel, the same on all nodes. 8472 is the kernel's own choice, and flannel's.
    public var port: Port
    /// Whether the VXLAN device leaves transmit checksums to the hardware beneath; nil leaves it as it is.
    ///
    /// Some network cards and hypervisors get the inner checksum wrong, and every packet through the tunnel is lost.
    public var checksumOffload: Bool?

    public init(
        mode: OverlayMode = .vxlan, device: InterfaceName = InterfaceName("fairlead.1")!, vni: UInt32 = 1,
        port: Port = Port(8472)!, checksumOffload: Bool? = nil
    ) {
        self.mode = mode
        self.device = device
        self.vni = vni
        self.port = port
        self.checksumOffload = checksumOffload
    }
}

/// The way to the other nodes, as this machine sees it.
public struct Underlay: Hashable, Sendable {
    /// The node's own address, by which the others reach it.
    public var address: IPAddress
    /// Bytes of the largest packet to another node.
    public var mtu: Int
    /// The addresses of other nodes that share a link with this one, and the index of that link.
    public var neighbors: [IPAddress: Int32]

    public init(address: IPAddress, mtu: Int, neighbors: [IPAddress: Int32] = [:]) {
        self.address = address
        self.mtu = mtu
        self.neighbors = neighbors
    }
}

/// The Ethernet address of a node's tunnel end.
///
/// It follows from the node's name, so that nothing has to be published, and its first byte tells that it is one: the
/// entries that a former agent made are known by it.
public func tunnelAddress(of node: String) -> MACAddress {
    MACAddress(rawValue: tunnelMark << 40 | StableHash(node).value & 0xff_ffff_ffff)
}

extension MACAddress {
    /// Whether this is the address of a tunnel's end, as `tunnelAddress` makes them.
    public var isTunnelAddress: Bool { rawValue >> 40 == tunnelMark }
}

/// Locally administered, and for one receiver.
private let tunnelMark: UInt64 = 0xfa
