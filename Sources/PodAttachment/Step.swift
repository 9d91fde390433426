public import NetworkAddresses
public import RouteNetlink

/// An interface on one of the two sides of an attachment.
public struct Place: Hashable, Sendable, CustomStringConvertible {
    public enum Side: Hashable, Sendable { case host, pod }

    public var side: Side
    public var interface: InterfaceName

    public static func host(_ interface: InterfaceName) -> Place { Place(side: .host, interface: interface) }
    public static func pod(_ interface: InterfaceName) -> Place { Place(side: .pod, interface: interface) }

    public var description: String { side == .host ? "\(interface)" : "the pod's \(interface)" }
}

/// One end of a pair of virtual Ethernet devices.
public struct VethEnd: Hashable, Sendable {
    public var name: InterfaceName
    public var mac: MACAddress
    public var mtu: Int

    public init(name: InterfaceName, mac: MACAddress, mtu: Int) {
        self.name = name
        self.mac = mac
        self.mtu = mtu
    }
}

/// One change on the way to an attachment.
///
/// Interfaces are named, not numbered: the numbers exist only once the kernel has made them.
public enum Step: Hashable, Sendable {
    case makeBridge(InterfaceName, mac: MACAddress, mtu: Int?)
    case setUp(Place)
    /// Fixes the Ethernet address that the interface has: a bridge takes its lowest port's otherwise, and changes it
    /// with every pod.
    case pinMAC(Place)
    case setPromiscuous(Place)
    /// Both ends in one request, the host's end up and a port of `bridge`, the pod's end down.
    case makeVeth(host: VethEnd, pod: VethEnd, bridge: InterfaceName?)
    case setPort(InterfaceName, hairpin: Bool, isolated: Bool)
    /// Makes a bridge keep its ports' VLANs apart.
    case filterVLANs(InterfaceName)
    case setVLANs(InterfaceName, PortVLANs)
    /// A veth with both ends on the host: a port of `bridge`, and an interface of the node behind it.
    case makePortal(VethEnd, port: VethEnd, bridge: InterfaceName)
    /// Says whose the interface is: for people, and for GC (`ip link` shows it as `alias`).
    case label(Place, String)
    case set(Setting, Place.Side)
    /// Without the prefix route, the address's network is not on the link. An IPv6 address that is asked for first
    /// serves once nobody has claimed it.
    case addAddress(IPPrefix, Place, prefixRoute: Bool = true, askingFirst: Bool = false)
    case removeAddress(IPPrefix, Place)
    case addRoute(PlannedRoute, Place)
    /// What the address's last owner left in the neighbour table goes.
    case forgetNeighbor(IPAddress, Place)
    case setNeighbor(IPAddress, MACAddress, Place)
    /// Waits until packets pass an interface: the kernel starts its queue only after the other end has come up.
    case awaitRunning(Place)
    /// Waits until packets to an IPv6 address are taken in: the kernel adds its route only after the address.
    case awaitDelivery(IPAddress, Place.Side)

    /// What takes the change back; nil where it goes with something else that is taken back, or is the node's to keep.
    public var undo: Undo? {
        switch self {
        case .makeBridge(let name, _, _): .removeBridge(name)
        case .makeVeth(let host, _, _): .removeLink(host.name)
        case .makePortal(let interface, _, _): .removeLink(interface.name)
        // What an interface of the pod has goes with the interface, and what the host's end of the veth has as well;
        // only a bridge outlives the attachment.
        case .addAddress(let prefix, let place, _, _): place.side == .host ? .removeAddress(prefix, place) : nil
        case .removeAddress(let prefix, let place): .addAddress(prefix, place)
        // Forwarding, and a bridge that is up, are how a node with pods is; and a bridge that other ports have VLANs on
        // must go on filtering them.
        case .setUp, .pinMAC, .setPromiscuous, .setPort, .filterVLANs, .setVLANs, .label, .set, .addRoute,
            .forgetNeighbor, .setNeighbor:
            nil
        case .awaitRunning, .awaitDelivery: nil
        }
    }

    public enum Undo: Hashable, Sendable {
        case removeLink(InterfaceName)
        /// Only where it has no port: others may have come to use it.
        case removeBridge(InterfaceName)
        case removeAddress(IPPrefix, Place)
        case addAddress(IPPrefix, Place)
    }
}

/// A kernel setting and the value it must have.
public struct Setting: Hashable, Sendable, CustomStringConvertible {
    /// The components of the path under `/proc/sys`.
    public var path: [String]
    public var value: String
    /// Whether the attachment cannot work without.
    public var isRequired: Bool

    public init(_ path: [String], _ value: String, isRequired: Bool = false) {
        self.path = path
        self.value = value
        self.isRequired = isRequired
    }

    /// A setting of one interface.
    static func of(
        _ interface: InterfaceName, _ family: AddressFamily, _ name: String, _ value: String, isRequired: Bool = false
    ) -> Setting {
        let folder = family == .ipv4 ? "ipv4" : "ipv6"
        return Setting(["net", folder, "conf", interface.description, name], value, isRequired: isRequired)
    }

    /// Forwarding between the interfaces of a node.
    static func forwarding(_ family: AddressFamily) -> Setting {
        switch family {
        case .ipv4: Setting(["net", "ipv4", "ip_forward"], "1", isRequired: true)
        case .ipv6: Setting(["net", "ipv6", "conf", "all", "forwarding"], "1", isRequired: true)
        }
    }

    public var description: String { "\(path.joined(separator: "/")) = \(value)" }
}

/// A route that an attachment needs, on an interface still to come.
public struct PlannedRoute: Hashable, Sendable, CustomStringConvertible {
    public var destination: IPPrefix
    public var gateway: IPAddress?
    public var onLink: Bool
    /// The source address that programs get.
    public var source: IPAddress?
    public var origin: RouteOrigin
    public var mtu: Int?
    public var traits: RouteTraits

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, onLink: Bool = false, source: IPAddress? = nil,
        origin: RouteOrigin, mtu: Int? = nil, traits: RouteTraits = RouteTraits()
    ) {
        self.source = source
        self.destination = destination
        self.gateway = gateway
        self.onLink = onLink
        self.origin = origin
        self.mtu = mtu
        self.traits = traits
    }

    public var description: String {
        "\(destination)" + (gateway.map { " via \($0)" } ?? "") + (onLink ? " onlink" : "")
            + (traits.table.map { " in table \($0)" } ?? "")
    }

    /// The route on the interface of this number.
    public func route(on link: Int32) -> Route {
        Route(
            to: destination, via: gateway, link: link, onLink: onLink, preferredSource: source, origin: origin,
            mtu: mtu, traits: traits)
    }
}

extension Step: CustomStringConvertible {
    public var description: String {
        switch self {
        case .makeBridge(let name, _, _): "make bridge \(name)"
        case .setUp(let place): "set \(place) up"
        case .pinMAC(let place): "pin the Ethernet address of \(place)"
        case .setPromiscuous(let place): "set \(place) promiscuous"
        case .makeVeth(let host, let pod, let bridge):
            "make veth \(host.name) to the pod's \(pod.name)" + (bridge.map { " on bridge \($0)" } ?? "")
        case .setPort(let port, let hairpin, let isolated):
            "set port \(port)" + (hairpin ? " hairpin" : "") + (isolated ? " isolated" : "")
        case .filterVLANs(let bridge): "filter VLANs on bridge \(bridge)"
        case .setVLANs(let port, let vlans): "set port \(port)'s \(vlans)"
        case .makePortal(let interface, let port, let bridge):
            "make veth \(interface.name) to port \(port.name) of bridge \(bridge)"
        case .label(let place, let text): "label \(place) \(text)"
        case .set(let setting, let side): "set \(setting)" + (side == .host ? "" : " in the pod")
        case .addAddress(let prefix, let place, _, _): "add address \(prefix) to \(place)"
        case .removeAddress(let prefix, let place): "remove address \(prefix) from \(place)"
        case .addRoute(let route, let place): "add route \(route) on \(place)"
        case .forgetNeighbor(let address, let place): "forget neighbour \(address) on \(place)"
        case .setNeighbor(let address, let mac, let place): "set neighbour \(address) \(mac) on \(place)"
        case .awaitRunning(let place): "wait for \(place) to run"
        case .awaitDelivery(let address, let side):
            "wait for the \(side == .host ? "host" : "pod") to take in packets to \(address)"
        }
    }
}
