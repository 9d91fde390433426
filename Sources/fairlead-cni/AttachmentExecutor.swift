import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import SystemPackage

/// Carries out an attachment over two sockets, one on the host and one in the pod.
///
/// What fails within `attempt` takes everything back that was done before it, last first, and the failure is its own:
/// what went wrong on the way back is only added to it.
struct AttachmentExecutor: ~Copyable {
    let host: RouteSocket
    let pod: PodNamespace
    /// Asked before each step, with what is about to be done; a test fails the step by throwing.
    private let interruption: Interruption
    private var undos: [Undo] = []
    /// The numbers of the links that steps named: a handful, which is found sooner than it is hashed.
    private var indices: [(place: Place, index: Int32)] = []

    private enum Undo {
        case step(Step.Undo)
        case other(() throws(CNIError) -> Void)
    }

    typealias Interruption = @Sendable (String) throws(CNIError) -> Void

    /// Opens both sides; the calling thread is on the host.
    static func open(namespacePath: String, interruption: @escaping Interruption) throws(CNIError) -> AttachmentExecutor
    {
        let pod = try PodNamespace.open(namespacePath)
        let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
        return AttachmentExecutor(host: host, pod: pod, interruption: interruption)
    }

    private init(host: consuming RouteSocket, pod: consuming PodNamespace, interruption: @escaping Interruption) {
        self.host = host
        self.pod = pod
        self.interruption = interruption
    }

    /// Fails where the pod has an interface of this name already, before anything is done about it.
    func requireFree(_ interface: InterfaceName, peer: InterfaceName) throws(CNIError) {
        guard try kernel({ () throws(KernelError) in try pod.socket.link(named: interface) }) == nil else {
            throw CNIError(
                .internal, "container veth name (\"\(interface)\") peer provided (\"\(peer)\") already exists")
        }
    }

    /// Takes over the number of a host's link that was looked up already.
    mutating func note(_ link: Link) { indices.append((.host(link.name), link.index)) }

    /// What the default route leads through; nil where there is none.
    func underlay() throws(CNIError) -> Underlay? {
        // Addresses for documentation, on no network: only a default route leads to them.
        for (text, family) in [("192.0.2.1", AddressFamily.ipv4), ("2001:db8::1", .ipv6)] {
            guard let address = IPAddress(text) else { continue }
            let link = try kernel { () throws(KernelError) -> Link? in
                let decision = try host.decide(to: address)
                return decision.kind == .unicast ? try host.link(index: decision.link) : nil
            }
            if let link { return Underlay(mtu: link.mtu, family: family) }
        }
        return nil
    }

    /// Runs `body`; where it fails, all that was done in it is taken back.
    mutating func attempt<Result>(
        _ body: (inout AttachmentExecutor) throws(CNIError) -> Result
    ) throws(CNIError) -> Result {
        do throws(CNIError) { return try body(&self) } catch { throw takingBack(after: error) }
    }

    /// Carries out the steps in order.
    mutating func run(_ steps: [Step]) throws(CNIError) {
        for step in steps {
            try interruption(step.description)
            try perform(step)
            if let undo = step.undo { undos.append(.step(undo)) }
        }
    }

    /// Carries out something other than a step, and how it is taken back.
    ///
    /// - Parameter isWhole: Whether `body` has done nothing where it fails. Otherwise it is taken back then as well: the
    ///   kernel may have done it and only the answer was lost.
    @discardableResult
    mutating func run<Result>(
        _ name: String, isWhole: Bool = false, _ body: () throws(CNIError) -> Result,
        undo: @escaping () throws(CNIError) -> Void
    ) throws(CNIError) -> Result {
        try interruption(name)
        if !isWhole { undos.append(.other(undo)) }
        let result = try body()
        if isWhole { undos.append(.other(undo)) }
        return result
    }

    /// Goes over to `name`, which changes nothing.
    func pass(_ name: String) throws(CNIError) { try interruption(name) }

    /// Takes back all that was done, last first; gives `error` with what could not be taken back.
    private mutating func takingBack(after error: CNIError) -> CNIError {
        var error = error
        while let undo = undos.popLast() {
            do throws(CNIError) {
                switch undo {
                case .step(let undo): try perform(undo)
                case .other(let undo): try undo()
                }
            } catch let failure {
                error.details += (error.details.isEmpty ? "" : "; ") + "and not taken back: \(failure.message)"
            }
        }
        return error
    }

    // MARK: - Single steps

    private mutating func index(of place: Place) throws(CNIError) -> Int32 {
        if let known = indices.last(where: { $0.place == place }) { return known.index }
        guard let link = try link(at: place) else { throw CNIError(.internal, "interface \(place) not found") }
        indices.append((place, link.index))
        return link.index
    }

    private func link(at place: Place) throws(CNIError) -> Link? {
        try kernel { () throws(KernelError) in
            switch place.side {
            case .host: try host.link(named: place.interface)
            case .pod: try pod.socket.link(named: place.interface)
            }
        }
    }

    /// Runs `body` with the socket of a place's side and the number of its interface.
    private mutating func at(
        _ place: Place, _ body: (borrowing RouteSocket, Int32) throws(KernelError) -> Void
    ) throws(CNIError) {
        let index = try index(of: place)
        try kernel { () throws(KernelError) in
            switch place.side {
            case .host: try body(host, index)
            case .pod: try body(pod.socket, index)
            }
        }
    }

    private mutating func perform(_ step: Step) throws(CNIError) {
        switch step {
        case .makeBridge(let name, let mac, let mtu):
            let bridge = NewLink(name, mac: mac, mtu: mtu)
            do throws(KernelError) { try host.addBridge(bridge) } catch {
                takeForDone(step, after: error)
                throw CNIError("failed to create bridge \"\(name)\"", error)
            }
        case .setUp(let place):
            try at(place) { socket, index throws(KernelError) in try socket.change(link: index, LinkChange(isUp: true))
            }
        case .pinMAC(let place):
            guard let link = try link(at: place) else { throw CNIError(.internal, "interface \(place) not found") }
            try at(place) { socket, index throws(KernelError) in
                try socket.change(link: index, LinkChange(mac: link.mac))
            }
        case .setPromiscuous(let place):
            try at(place) { socket, index throws(KernelError) in
                try socket.change(link: index, LinkChange(isPromiscuous: true))
            }
        case .makeVeth(let hostEnd, let podEnd, let bridge):
            var port: Int32?
            if let bridge { port = try index(of: .host(bridge)) }
            do throws(KernelError) { try makeVeth(hostEnd, podEnd, bridge: port) } catch {
                takeForDone(step, after: error)
                throw CNIError("failed to make veth pair", error)
            }
        case .setPort(let port, let hairpin, let isolated):
            try at(.host(port)) { socket, index throws(KernelError) in
                try socket.setBridgePort(link: index, hairpin: hairpin, isolated: isolated)
            }
        case .filterVLANs(let bridge):
            try filterVLANs(on: bridge)
        case .setVLANs(let port, let vlans):
            try at(.host(port)) { socket, index throws(KernelError) in try socket.setVLANs(of: index, vlans) }
        case .makePortal(let interface, let port, let bridge):
            try makePortal(interface, port, bridge: bridge)
        case .label(let place, let text):
            try at(place) { socket, index throws(KernelError) in
                try socket.change(link: index, LinkChange(alias: text))
            }
        case .set(let setting, let side):
            try set(setting, on: side)
        case .addAddress(let prefix, let place, let prefixRoute, let askingFirst):
            let index = try index(of: place)
            do throws(KernelError) {
                let address = InterfaceAddress(prefix, link: index)
                switch place.side {
                case .host: try host.add(address, prefixRoute: prefixRoute, askingFirst: askingFirst)
                case .pod: try pod.socket.add(address, prefixRoute: prefixRoute, askingFirst: askingFirst)
                }
            } catch {
                takeForDone(step, after: error)
                throw CNIError(error)
            }
        case .removeAddress(let prefix, let place):
            try at(place) { socket, index throws(KernelError) in
                try socket.remove(InterfaceAddress(prefix, link: index))
            }
        case .addRoute(let route, let place):
            // A pod on several networks may have a default route by each, as with the reference plugins.
            try at(place) { socket, index throws(KernelError) in
                try socket.add(route.route(on: index), besideOthers: place.side == .pod)
            }
        case .setNeighbor(let address, let mac, let place):
            try at(place) { socket, index throws(KernelError) in
                try socket.replace(Neighbor(address, mac: mac, link: index))
            }
        case .forgetNeighbor(let address, let place):
            try at(place) { socket, index throws(KernelError) in
                try socket.remove(Neighbor(address, mac: nil, link: index))
            }
        case .awaitRunning(let place):
            try wait(for: step) { () throws(CNIError) in try link(at: place)?.isRunning == true }
        case .awaitDelivery(let address, let side):
            try wait(for: step) { () throws(CNIError) in
                let isTakenIn = try kernel { () throws(KernelError) in
                    switch side {
                    case .host: try host.decide(to: address).kind == .local
                    case .pod: try pod.socket.decide(to: address).kind == .local
                    }
                }
                if !isTakenIn, side == .pod { try requireUnclaimed(address) }
                return isTakenIn
            }
        }
    }

    /// Fails where somebody else has answered for the address, which then never serves.
    private func requireUnclaimed(_ address: IPAddress) throws(CNIError) {
        let duplicates = try kernel { () throws(KernelError) in try pod.socket.duplicates() }
        guard let duplicate = duplicates.first(where: { $0.prefix.address == address }) else { return }
        throw CNIError(
            .internal, "the pod has address \(duplicate.prefix) in DADFAILED state",
            details: "somebody else on its network has the address, and enabledad is true")
    }

    /// Asks until it is so. Mostly it is at the first time; a busy machine takes some milliseconds, and one that makes
    /// and removes a hundred interfaces at the same time takes seconds.
    private func wait(for step: Step, _ condition: () throws(CNIError) -> Bool) throws(CNIError) {
        let deadline = ContinuousClock.now + .seconds(10)
        while try !condition() {
            guard ContinuousClock.now < deadline else {
                throw CNIError(.tryAgainLater, "\(step): not within 10 seconds")
            }
            usleep(200)
        }
    }

    private mutating func makeVeth(_ hostEnd: VethEnd, _ podEnd: VethEnd, bridge: Int32?) throws(KernelError) {
        let end = NewLink(hostEnd.name, mac: hostEnd.mac, mtu: hostEnd.mtu, isUp: true, bridge: bridge)
        let peer = NewLink(podEnd.name, mac: podEnd.mac, mtu: podEnd.mtu)
        // Where the kernel does not say, they are looked up when a step names them.
        guard let made = try host.addVeth(end, peer: peer, in: pod.namespace) else { return }
        indices.append((.host(hostEnd.name), made.index))
        if let peer = made.peerIndex { indices.append((.pod(podEnd.name), peer)) }
    }

    /// Has a step taken back that failed: the kernel may have done it and only the answer was lost.
    ///
    /// Not where it says that there is such a thing already, which then is another's.
    private mutating func takeForDone(_ step: Step, after error: KernelError) {
        if error.errno != .fileExists, let undo = step.undo { undos.append(.step(undo)) }
    }

    private mutating func makePortal(
        _ interface: VethEnd, _ port: VethEnd, bridge: InterfaceName
    ) throws(CNIError) {
        let index = try index(of: .host(bridge))
        let end = NewLink(port.name, mac: port.mac, mtu: port.mtu, isUp: true, bridge: index)
        let peer = NewLink(interface.name, mac: interface.mac, mtu: interface.mtu)
        do throws(KernelError) { try host.addVeth(end, peer: peer) } catch {
            takeForDone(.makePortal(interface, port: port, bridge: bridge), after: error)
            throw CNIError("failed to create vlan interface \"\(interface.name)\"", error)
        }
    }

    private mutating func filterVLANs(on bridge: InterfaceName) throws(CNIError) {
        let index = try index(of: .host(bridge))
        do throws(KernelError) { try host.filterVLANs(on: index) } catch where error.errno == .notSupportedOnSocket {
            throw CNIError(
                .unsupportedField,
                "vlan, vlanTrunk: the kernel cannot keep VLANs apart on bridge \(bridge); use a bridge for each VLAN",
                details: "it was built without CONFIG_BRIDGE_VLAN_FILTERING: \(error)")
        } catch {
            throw CNIError(error)
        }
    }

    private func set(_ setting: Setting, on side: Place.Side) throws(CNIError) {
        do throws(KernelError) {
            switch side {
            case .host: try apply(setting)
            case .pod: try pod.namespace.withEntered { () throws(KernelError) in try apply(setting) }
            }
        } catch where !setting.isRequired {
            // Better with than without, but a kernel that lacks it, or a /proc that is read-only, is no obstacle.
        } catch {
            throw CNIError(error)
        }
    }

    private func perform(_ undo: Step.Undo) throws(CNIError) {
        switch undo {
        case .removeLink(let name):
            _ = try removeLink(name, from: host)
        case .removeBridge(let name):
            let links = try kernel { () throws(KernelError) in try host.links() }
            guard let bridge = links.first(where: { $0.name == name }),
                !links.contains(where: { $0.bridge == bridge.index })
            else { return }
            try kernel { () throws(KernelError) in try host.deleteLink(index: bridge.index) }
        case .addAddress(let prefix, let place):
            guard let link = try link(at: place) else { return }
            try kernel { () throws(KernelError) in try host.add(InterfaceAddress(prefix, link: link.index)) }
        case .removeAddress(let prefix, let place):
            guard let link = try link(at: place) else { return }
            try kernel { () throws(KernelError) in try host.remove(InterfaceAddress(prefix, link: link.index)) }
        }
    }
}

/// Gives a setting of the calling thread's namespace its value.
///
/// A required one is read first: it is mostly right already, and writing it takes the lock that every change of an
/// interface needs, or is not allowed at all.
private func apply(_ setting: Setting) throws(KernelError) {
    if setting.isRequired, try KernelSetting.read(setting.path) == setting.value { return }
    try KernelSetting.write(setting.path, setting.value)
}
