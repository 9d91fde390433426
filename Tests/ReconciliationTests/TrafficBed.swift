import Glibc
import KernelInterface
import KubernetesObjects
import Logging
import NetworkAddresses
import Reconciliation
import RouteNetlink
import ServiceRules
import Testing

/// A node in the middle of hosts: pods of its own, pods elsewhere, and clients outside, each a namespace on a veth.
///
/// Every host listens on TCP and UDP 8080 and answers with its name, a UDP answer also with whom it saw.
final class TrafficBed {
    final class Host: Sendable {
        let name: String
        let address: IPAddress
        let namespace: NetworkNamespace
        private let server: PodServer
        private let stop: StopSignal

        init(name: String, address: IPAddress, namespace: consuming NetworkNamespace) throws {
            self.name = name
            self.address = address
            server = try namespace.withEntered { () throws(KernelError) in try Self.open(name, port: 8080) }
            stop = try StopSignal.open()
            self.namespace = namespace
        }

        /// One more server in a namespace that is there already.
        init(
            name: String, address: IPAddress, port: Int = 8080,
            serving entered: (() throws(KernelError) -> PodServer) throws -> PodServer
        ) throws {
            self.name = name
            self.address = address
            server = try entered { () throws(KernelError) in try Self.open(name, port: port) }
            stop = try StopSignal.open()
            namespace = try NetworkNamespace.anonymous()
        }

        private static func open(_ name: String, port: Int) throws(KernelError) -> PodServer {
            try PodServer.open(podName: name, tcpPorts: [Port(port)!], udpPorts: [Port(port)!])
        }

        func start() -> pthread_t {
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { context in
                    let host = Unmanaged<Host>.fromOpaque(context!).takeRetainedValue()
                    host.server.serve(until: host.stop)
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            return thread
        }

        func end(_ thread: pthread_t) {
            stop.send()
            pthread_join(thread, nil)
        }
    }

    let node: NetworkNamespace
    let routes: RouteSocket
    private(set) var hosts: [String: Host] = [:]
    private var threads: [(Host, pthread_t)] = []
    private let settings: ServiceSettings
    /// What the node speaks.
    private let families: Set<AddressFamily>
    private var agent: NodeReconciler?
    /// The node's object, as the agent is told of it.
    var own = Node(
        metadata: ObjectMetadata(name: "n1", namespace: ""),
        podCIDRs: [TrafficBed.podCIDR, IPPrefix("fd00:10:244:1::/64")!],
        internalIPs: [TrafficBed.nodeAddress, TrafficBed.sixth(TrafficBed.nodeAddress)])

    static let podCIDR = IPPrefix("10.244.1.0/24")!
    static let nodeAddress = IPAddress("172.30.0.11")!

    /// The IPv6 address of whoever has this IPv4 address: fd00:10:244:1::2 beside 10.244.1.2.
    static func sixth(_ address: IPAddress) -> IPAddress {
        let parts = address.description.split(separator: ".")
        return IPAddress("fd00:\(parts[0]):\(parts[1]):\(parts[2])::\(parts[3])")!
    }

    /// - Parameter hosts: names and addresses; those in 10.244.1.0/24 are pods of this node.
    /// - Parameter hasIPv6: Whether the node has it; its hosts all do.
    init(_ hosts: [(String, String)], settings: ServiceSettings = ServiceSettings(), hasIPv6: Bool = true) throws {
        let node = try Self.namespace()
        families = hasIPv6 ? [.ipv4, .ipv6] : [.ipv4]
        routes = try node.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "ip_forward"], "1")
            try KernelSetting.write(["net", "ipv6", "conf", "all", "forwarding"], "1")
            // As the agent's overlay part does: a redirect would use up what the kernel allows a client of ICMP.
            for scope in ["all", "default"] {
                try KernelSetting.write(["net", "ipv4", "conf", scope, "send_redirects"], "0")
                if !hasIPv6 { try KernelSetting.write(["net", "ipv6", "conf", scope, "disable_ipv6"], "1") }
            }
            return try RouteSocket.open()
        }
        try routes.change(link: 1, LinkChange(isUp: true))
        self.node = node
        self.settings = settings
        try restart()
        for (index, (name, text)) in hosts.enumerated() { try add(name, at: IPAddress(text)!, isFirst: index == 0) }
    }

    /// Tells the agent what happened.
    func apply(_ events: [ObjectEvent]) async -> SyncReport {
        await agent!.apply([.objects(events, notes: [], revision: "")])
    }

    deinit { for (host, thread) in threads { host.end(thread) } }

    /// A namespace in which new IPv6 addresses can be used at once.
    private static func namespace() throws -> NetworkNamespace {
        let space = try NetworkNamespace.anonymous()
        try space.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv6", "conf", "default", "accept_dad"], "0")
        }
        return space
    }

    private func add(_ name: String, at address: IPAddress, isFirst: Bool) throws {
        let space = try Self.namespace()
        let outside = InterfaceName("to-\(name)")!
        try routes.addVeth(NewLink(outside, isUp: true), peer: NewLink(InterfaceName("eth0")!), in: space)
        let inside = try space.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let (eth0, veth) = (
            try #require(try inside.link(named: InterfaceName("eth0")!)), try #require(try routes.link(named: outside))
        )
        try inside.change(link: 1, LinkChange(isUp: true))
        try inside.change(link: eth0.index, LinkChange(isUp: true))
        for (address, gateway, all) in [
            (address, "169.254.1.1", "0.0.0.0/0"), (Self.sixth(address), "fe80::1", "::/0"),
        ] {
            try inside.add(InterfaceAddress(address.hostPrefix, link: eth0.index))
            try inside.replace(Neighbor(IPAddress(gateway)!, mac: veth.mac, link: eth0.index))
            try inside.add(Route(to: IPPrefix(all)!, via: IPAddress(gateway), link: eth0.index, onLink: true))
            guard families.contains(address.family) else { continue }
            try routes.add(Route(to: address.hostPrefix, link: veth.index))
            try routes.replace(Neighbor(address, mac: eth0.mac, link: veth.index))
            guard isFirst else { continue }
            let own = address.family == .ipv4 ? Self.nodeAddress : Self.sixth(Self.nodeAddress)
            try routes.add(InterfaceAddress(own.hostPrefix, link: veth.index))
            // A program that asks for a service's address needs a route to it before the rules see the packet.
            try routes.add(Route(to: IPPrefix(all)!, link: veth.index))
        }
        try Self.settle(inside, at: address)
        while try routes.link(named: outside)?.isRunning != true { usleep(1000) }
        let host = try Host(name: name, address: address, namespace: space)
        self.hosts[name] = host
        threads.append((host, host.start()))
    }

    /// Ends the agent, as a kill would.
    func stop() { agent = nil }

    /// Ends the agent, and starts one that knows nothing.
    func restart() throws {
        stop()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        agent = try node.withEntered { () throws(KernelError) in
            try NodeReconciler(.init(nodeName: "n1", components: [.services], services: settings), logger: logger)
        }
    }

    /// Gives a node another address.
    func addNodeAddress(_ address: String) throws {
        try routes.add(InterfaceAddress(IPAddress(address)!.hostPrefix, link: 1))
    }

    /// Waits until a host's kernel sends packets and takes in those to its addresses: it does neither at once, and on a
    /// busy machine not for a while.
    private static func settle(_ inside: borrowing RouteSocket, at address: IPAddress) throws {
        while try inside.link(named: InterfaceName("eth0")!)?.isRunning != true
            || [address, sixth(address)].contains(where: { try inside.decide(to: $0).kind != .local })
        {
            usleep(1000)
        }
    }

    /// Makes the node's way to a host a narrow one.
    func narrow(_ name: String, to mtu: Int?) throws {
        let address = hosts[name]!.address
        let veth = try #require(try routes.link(named: InterfaceName("to-\(name)")!))
        for address in [address, Self.sixth(address)] {
            try routes.replace(Route(to: address.hostPrefix, link: veth.index, mtu: mtu))
        }
    }

    /// Puts a host behind another one, whose way to it is a narrow one.
    func add(_ name: String, at address: IPAddress, behind router: String, mtu: Int) throws {
        let space = try Self.namespace()
        let middle = hosts[router]!
        let outside = try middle.namespace.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "ip_forward"], "1")
            try KernelSetting.write(["net", "ipv6", "conf", "all", "forwarding"], "1")
            return try RouteSocket.open()
        }
        try outside.addVeth(
            NewLink(InterfaceName("behind")!, isUp: true), peer: NewLink(InterfaceName("eth0")!), in: space)
        let inside = try space.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let (eth0, behind, front) = (
            try #require(try inside.link(named: InterfaceName("eth0")!)),
            try #require(try outside.link(named: InterfaceName("behind")!)),
            try #require(try routes.link(named: InterfaceName("to-\(router)")!))
        )
        try inside.change(link: eth0.index, LinkChange(isUp: true))
        for (address, all, gateway, middle) in [
            (address, "0.0.0.0/0", "169.254.1.1", middle.address),
            (Self.sixth(address), "::/0", "fe80::1", Self.sixth(middle.address)),
        ] {
            try inside.add(InterfaceAddress(address.hostPrefix, link: eth0.index))
            try inside.replace(Neighbor(IPAddress(gateway)!, mac: behind.mac, link: eth0.index))
            try inside.add(Route(to: IPPrefix(all)!, via: IPAddress(gateway), link: eth0.index, onLink: true))
            try outside.add(Route(to: address.hostPrefix, link: behind.index, mtu: mtu))
            try outside.replace(Neighbor(address, mac: eth0.mac, link: behind.index))
            try routes.add(Route(to: address.hostPrefix, via: middle, link: front.index, onLink: true))
        }
        try Self.settle(inside, at: address)
        while try outside.link(named: InterfaceName("behind")!)?.isRunning != true { usleep(1000) }
        let host = try Host(name: name, address: address, namespace: space)
        hosts[name] = host
        threads.append((host, host.start()))
    }

    /// Gives a host another address, to which the node knows the way.
    func add(_ text: String, to name: String) throws {
        let address = IPAddress(text)!
        let inside = try hosts[name]!.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let (eth0, veth) = (
            try #require(try inside.link(named: InterfaceName("eth0")!)),
            try #require(try routes.link(named: InterfaceName("to-\(name)")!))
        )
        try inside.add(InterfaceAddress(address.hostPrefix, link: eth0.index))
        try routes.replace(Neighbor(address, mac: eth0.mac, link: veth.index))
    }

    /// An endpoint at a host.
    func endpoint(
        _ name: String, _ family: AddressFamily = .ipv4, _ adjust: (inout Endpoint) -> Void = { _ in }
    ) -> Endpoint {
        let address = hosts[name]!.address
        var endpoint = Endpoint(
            address: family == .ipv4 ? address : Self.sixth(address),
            nodeName: Self.podCIDR.contains(address) ? "n1" : "n2")
        adjust(&endpoint)
        return endpoint
    }

    /// A slice of a service's endpoints, whose ports are all 8080.
    func slice(
        of service: Service, _ endpoints: [Endpoint], _ family: AddressFamily = .ipv4, number: Int = 1
    ) -> EndpointSlice {
        EndpointSlice(
            metadata: ObjectMetadata(
                name: "\(service.key.name)-\(number)", namespace: service.key.namespace,
                labels: [EndpointSlice.serviceNameLabel: service.key.name]),
            family: family, endpoints: endpoints,
            ports: service.ports.map { EndpointPort(name: $0.name, protocol: $0.protocol, number: Port(8080)!) })
    }

    /// Tells the agent of the node and of these.
    @discardableResult
    func apply(_ objects: KubernetesObject..., removing removed: [ObjectReference] = []) async throws -> SyncReport {
        let events = objects.map(ObjectEvent.set) + removed.map(ObjectEvent.removed) + [.set(.node(own)), .synced]
        let report = await agent!.apply([.kernelChanged, .addressesChanged, .objects(events, notes: [], revision: "")])
        try #require(report.isSynced, "\(report.errors)")
        return report
    }

    /// Gives the service these hosts as its endpoints.
    @discardableResult
    func program(_ service: Service, endpoints: [String]) async throws -> SyncReport {
        try await apply(.service(service), .endpointSlice(slice(of: service, endpoints.map { endpoint($0) })))
    }

    /// The node's rules as nft prints them, which it has read back elsewhere.
    func listingReadBack() throws -> String {
        func nft(_ namespace: borrowing NetworkNamespace, _ arguments: [String], _ input: String = "") throws -> String {
            let result = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", arguments, input: Array(input.utf8), timeout: .seconds(60))
            }
            try #require(result.status == .exited(0), "\(result.errorText)")
            return result.text
        }
        // Elements that rules wrote carry their remaining time, and the table its owner: neither is to be read back.
        let listing = try nft(node, ["-s", "list", "ruleset"]).split(separator: "\n")
            .filter { !$0.contains("flags owner") }.joined(separator: "\n")
        #expect(!listing.contains("invalid type"))
        let other = try NetworkNamespace.anonymous()
        _ = try nft(other, ["-f", "-"], listing)
        return listing
    }

    /// Who answered, `refused`, or `timeout`; from a host, or from the node itself.
    ///
    /// Silence is only believed after `patience`: long where an answer is expected, for the machine may be busy.
    func ask(
        _ address: String, _ port: Int, from name: String? = nil, udp: Bool = false, patience: Duration = .seconds(5)
    ) throws -> String {
        let target = SocketAddress(IPAddress(address)!, Port(port)!)
        func probe() throws(KernelError) -> Probe.Outcome {
            udp ? try Probe.udp(to: target, timeout: patience, send: "x")
                : try Probe.tcp(to: target, timeout: patience, send: "x\n")
        }
        let outcome =
            if let name { try hosts[name]!.namespace.withEntered(probe) } else { try node.withEntered(probe) }
        switch outcome {
        case .reply(let text): return text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        case .refused: return "refused"
        case .timeout: return "timeout"
        default: return "\(outcome)"
        }
    }

    /// Whom an endpoint that speaks UDP saw.
    func source(seenFrom name: String? = nil, to address: String, _ port: Int) throws -> String {
        let answer = try ask(address, port, from: name, udp: true)
        guard let space = answer.lastIndex(of: " "), let colon = answer.lastIndex(of: ":") else { return answer }
        return String(answer[answer.index(after: space)..<colon])
    }

    /// Whether nobody answers, not even with a refusal.
    func isSilent(_ address: String, _ port: Int, from name: String? = nil) throws -> Bool {
        try ask(address, port, from: name, patience: .milliseconds(400)) == "timeout"
    }

    /// Everybody who answers in so many attempts.
    func answers(_ address: String, _ port: Int, from name: String? = nil, attempts: Int = 24) throws -> Set<String> {
        Set(try (0..<attempts).map { _ in try ask(address, port, from: name) })
    }
}
