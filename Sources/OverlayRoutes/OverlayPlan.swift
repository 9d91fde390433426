public import KubernetesObjects
public import NetworkAddresses
public import RouteNetlink

/// How this node's pods reach those of other nodes.
public enum OverlayMode: String, Hashable, Sendable, CaseIterable {
    /// Through one VXLAN device; works over any network between the nodes.
    case vxlan
    /// By routes to the nodes themselves; the nodes share a link.
    case direct
    /// Somebody else's business.
    case none
}

public struct OverlayConfiguration: Hashable, Sendable {
    public var mode: OverlayMode
    /// The VXLAN device's name.
    public var device: InterfaceName
    /// VXLAN network identifier, the same on all nodes.
    public var vni: UInt32
    /// UDP port of the tunnel, the same on all nodes. 8472 is the kernel's own choice, and flannel's.
    public var port: Port

    public init(
        mode: OverlayMode = .vxlan, device: InterfaceName = InterfaceName("fairlead.1")!, vni: UInt32 = 1,
        port: Port = Port(8472)!
    ) {
        self.mode = mode
        self.device = device
        self.vni = vni
        self.port = port
    }
}

/// The interface that leads to the other nodes: the one that has this node's address.
public struct Underlay: Hashable, Sendable {
    public var link: Int32
    /// Bytes.
    public var mtu: Int
    public var address: IPAddress

    public init(link: Int32, mtu: Int, address: IPAddress) {
        self.link = link
        self.mtu = mtu
        self.address = address
    }
}

/// What the kernel should hold so that packets for other nodes' pods find their way.
public struct OverlayPlan: Hashable, Sendable {
    /// The VXLAN device; nil in the other modes.
    public struct Device: Hashable, Sendable {
        public var name: InterfaceName
        public var vxlan: VXLAN
        public var mac: MACAddress
        public var mtu: Int
        public var addresses: Set<IPPrefix>
    }

    /// One other node.
    public struct Peer: Hashable, Sendable {
        public var node: String
        public var address: IPAddress
        public var mac: MACAddress
        public var podCIDRs: [IPPrefix]
    }

    public var device: Device?
    public var peers: [Peer] = []
    public var notes: [Note] = []

    /// The entries for all peers, on the VXLAN device's link or, without one, on the underlay's.
    public func entries(on link: Int32) -> (routes: Set<Route>, neighbors: Set<Neighbor>, forwarding: Set<ForwardingEntry>) {
        var entries: (routes: Set<Route>, neighbors: Set<Neighbor>, forwarding: Set<ForwardingEntry>) = ([], [], [])
        for peer in peers {
            guard device != nil else {
                for cidr in peer.podCIDRs where cidr.family == peer.address.family {
                    entries.routes.insert(Route(to: cidr, via: peer.address, link: link, origin: .fairlead))
                }
                continue
            }
            entries.forwarding.insert(ForwardingEntry(peer.mac, to: peer.address, link: link))
            for cidr in peer.podCIDRs {
                entries.routes.insert(Route(to: cidr, via: cidr.first, link: link, onLink: true, origin: .fairlead))
                entries.neighbors.insert(Neighbor(cidr.first, mac: peer.mac, link: link))
            }
        }
        return entries
    }
}

/// Compiles the cluster's nodes into this node's overlay.
///
/// A peer needs nothing but its Node object: the Ethernet address of its tunnel end follows from its name, so nothing
/// is published and nothing can be stale.
public func overlayPlan(
    nodes: some Sequence<Node>, on nodeName: String, underlay: Underlay?, configuration: OverlayConfiguration
) -> OverlayPlan {
    var plan = OverlayPlan()
    let sorted = nodes.sorted { $0.name < $1.name }
    guard configuration.mode != .none, let own = sorted.first(where: { $0.name == nodeName }) else { return plan }
    guard let underlay else {
        plan.notes.append(
            Note(
                object: ObjectReference(kind: .node, namespace: nil, name: nodeName), field: "status.addresses",
                message: "none of the InternalIPs is an address of this machine, so other nodes' pods are unreachable"))
        return plan
    }
    let family = underlay.address.family
    if configuration.mode == .vxlan {
        // Outer Ethernet, IP, UDP and VXLAN headers.
        let overhead = family == .ipv4 ? 50 : 70
        plan.device = OverlayPlan.Device(
            name: configuration.device,
            vxlan: VXLAN(vni: configuration.vni, port: configuration.port, local: underlay.address),
            mac: tunnelAddress(of: nodeName), mtu: underlay.mtu - overhead,
            addresses: Set(own.podCIDRs.map(\.first.hostPrefix)))
    }
    for node in sorted where node.name != nodeName && !node.podCIDRs.isEmpty {
        let reference = ObjectReference(kind: .node, namespace: nil, name: node.name)
        guard let address = node.internalIPs.first(where: { $0.family == family }) else {
            plan.notes.append(
                Note(
                    object: reference, field: "status.addresses",
                    message: "has no \(family) InternalIP, and this node's is \(underlay.address)"))
            continue
        }
        for cidr in node.podCIDRs where configuration.mode == .direct && cidr.family != family {
            plan.notes.append(
                Note(
                    object: reference, field: "spec.podCIDRs",
                    message: "\(cidr) has no direct route, because the nodes share \(family) only; use mode vxlan"))
        }
        plan.peers.append(
            OverlayPlan.Peer(
                node: node.name, address: address, mac: tunnelAddress(of: node.name), podCIDRs: node.podCIDRs))
    }
    return plan
}

/// The Ethernet address of a node's tunnel end.
public func tunnelAddress(of node: String) -> MACAddress { MACAddress(locallyAdministered: StableHash(node).value) }
