internal import KernelInterface
internal import KubernetesObjects
internal import NetworkAddresses
internal import OverlayRoutes
internal import RouteNetlink
internal import SystemPackage

/// Keeps the VXLAN device and the entries for the other nodes equal to the cluster's Node objects.
///
/// Every pass reads the kernel, compares and repairs: it makes no difference whether an entry is missing because a
/// node is new, because somebody deleted it, or because this agent was not running. Only what is marked as ours, or
/// hangs on our device, is ever removed.
struct OverlayDataplane: ~Copyable {
    private let nodeName: String
    private let configuration: OverlayConfiguration
    private let socket: RouteSocket
    private var nodes: [String: Node] = [:]
    private(set) var notes: [Note] = []

    init(nodeName: String, configuration: OverlayConfiguration) throws(KernelError) {
        self.nodeName = nodeName
        self.configuration = configuration
        socket = try RouteSocket.open()
    }

    /// Takes in an event; true when it was about a node.
    mutating func apply(_ event: ObjectEvent) -> Bool {
        switch event {
        case .set(.node(let node)): nodes[node.name] = node
        case .removed(let reference) where reference.kind == .node: nodes[reference.name] = nil
        default: return false
        }
        return true
    }

    /// One pass of reading, comparing and repairing.
    ///
    /// - Returns: how many things were changed.
    mutating func reconcile() throws(KernelError) -> Int {
        guard configuration.mode != .none else { return 0 }
        let underlay = try findUnderlay()
        let plan = overlayPlan(nodes: nodes.values, on: nodeName, underlay: underlay, configuration: configuration)
        notes = plan.notes
        var changes = try makeRouter()
        if let device = plan.device, let underlay {
            let link = try reconcileDevice(device, underlay: underlay.link, &changes)
            try reconcileEntries(plan.entries(on: link), on: link, &changes)
        } else {
            if let leftover = try ownDevice() {
                try socket.deleteLink(index: leftover.index)
                changes += 1
            }
            if let underlay { try reconcileRoutes(plan.entries(on: underlay.link).routes, on: underlay.link, &changes) }
        }
        return changes
    }

    /// The first of the node's addresses that this machine has, and the interface it is on.
    private func findUnderlay() throws(KernelError) -> Underlay? {
        guard let own = nodes[nodeName] else { return nil }
        let addresses = try socket.addresses()
        for candidate in own.internalIPs {
            guard let found = addresses.first(where: { $0.prefix.address == candidate }),
                let link = try socket.link(index: found.link)
            else { continue }
            return Underlay(link: link.index, mtu: link.mtu, address: candidate)
        }
        return nil
    }

    /// Makes the node a router. A router that sends packets back where they came from, as for a pod that reaches itself
    /// through a service, must not tell the pod of a shorter way: there is none, and the kernel counts its redirects
    /// against the same limit as the refusals of services.
    private func makeRouter() throws(KernelError) -> Int {
        var settings = [
            (["net", "ipv4", "ip_forward"], "1"),
            (["net", "ipv4", "conf", "all", "send_redirects"], "0"),
            // For the interfaces of pods to come: the kernel sends redirects where either setting says so.
            (["net", "ipv4", "conf", "default", "send_redirects"], "0"),
        ]
        // A router learns no route from router advertisements, so only a node with IPv6 pods becomes one.
        if nodes[nodeName]?.podCIDRs.contains(where: { $0.family == .ipv6 }) == true {
            settings.append((["net", "ipv6", "conf", "all", "forwarding"], "1"))
        }
        var changes = 0
        for (path, wanted) in settings {
            // Absent where a family is compiled out or switched off.
            guard let value = try KernelSetting.read(path), value != wanted else { continue }
            try KernelSetting.write(path, wanted)
            changes += 1
        }
        return changes
    }

    /// The VXLAN device of our name, if there is one.
    private func ownDevice() throws(KernelError) -> Link? {
        guard let link = try socket.link(named: configuration.device), case .vxlan = link.kind else { return nil }
        return link
    }

    /// - Returns: the device's index.
    private func reconcileDevice(
        _ device: OverlayPlan.Device, underlay: Int32, _ changes: inout Int
    ) throws(KernelError) -> Int32 {
        var existing = try socket.link(named: device.name)
        if let link = existing, link.kind != .vxlan(device.vxlan) {
            // What makes a VXLAN device cannot be edited.
            try socket.deleteLink(index: link.index)
            existing = nil
        }
        if existing == nil {
            try socket.addVXLAN(
                NewLink(device.name, mac: device.mac, mtu: device.mtu, isUp: true), device.vxlan,
                underlay: underlay)
            changes += 1
            existing = try socket.link(named: device.name)
        }
        guard let link = existing else {
            throw KernelError(operation: "find link \(device.name)", errno: .noSuchFileOrDirectory)
        }
        var change = LinkChange()
        if link.mac != device.mac { change.mac = device.mac }
        if link.mtu != device.mtu { change.mtu = device.mtu }
        if !link.isUp { change.isUp = true }
        if change != LinkChange() {
            try socket.change(link: link.index, change)
            changes += 1
        }
        let present = Set(try socket.addresses(of: link.index).map(\.prefix).filter { !isLinkLocal($0.address) })
        for address in present.subtracting(device.addresses) {
            try socket.remove(InterfaceAddress(address, link: link.index))
            changes += 1
        }
        for address in device.addresses.subtracting(present) {
            try socket.add(InterfaceAddress(address, link: link.index))
            changes += 1
        }
        return link.index
    }

    /// Entries are added inside out, so that a route never leads to an unknown neighbour, and removed outside in.
    private func reconcileEntries(
        _ desired: (routes: Set<Route>, neighbors: Set<Neighbor>, forwarding: Set<ForwardingEntry>), on link: Int32,
        _ changes: inout Int
    ) throws(KernelError) {
        let forwarding = Set(try socket.forwardingEntries(link: link))
        // What the kernel keeps of its own accord (multicast, link-local) is not permanent, and not ours.
        let neighbors = Set(try socket.neighbors(link: link).filter { $0.state == .permanent })
        for entry in desired.forwarding.subtracting(forwarding) {
            try socket.replace(entry)
            changes += 1
        }
        for neighbor in desired.neighbors.subtracting(neighbors) {
            try socket.replace(neighbor)
            changes += 1
        }
        try reconcileRoutes(desired.routes, on: link, &changes)
        let wanted = Set(desired.neighbors.map(\.address))
        for neighbor in neighbors where !wanted.contains(neighbor.address) {
            try socket.remove(neighbor)
            changes += 1
        }
        for entry in forwarding.subtracting(desired.forwarding) {
            try socket.remove(entry)
            changes += 1
        }
    }

    private func reconcileRoutes(
        _ desired: Set<Route>, on link: Int32, _ changes: inout Int
    ) throws(KernelError) {
        let present = Set(try socket.routes(origin: .fairlead).filter { $0.gateway != nil })
        for route in desired.subtracting(present) {
            try socket.replace(route)
            changes += 1
        }
        let destinations = Set(desired.map(\.destination))
        for route in present.subtracting(desired) where !destinations.contains(route.destination) || route.link != link {
            try socket.remove(route)
            changes += 1
        }
    }

    private func isLinkLocal(_ address: IPAddress) -> Bool {
        if case .v6(let address) = address { address.isLinkLocal } else { false }
    }
}
