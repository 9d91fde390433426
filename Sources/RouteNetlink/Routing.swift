public import NetworkAddresses

/// An address of an interface (`RTM_NEWADDR`).
public struct InterfaceAddress: Hashable, Sendable {
    public var prefix: IPPrefix
    public var link: Int32

    public init(_ prefix: IPPrefix, link: Int32) {
        self.prefix = prefix
        self.link = link
    }
}

/// A route (`RTM_NEWROUTE`), mostly of the main table.
public struct Route: Hashable, Sendable {
    public var destination: IPPrefix
    /// The next hop; nil where the destination is on the link itself.
    public var gateway: IPAddress?
    public var link: Int32
    /// Whether the gateway is reachable on the link although no address of the link says so (`RTNH_F_ONLINK`).
    public var onLink: Bool
    /// The source address that local programs get (`RTA_PREFSRC`).
    public var preferredSource: IPAddress?
    /// Who installed the route; what is not ours is never removed.
    public var origin: RouteOrigin
    /// Bytes, or nil for the link's MTU (`RTAX_MTU`).
    public var mtu: Int?
    /// What most routes leave to the kernel.
    public var traits: RouteTraits

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, link: Int32, onLink: Bool = false,
        preferredSource: IPAddress? = nil, origin: RouteOrigin = .administrator, mtu: Int? = nil,
        traits: RouteTraits = RouteTraits()
    ) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.onLink = onLink
        self.preferredSource = preferredSource
        self.origin = origin
        self.mtu = mtu
        self.traits = traits
    }
}

/// What a route says beyond where it leads; nil stands for what the kernel takes when nothing is said, also in a route
/// that was read from it.
public struct RouteTraits: Hashable, Sendable {
    /// Lower is preferred (`RTA_PRIORITY`); what is not said is 0 for IPv4 and 1024 for IPv6.
    public var priority: UInt32?
    /// The segment size that TCP announces, in bytes (`RTAX_ADVMSS`).
    public var advertisedSegmentSize: UInt32?
    /// The routing table, where it is not the main one (`RTA_TABLE`).
    public var table: UInt32?
    /// How far away the destination is (`rtm_scope`); what is not said follows from whether there is a gateway. IPv6
    /// has none.
    public var scope: UInt8?

    public init(
        priority: UInt32? = nil, advertisedSegmentSize: UInt32? = nil, table: UInt32? = nil, scope: UInt8? = nil
    ) {
        self.priority = priority
        self.advertisedSegmentSize = advertisedSegmentSize
        self.table = table
        self.scope = scope
    }
}

/// A route's protocol number (`rtm_protocol`, `/etc/iproute2/rt_protos`).
public struct RouteOrigin: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// `RTPROT_KERNEL`: a side effect of an address.
    public static let kernel = RouteOrigin(rawValue: 2)
    /// `RTPROT_BOOT`: what `ip route add` writes.
    public static let administrator = RouteOrigin(rawValue: 3)
    /// Ours: overlay and pod routes. 70…79 are free in iproute2's and in the well known daemons' lists.
    public static let fairlead = RouteOrigin(rawValue: 76)
}

/// An entry of the neighbour table: an address and the Ethernet address behind it (`RTM_NEWNEIGH`).
public struct Neighbor: Hashable, Sendable {
    public var address: IPAddress
    public var mac: MACAddress?
    public var link: Int32
    public var state: State

    public enum State: Hashable, Sendable {
        /// Set by an administrator and never asked about (`NUD_PERMANENT`).
        case permanent
        /// Confirmed, or recently so (`NUD_REACHABLE`, `NUD_STALE`, `NUD_DELAY`, `NUD_PROBE`).
        case learned
        /// Being asked for (`NUD_INCOMPLETE`).
        case incomplete
        /// Asked for in vain (`NUD_FAILED`).
        case failed
        /// Needs no neighbour: loopback, multicast (`NUD_NOARP`, `NUD_NONE`).
        case none
    }

    public init(_ address: IPAddress, mac: MACAddress?, link: Int32, state: State = .permanent) {
        self.address = address
        self.mac = mac
        self.link = link
        self.state = state
    }
}

/// A forwarding entry of a VXLAN device: packets for this Ethernet address go to that node
/// (`RTM_NEWNEIGH` of family `AF_BRIDGE` with `NTF_SELF`).
public struct ForwardingEntry: Hashable, Sendable {
    public var mac: MACAddress
    public var remote: IPAddress
    public var link: Int32

    public init(_ mac: MACAddress, to remote: IPAddress, link: Int32) {
        self.mac = mac
        self.remote = remote
        self.link = link
    }
}

/// What the kernel answers when asked where a packet would go (`RTM_GETROUTE`).
public struct RouteDecision: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// Sent to `gateway`, or to the destination itself on `link`.
        case unicast
        /// Delivered on this node.
        case local
        /// Given up, by the named route type: blackhole, unreachable, prohibit …
        case refused(String)
    }

    public var kind: Kind
    public var link: Int32
    public var gateway: IPAddress?
    /// The source the kernel would choose.
    public var source: IPAddress?
    /// The prefix of the route that matched (`RTM_F_FIB_MATCH`).
    public var matched: IPPrefix?

    public init(kind: Kind, link: Int32, gateway: IPAddress?, source: IPAddress?, matched: IPPrefix?) {
        self.kind = kind
        self.link = link
        self.gateway = gateway
        self.source = source
        self.matched = matched
    }
}
