import KernelInterface
import KubernetesObjects
import NetlinkWire
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Testing

private let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

private func service(_ transport: TransportProtocol = .tcp, _ adjust: (inout Service) -> Void = { _ in }) -> Service {
    var service = Service(
        metadata: ObjectMetadata(name: "web", namespace: "shop"), type: .nodePort, clusterIPs: [IPAddress("10.96.0.10")!],
        ports: [ServicePort(name: "http", protocol: transport, number: Port(80)!, nodePort: Port(30080)!)])
    adjust(&service)
    return service
}

private let vip = SocketAddress(IPAddress("10.96.0.10")!, Port(80)!)

/// Which endpoints packets reach while endpoints come, go and are on their way out.
@Suite(.needsRoot, .serialized) struct EndpointTrafficTests {
    private func apply(_ bed: TrafficBed, _ service: Service, _ endpoints: Endpoint...) async throws {
        try await bed.apply(.service(service), .endpointSlice(bed.slice(of: service, endpoints)))
    }

    private func going(_ endpoint: Endpoint) -> Endpoint {
        var endpoint = endpoint
        (endpoint.isReady, endpoint.isTerminating) = (false, true)
        return endpoint
    }

    @Test func `those that are going serve while nobody else does, each policy by itself`() async throws {
        let bed = try TrafficBed(hosts)
        let web = service { $0.externalTrafficPolicy = .local }
        try await apply(bed, web, going(bed.endpoint("near")), bed.endpoint("far"))
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 8) == ["far"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "out", attempts: 4) == ["near"], "none else is here")
        try await apply(bed, web, going(bed.endpoint("near")), bed.endpoint("near2"), going(bed.endpoint("far")))
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 8) == ["near2"])
        try await apply(bed, web, going(bed.endpoint("near")), going(bed.endpoint("far")))
        #expect(try bed.answers("10.96.0.10", 80, from: "out") == ["near", "far"])
        try await apply(bed, web, bed.endpoint("near") { ($0.isReady, $0.isServing, $0.isTerminating) = (false, false, true) })
        #expect(try bed.ask("10.96.0.10", 80, from: "out") == "refused")
    }

    @Test func `an address that stands twice is the one that is not going`() async throws {
        let bed = try TrafficBed(hosts)
        let web = service()
        try await bed.apply(
            .service(web), .endpointSlice(bed.slice(of: web, [going(bed.endpoint("near"))])),
            .endpointSlice(bed.slice(of: web, [bed.endpoint("near"), going(bed.endpoint("far"))], number: 2)))
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 8) == ["near"])
    }

    @Test func `the endpoints of several slices are one set, and a slice that changes its service leaves it`() async throws {
        let bed = try TrafficBed(hosts)
        let web = service()
        try await bed.apply(
            .service(web), .endpointSlice(bed.slice(of: web, [bed.endpoint("near"), bed.endpoint("near2")])),
            .endpointSlice(bed.slice(of: web, [bed.endpoint("near"), bed.endpoint("far")], number: 2)))
        #expect(try bed.answers("10.96.0.10", 80, from: "out") == ["near", "near2", "far"])
        var moved = bed.slice(of: web, [bed.endpoint("near2")])
        moved.metadata.labels[EndpointSlice.serviceNameLabel] = "other"
        try await bed.apply(.endpointSlice(moved))
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 12) == ["near", "far"])
        moved = bed.slice(of: web, [bed.endpoint("near")], number: 2)
        moved.metadata.labels[EndpointSlice.headlessLabel] = ""
        try await bed.apply(.endpointSlice(moved))
        #expect(try bed.ask("10.96.0.10", 80, from: "out") == "refused", "a headless service's slice is none of ours")
    }

    @Test func `a service that another proxy looks after is left alone, from one moment to the next`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(), endpoints: ["near"])
        #expect(try bed.ask("10.96.0.10", 80, from: "out") == "near")
        try await bed.apply(.service(service { $0.metadata.labels["service.kubernetes.io/service-proxy-name"] = "other" }))
        #expect(try bed.ask("10.96.0.10", 80, from: "near2", patience: .seconds(3)) != "near")
        try await bed.apply(.service(service()))
        #expect(try bed.ask("10.96.0.10", 80, from: "out") == "near")
    }

    @Test func `a program of the node itself can be an endpoint, for pods, for clients outside and for the node`() async throws {
        let bed = try TrafficBed(hosts)
        let server = try TrafficBed.Host(
            name: "node", address: TrafficBed.nodeAddress, serving: { try bed.node.withEntered($0) })
        let thread = server.start()
        defer { server.end(thread) }
        let own = Endpoint(address: TrafficBed.nodeAddress, nodeName: "n1")
        for policy in [Service.TrafficPolicy.cluster, .local] {
            let web = service(.udp) { $0.externalTrafficPolicy = policy }
            try await apply(bed, web, own)
            for client in ["near", "far", "out", nil] {
                #expect(try bed.ask("10.96.0.10", 80, from: client, udp: true).hasPrefix("node"))
                #expect(try bed.ask("172.30.0.11", 30080, from: client, udp: true).hasPrefix("node"))
            }
        }
        #expect(try bed.source(seenFrom: "near", to: "10.96.0.10", 80) == "10.244.1.2")
        #expect(try bed.source(seenFrom: "out", to: "172.30.0.11", 30080) == "192.0.2.9", "Local")
    }

    // MARK: UDP conversations

    private func conversation(_ bed: TrafficBed, from name: String, to target: SocketAddress = vip) throws -> ProbeConnection {
        try bed.hosts[name]!.namespace.withEntered { () throws(KernelError) in
            try ProbeConnection.open(.udp, to: target, timeout: .seconds(1))
        }
    }

    @Test func `a conversation stays with an endpoint that is going until it is gone`() async throws {
        let bed = try TrafficBed(hosts)
        try await apply(bed, service(.udp), bed.endpoint("far"))
        let talk = try conversation(bed, from: "near")
        #expect(try talk.exchange(line: "x", timeout: .seconds(5)).hasPrefix("far"))
        try await apply(bed, service(.udp), going(bed.endpoint("far")), bed.endpoint("near2"))
        #expect(try talk.exchange(line: "x", timeout: .seconds(5)).hasPrefix("far"))
        #expect(try bed.ask("10.96.0.10", 80, from: "near", udp: true).hasPrefix("near2"), "new ones do not go there")
        try await apply(bed, service(.udp), bed.endpoint("near2"))
        #expect(try talk.exchange(line: "x", timeout: .seconds(5)).hasPrefix("near2"))
    }

    @Test func `a service that falls to nothing ends its conversations`() async throws {
        let bed = try TrafficBed(hosts)
        try await apply(bed, service(.udp), bed.endpoint("far"))
        let talk = try conversation(bed, from: "near")
        #expect(try talk.exchange(line: "x", timeout: .seconds(5)).hasPrefix("far"))
        try await apply(bed, service(.udp))
        #expect(throws: KernelError.self) { try talk.exchange(line: "x", timeout: .seconds(5)) }
        try await apply(bed, service(.udp), bed.endpoint("near2"))
        #expect(try talk.exchange(line: "x", timeout: .seconds(5)).hasPrefix("near2"))
    }

    @Test func `only conversations with our address and port are ended`() async throws {
        let bed = try TrafficBed(hosts)
        // Another destination's port that happens to be our node port, and a service's address at another service's port.
        let stranger = try TrafficBed.Host(
            name: "stranger", address: IPAddress("192.0.2.9")!, port: 30080,
            serving: { try bed.hosts["out"]!.namespace.withEntered($0) })
        let thread = stranger.start()
        defer { stranger.end(thread) }
        try await apply(bed, service(.udp), bed.endpoint("far"))
        let foreign = try conversation(bed, from: "near", to: SocketAddress(IPAddress("192.0.2.9")!, Port(30080)!))
        #expect(try foreign.exchange(line: "x", timeout: .seconds(5)).hasPrefix("stranger"))
        let tracked = try bed.node.withEntered { () throws(KernelError) in try ConntrackSocket.open() }
        func isTracked() throws -> Bool {
            let local = foreign.localAddress
            return try tracked.entries(.ipv4).contains { $0.original.sourcePort == local?.port && $0.original.transport == .udp }
        }
        #expect(try isTracked())
        try await apply(bed, service(.udp))
        try await apply(bed, service(.udp) { $0.ports[0].nodePort = nil }, bed.endpoint("near2"))
        #expect(try isTracked())
    }

    @Test func `what went wrong before the service was there, or while no agent was, is put right`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.apply()
        let early = try conversation(bed, from: "near")
        try early.send("x\n", timeout: .seconds(1))
        try await apply(bed, service(.udp), bed.endpoint("far"))
        #expect(try early.exchange(line: "x", timeout: .seconds(5)).hasPrefix("far"), "the same port, now to the service")
        try bed.restart()
        let report = try await bed.apply(
            .service(service(.udp)), .endpointSlice(bed.slice(of: service(.udp), [going(bed.endpoint("far")), bed.endpoint("near2")])))
        #expect(report.changes > 0)
        #expect(try early.exchange(line: "x", timeout: .seconds(5)).hasPrefix("far"))
        // It goes while no agent is there; the table need not change for it.
        try bed.restart()
        try await apply(bed, service(.udp), bed.endpoint("near2"))
        #expect(try early.exchange(line: "x", timeout: .seconds(5)).hasPrefix("near2"))
    }

    @Test func `a TCP connection outlives its endpoint's place in the service, and the agent`() async throws {
        let bed = try TrafficBed(hosts)
        try await apply(bed, service(), bed.endpoint("far"))
        let connection = try bed.hosts["near"]!.namespace.withEntered { () throws(KernelError) in
            try ProbeConnection.open(.tcp, to: vip, timeout: .seconds(5))
        }
        try connection.send("stream\n", timeout: .seconds(1))
        #expect(try connection.exchange(line: "one", timeout: .seconds(5)).hasPrefix("far"))
        try await apply(bed, service(), bed.endpoint("near2"))
        #expect(try connection.exchange(line: "two", timeout: .seconds(5)).hasPrefix("far"))
        try bed.restart()
        try await apply(bed, service())
        #expect(try connection.exchange(line: "three", timeout: .seconds(5)).hasPrefix("far"))
    }
}
