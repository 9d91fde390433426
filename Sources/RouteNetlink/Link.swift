public import NetworkAddresses

/// A network interface as the kernel describes it (`RTM_NEWLINK`).
public struct Link: Hashable, Sendable {
    /// The kernel's number for the interface in its namespace; unique only there.
    public var index: Int32
    public var name: InterfaceName
    public var kind: Kind
    public var mac: MACAddress?
    /// Bytes of the largest packet.
    public var mtu: Int
    /// Whether an administrator has set the interface up (`IFF_UP`).
    public var isUp: Bool
    /// Whether the kernel sees a carrier (`IFF_LOWER_UP`).
    public var hasCarrier: Bool
    /// Whether packets pass (`IFF_RUNNING`): shortly after the carrier has come, not at the same time.
    public var isRunning: Bool
    /// The bridge this interface is a port of.
    public var bridge: Int32?
    /// The index of the interface beneath, or of a veth's other end (`IFLA_LINK`).
    public var peerIndex: Int32?
    /// The kernel's number, in this namespace, for the namespace in which `peerIndex` counts (`IFLA_LINK_NETNSID`).
    public var peerNamespaceID: Int32?
    /// What an administrator or a program has noted about the interface (`IFLA_IFALIAS`).
    public var alias: String?

    public enum Kind: Hashable, Sendable {
        case loopback
        case veth
        case bridge
        case vxlan(VXLAN)
        /// Any other kind, by the kernel's name for it; empty for hardware.
        case other(String)
    }

    public init(
        index: Int32, name: InterfaceName, kind: Kind, mac: MACAddress? = nil, mtu: Int = 1500, isUp: Bool = true,
        hasCarrier: Bool = true, isRunning: Bool = true, bridge: Int32? = nil, peerIndex: Int32? = nil,
        peerNamespaceID: Int32? = nil, alias: String? = nil
    ) {
        self.index = index
        self.name = name
        self.kind = kind
        self.mac = mac
        self.mtu = mtu
        self.isUp = isUp
        self.hasCarrier = hasCarrier
        self.isRunning = isRunning
        self.bridge = bridge
        self.peerIndex = peerIndex
        self.peerNamespaceID = peerNamespaceID
        self.alias = alias
    }
}

/// What makes a VXLAN device what it is (`IFLA_VXLAN_*`); it cannot be changed once the device exists.
public struct VXLAN: Hashable, Sendable {
    /// 0…16777215.
    public var vni: UInt32
    /// UDP port of the tunnel.
    public var port: Port
    /// The source address of the tunnel's packets.
    public var local: IPAddress?
    /// Whether the device learns forwarding entries from traffic. Ours are told, never learned.
    public var learning: Bool

    public init(vni: UInt32, port: Port, local: IPAddress?, learning: Bool = false) {
        self.vni = vni
        self.port = port
        self.local = local
        self.learning = learning
    }
}
