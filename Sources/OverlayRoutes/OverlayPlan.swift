public import KubernetesObjects
public import NetworkAddresses
public import RouteNetlink

/// What the kernel should hold so that packets for other nodes' pods find their way.
public struct OverlayPlan: Hashable, Sendable {
    /// The VXLAN device.
    public struct Device: Hashable, Sendable {
        public var name: InterfaceName
        public var vxlan: VXLAN
        public var mac: MACAddress
        public var mtu: Int
        public var addresses: Set<IPPrefix>
    }

    /// Another node that is reached through the tunnel.
    public struct Peer: Hashable, Sendable {
        public var node: String
        public var address: IPAddress
        public var mac: MACAddress
        public var podCIDRs: [IPPrefix]
    }

    /// False where it cannot be told what there should be: whatever there is stays as it is.
    ///
    /// A node that has lost its address or its object for a moment is no reason to cut its pods off.
    public var isDecided = true
    /// Nil in the modes without a tunnel.
    public var device: Device?
    public var peers: [Peer] = []
    /// Routes to nodes that share a link with this one.
    public var directRoutes: Set<Route> = []
    /// Bytes of the largest packet that a pod may send; nil where that is not the overlay's business.
    public var podMTU: Int?
    /// The networks of this node's pods.
    public var podCIDRs: [IPPrefix] = []
    public var notes: [Note] = []

    /// All entries.
    ///
    /// - Parameter link: the index of the VXLAN device; nil without one.
    public func entries(on link: Int32?) -> OverlayEntries {
        var entries = OverlayEntries(routes: directRoutes)
        guard let link else { return entries }
        for peer in peers {
            entries.forwarding.insert(ForwardingEntry(peer.mac, to: peer.address, link: link))
            for cidr in peer.podCIDRs {
                // The kernel takes no IPv6 gateway that another route leads to by another link, as one to the pods of the
                // whole cluster may (`ip6_route_check_nh_onlink`). A link-local one, nothing else can lead to.
                let gateway = cidr.family == .ipv4 ? cidr.first : .v6(peer.mac.linkLocalAddress)
                entries.routes.insert(Route(to: cidr, via: gateway, link: link, onLink: true, origin: .fairlead))
                entries.neighbors.insert(Neighbor(gateway, mac: peer.mac, link: link))
            }
        }
        return entries
    }
}

/// What leads to other nodes' pods.
public struct OverlayEntries: Hashable, Sendable {
    public var routes: Set<Route> = []
    public var neighbors: Set<Neighbor> = []
    public var forwarding: Set<ForwardingEntry> = []

    public init(
        routes: Set<Route> = [], neighbors: Set<Neighbor> = [], forwarding: Set<ForwardingEntry> = []
    ) {
        self.routes = routes
        self.neighbors = neighbors
        self.forwarding = forwarding
    }
}

/// Compiles the cluster's nodes into this node's overlay.
///
/// A peer needs nothing but its Node object: the Ethernet address of its tunnel end follows from its name, so nothing
/// is published and nothing can be stale.
public func overlayPlan(
    nodes: some Sequence<Node>, on nodeName: String, underlay: Underlay?, configuration: OverlayConfiguration
) -> OverlayPlan {
    let sorted = nodes.sorted { $0.name < $1.name }
    guard let own = sorted.first(where: { $0.name == nodeName }) else {
        return undecided(Note(object: reference(nodeName), message: "there is no such node yet, and it is this one"))
    }
    var plan = OverlayPlan(podCIDRs: own.podCIDRs)
    if configuration.mode == .none { return plan }
    guard let underlay else {
        return undecided(
            Note(
                object: reference(nodeName), field: "status.addresses",
                message:
                    "none of the InternalIPs is an address of this machine, so nothing is done for other nodes' pods"
            ))
    }
    plan.podMTU = underlay.mtu
    if configuration.mode.hasTunnel {
        let mtu = underlay.mtu - tunnelOverhead(over: underlay.address.family)
        plan.podMTU = mtu
        plan.device = OverlayPlan.Device(
            name: configuration.device,
            vxlan: VXLAN(vni: configuration.vni, port: configuration.port, local: underlay.address),
            mac: tunnelAddress(of: nodeName), mtu: mtu, addresses: Set(own.podCIDRs.map(\.first.hostPrefix)))
        if mtu < 1280, own.podCIDRs.contains(where: { $0.family == .ipv6 }) {
            plan.notes.append(
                Note(
                    object: reference(nodeName),
                    message: "the tunnel carries packets of \(mtu) bytes, and IPv6 needs 1280: raise the MTU of the "
                        + "link with \(underlay.address) to \(1280 + underlay.mtu - mtu)"))
        }
    }
    var claims = NetworkClaims(of: sorted)
    for cidr in own.podCIDRs { claims.add(cidr, of: own.name) }
    for node in sorted where node.name != nodeName && !node.podCIDRs.isEmpty {
        var podCIDRs: [IPPrefix] = []
        for cidr in node.podCIDRs {
            if let objection = claims.objection(to: cidr) {
                plan.notes.append(
                    Note(object: reference(node.name), field: "spec.podCIDRs", message: "\(cidr) \(objection)"))
            } else {
                claims.add(cidr, of: node.name)
                podCIDRs.append(cidr)
            }
        }
        plan.add(node, podCIDRs, underlay: underlay, mode: configuration.mode)
    }
    return plan
}

private func undecided(_ note: Note) -> OverlayPlan {
    var plan = OverlayPlan(notes: [note])
    plan.isDecided = false
    return plan
}

extension OverlayPlan {
    fileprivate mutating func add(_ node: Node, _ podCIDRs: [IPPrefix], underlay: Underlay, mode: OverlayMode) {
        var tunnelled = podCIDRs
        if mode.usesDirectRoutes {
            tunnelled = []
            for cidr in podCIDRs {
                // An IPv4 network may lie behind an IPv6 neighbour (RFC 5549); not the other way round.
                let families: [AddressFamily] = cidr.family == .ipv4 ? [.ipv4, .ipv6] : [.ipv6]
                let hop = families.flatMap { family in node.internalIPs.filter { $0.family == family } }
                    .first { underlay.neighbors[$0] != nil }
                if let hop, let link = underlay.neighbors[hop] {
                    directRoutes.insert(Route(to: cidr, via: hop, link: link, origin: .fairlead))
                } else if mode == .direct {
                    notes.append(
                        Note(
                            object: reference(node.name), field: "status.addresses",
                            message: "\(cidr) has no direct route, because no \(cidr.family) InternalIP shares a link "
                                + "with this node; use mode cross-subnet or vxlan"))
                } else {
                    tunnelled.append(cidr)
                }
            }
        }
        guard !tunnelled.isEmpty else { return }
        let family = underlay.address.family
        guard let address = node.internalIP(of: family) else {
            notes.append(
                Note(
                    object: reference(node.name), field: "status.addresses",
                    message: "has no \(family) InternalIP, and this node's is \(underlay.address)"))
            return
        }
        guard address != underlay.address else {
            notes.append(
                Note(
                    object: reference(node.name), field: "status.addresses",
                    message: "has this node's own address \(address)"))
            return
        }
        peers.append(Peer(node: node.name, address: address, mac: tunnelAddress(of: node.name), podCIDRs: tunnelled))
    }
}

/// The bytes that VXLAN adds to a packet: inner Ethernet 14, VXLAN 8, UDP 8, and the outer header.
private func tunnelOverhead(over family: AddressFamily) -> Int { 14 + 8 + 8 + (family == .ipv4 ? 20 : 40) }

private func reference(_ node: String) -> ObjectReference { ObjectReference(kind: .node, namespace: nil, name: node) }
