internal import KernelInterface
internal import KubernetesObjects
internal import NetworkAddresses
internal import OverlayRoutes
internal import RouteNetlink
internal import SystemPackage

/// Keeps the VXLAN device and the entries for the other nodes equal to the cluster's Node objects.
///
/// Every pass reads the kernel, compares and repairs: it makes no difference whether an entry is missing because a
/// node is new, because somebody deleted it, or because this agent was not running. Only what is marked as ours is
/// ever removed: routes by their origin, the device's entries by the Ethernet addresses that only tunnels of ours have.
struct OverlayDataplane: ~Copyable {
    private let nodeName: String
    private let configuration: OverlayConfiguration
    private let socket: RouteSocket
    private let device: OverlayDevice
    /// Where settings are made: the actor's thread may be in another namespace.
    private let home: NetworkNamespace
    private var nodes: [String: Node] = [:]
    private(set) var notes: [Note] = []
    private(set) var state: OverlayState

    /// Opens what is needed in the calling thread's network namespace.
    static func open(
        nodeName: String, configuration: OverlayConfiguration
    ) throws(KernelError) -> OverlayDataplane {
        OverlayDataplane(
            nodeName: nodeName, configuration: configuration, socket: try RouteSocket.open(),
            device: OverlayDevice(configuration: configuration, features: try LinkFeatures.open()),
            home: try NetworkNamespace.current())
    }

    private init(
        nodeName: String, configuration: OverlayConfiguration, socket: consuming RouteSocket,
        device: consuming OverlayDevice, home: consuming NetworkNamespace
    ) {
        self.nodeName = nodeName
        self.configuration = configuration
        self.socket = socket
        self.device = device
        self.home = home
        state = OverlayState(mode: configuration.mode, isReady: false, reason: "not looked at yet")
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
        do throws(KernelError) {
            return try pass()
        } catch {
            state.isReady = false
            state.reason = "\(error)"
            throw error
        }
    }

    private mutating func pass() throws(KernelError) -> Int {
        let found = try findUnderlay()
        let plan = overlayPlan(
            nodes: nodes.values, on: nodeName, underlay: found?.underlay, configuration: configuration)
        notes = plan.notes
        guard plan.isDecided else {
            state.isReady = false
            state.reason = plan.notes.first?.message ?? ""
            return 0
        }
        var repairs = Repairs()
        try makeRouter(plan, found?.link.name, &repairs)
        var link: Link?
        if let wanted = plan.device {
            link = try device.reconcile(wanted, over: socket, &repairs)
            try home.withEntered { () throws(KernelError) in try device.applySettings(&repairs) }
        } else {
            try device.remove(over: socket, &repairs)
        }
        try socket.reconcile(plan.entries(on: link?.index), on: link?.index, &repairs)
        notes += repairs.notes
        state = OverlayState(
            mode: configuration.mode, isReady: !plan.podCIDRs.isEmpty,
            reason: plan.podCIDRs.isEmpty ? "node \(nodeName) has no spec.podCIDRs yet" : "", podMTU: plan.podMTU,
            podCIDRs: plan.podCIDRs)
        // The device stands and whatever else could be made is made; the rest is tried again.
        if let failure = repairs.failures.first { throw failure }
        return repairs.changes
    }

    // MARK: - The way to the other nodes

    /// The first of the node's addresses that this machine has, and the interface it is on.
    private func findUnderlay() throws(KernelError) -> (underlay: Underlay, link: Link)? {
        guard configuration.mode != .none, let own = nodes[nodeName] else { return nil }
        let addresses = try socket.addresses()
        for candidate in own.internalIPs {
            guard let found = addresses.first(where: { $0.prefix.address == candidate }),
                let link = try socket.link(index: found.link)
            else { continue }
            let underlay = Underlay(
                address: candidate, mtu: try mtu(of: link, towards: candidate.family), neighbors: try neighbors())
            return (underlay, link)
        }
        return nil
    }

    /// The MTU on the way to other nodes.
    ///
    /// A node that tells its address to routers has it on no network card, and the way is that to another node.
    private func mtu(of link: Link, towards family: AddressFamily) throws(KernelError) -> Int {
        guard link.kind == .loopback || link.kind == .other("dummy") else { return link.mtu }
        for node in nodes.values where node.name != nodeName {
            guard let address = node.internalIP(of: family) else { continue }
            let way = try socket.decide(to: address)
            if way.kind == .unicast, let card = try socket.link(index: way.link) { return card.mtu }
        }
        return min(link.mtu, 1500)
    }

    /// The other nodes that are reached without a gateway.
    private func neighbors() throws(KernelError) -> [IPAddress: Int32] {
        var neighbors: [IPAddress: Int32] = [:]
        guard configuration.mode.usesDirectRoutes else { return neighbors }
        for node in nodes.values where node.name != nodeName {
            for address in node.internalIPs {
                let way = try socket.decide(to: address)
                // A default route without a gateway leads to the whole world, and not to a link shared with it.
                guard way.kind == .unicast, way.gateway == nil, let length = way.matched?.length, length > 0 else {
                    continue
                }
                neighbors[address] = way.link
            }
        }
        return neighbors
    }

    // MARK: - Settings

    /// Makes the node a router. A router that sends packets back where they came from, as for a pod that reaches itself
    /// through a service, must not tell the pod of a shorter way: there is none, and the kernel counts its redirects
    /// against the same limit as the refusals of services.
    private func makeRouter(
        _ plan: OverlayPlan, _ underlay: InterfaceName?, _ repairs: inout Repairs
    ) throws(KernelError) {
        var settings = [
            (["net", "ipv4", "ip_forward"], "1"),
            (["net", "ipv4", "conf", "all", "send_redirects"], "0"),
            // For the interfaces of pods to come: the kernel sends redirects where either setting says so.
            (["net", "ipv4", "conf", "default", "send_redirects"], "0"),
        ]
        if let underlay { settings.append((["net", "ipv4", "conf", underlay.description, "send_redirects"], "0")) }
        let hasIPv6 = plan.podCIDRs.contains { $0.family == .ipv6 }
        if hasIPv6 { settings.append((["net", "ipv6", "conf", "all", "forwarding"], "1")) }
        try home.withEntered { () throws(KernelError) in
            // First: a router learns nothing from advertisements, and would lose a default route it has from one.
            if hasIPv6, let underlay {
                let acceptance = ["net", "ipv6", "conf", underlay.description, "accept_ra"]
                if try KernelSetting.read(acceptance) == "1" {
                    repairs.attempt { () throws(KernelError) in try KernelSetting.write(acceptance, "2") }
                }
            }
            for (path, wanted) in settings {
                // Absent where a family is compiled out or switched off.
                guard let value = try KernelSetting.read(path), value != wanted else { continue }
                repairs.attempt { () throws(KernelError) in try KernelSetting.write(path, wanted) }
            }
        }
    }
}

/// Edits that are made one by one: one that the kernel refuses keeps no other from being made.
struct Repairs {
    private(set) var changes = 0
    private(set) var failures: [KernelError] = []
    /// What is in the way, and stays as it is.
    var notes: [Note] = []

    mutating func attempt(_ edit: () throws(KernelError) -> Void) {
        do throws(KernelError) {
            try edit()
            made()
        } catch {
            failures.append(error)
        }
    }

    mutating func made() { changes += 1 }
    mutating func failed(_ error: KernelError) { failures.append(error) }
}
