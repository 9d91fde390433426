import Glibc
import KernelInterface
import KubernetesObjects
import Logging
import NetworkAddresses
import Reconciliation
import RouteNetlink
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
            server = try namespace.withEntered { () throws(KernelError) in
                try PodServer.open(podName: name, tcpPorts: [Port(8080)!], udpPorts: [Port(8080)!])
            }
            stop = try StopSignal.open()
            self.namespace = namespace
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
    private(set) var hosts: [String: Host] = [:]
    private var threads: [(Host, pthread_t)] = []
    private let agent: NodeReconciler

    static let podCIDR = IPPrefix("10.244.1.0/24")!
    static let nodeAddress = IPAddress("172.30.0.11")!

    /// - Parameter hosts: names and addresses; those in 10.244.1.0/24 are pods of this node.
    init(_ hosts: [(String, String)]) throws {
        let node = try NetworkNamespace.anonymous()
        let routes = try node.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "ip_forward"], "1")
            // As the agent's overlay part does: a redirect would use up what the kernel allows a client of ICMP.
            for scope in ["all", "default"] { try KernelSetting.write(["net", "ipv4", "conf", scope, "send_redirects"], "0") }
            return try RouteSocket.open()
        }
        try routes.change(link: 1, LinkChange(isUp: true))
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        agent = try node.withEntered { () throws(KernelError) in
            try NodeReconciler(.init(nodeName: "n1", components: [.services]), logger: logger)
        }
        self.node = node
        for (index, (name, text)) in hosts.enumerated() {
            let address = IPAddress(text)!
            let space = try NetworkNamespace.anonymous()
            let outside = InterfaceName("to-\(name)")!
            try routes.addVeth(NewLink(outside, isUp: true), peer: NewLink(InterfaceName("eth0")!), in: space)
            let inside = try space.withEntered { () throws(KernelError) in try RouteSocket.open() }
            let (eth0, veth) = (
                try #require(try inside.link(named: InterfaceName("eth0")!)), try #require(try routes.link(named: outside))
            )
            try inside.change(link: 1, LinkChange(isUp: true))
            try inside.add(InterfaceAddress(address.hostPrefix, link: eth0.index))
            try inside.change(link: eth0.index, LinkChange(isUp: true))
            try inside.replace(Neighbor(IPAddress("169.254.1.1")!, mac: veth.mac, link: eth0.index))
            try inside.add(Route(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("169.254.1.1"), link: eth0.index, onLink: true))
            try routes.add(Route(to: address.hostPrefix, link: veth.index))
            try routes.replace(Neighbor(address, mac: eth0.mac, link: veth.index))
            if index == 0 {
                try routes.add(InterfaceAddress(Self.nodeAddress.hostPrefix, link: veth.index))
                // A program that asks for a service's address needs a route to it before the rules see the packet.
                try routes.add(Route(to: IPPrefix("0.0.0.0/0")!, link: veth.index))
            }
            let host = try Host(name: name, address: address, namespace: space)
            self.hosts[name] = host
            threads.append((host, host.start()))
        }
    }

    deinit { for (host, thread) in threads { host.end(thread) } }

    /// Makes these the cluster's services, with the slices of their endpoints, and nothing else.
    func program(_ service: Service, endpoints: [String]) async throws {
        let slice = EndpointSlice(
            metadata: ObjectMetadata(
                name: service.key.name, namespace: service.key.namespace,
                labels: [EndpointSlice.serviceNameLabel: service.key.name]),
            family: .ipv4,
            endpoints: endpoints.map { name in
                let address = hosts[name]!.address
                return Endpoint(address: address, nodeName: Self.podCIDR.contains(address) ? "n1" : "n2")
            }, ports: service.ports.map { EndpointPort(name: $0.name, protocol: $0.protocol, number: Port(8080)!) })
        let own = Node(
            metadata: ObjectMetadata(name: "n1", namespace: ""), podCIDRs: [Self.podCIDR], internalIPs: [Self.nodeAddress])
        let report = await agent.apply([
            .objects([.set(.node(own)), .set(.service(service)), .set(.endpointSlice(slice)), .synced], notes: [], revision: "")
        ])
        try #require(report.isSynced, "\(report.errors)")
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

    /// Whether nobody answers, not even with a refusal.
    func isSilent(_ address: String, _ port: Int, from name: String? = nil) throws -> Bool {
        try ask(address, port, from: name, patience: .milliseconds(400)) == "timeout"
    }

    /// Everybody who answers in so many attempts.
    func answers(_ address: String, _ port: Int, from name: String? = nil, attempts: Int = 24) throws -> Set<String> {
        Set(try (0..<attempts).map { _ in try ask(address, port, from: name) })
    }
}
