import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Testing

private let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

private func service(
    _ name: String = "web", ip: String = "10.96.0.10", _ type: Service.Kind = .loadBalancer,
    transport: TransportProtocol = .tcp, nodePort: Int? = 30080, _ adjust: (inout Service) -> Void = { _ in }
) -> Service {
    var service = Service(
        metadata: ObjectMetadata(name: name, namespace: "shop"), type: type, clusterIPs: [IPAddress(ip)!],
        ports: [ServicePort(name: "http", protocol: transport, number: Port(80)!, nodePort: nodePort.map { Port($0)! })])
    adjust(&service)
    return service
}

/// What packets do at each kind of destination a service has.
@Suite(.needsRoot, .serialized) struct FrontendTrafficTests {
    @Test func `both families, each with its own endpoints, source and refusal`() async throws {
        let bed = try TrafficBed(hosts)
        let web = service(transport: .udp) { $0.clusterIPs.append(IPAddress("fd00:10:96::10")!) }
        try await bed.apply(
            .service(web), .endpointSlice(bed.slice(of: web, [bed.endpoint("near")])),
            .endpointSlice(bed.slice(of: web, [bed.endpoint("far", .ipv6)], .ipv6, number: 6)))
        #expect(try bed.source(seenFrom: "near2", to: "10.96.0.10", 80) == "10.244.1.3")
        #expect(try bed.ask("fd00:10:96::10", 80, from: "near", udp: true).hasPrefix("far [fd00:10:244:1::2]"))
        #expect(try bed.source(seenFrom: "out", to: "fd00:10:96::10", 80) == "[fd00:172:30::11]")
        #expect(try bed.source(seenFrom: "near", to: "fd00:172:30::11", 30080) == "[fd00:172:30::11]")
        #expect(try bed.ask("fd00:10:96::10", 81, from: "near") == "refused")
        #expect(try bed.ask("fd00:10:96::10", 81) == "refused")
        try await bed.apply(.endpointSlice(bed.slice(of: web, [bed.endpoint("near", .ipv6)], .ipv6, number: 6)))
        #expect(try bed.source(seenFrom: "near", to: "fd00:10:96::10", 80) == "[fd00:172:30::11]", "hairpin")
        try await bed.apply(.endpointSlice(bed.slice(of: web, [], .ipv6, number: 6)))
        #expect(try bed.ask("fd00:10:96::10", 80, from: "near", udp: true) == "refused")
        #expect(try bed.ask("fd00:172:30::11", 30080, from: "out", udp: true) == "refused")
        #expect(try bed.source(seenFrom: "near2", to: "10.96.0.10", 80) == "10.244.1.3", "the other family goes on")
    }

    @Test func `a cluster IP refuses what is no port of it, even a ping`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(), endpoints: ["near"])
        for (name, udp) in [("near", false), ("near", true), ("out", false)] {
            #expect(try bed.ask("10.96.0.10", 81, from: name, udp: udp) == "refused")
        }
        #expect(try bed.ask("10.96.0.10", 80, from: "near2", udp: true) == "refused", "another protocol's port")
        let ping = try bed.hosts["near"]!.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("ping", ["-c", "1", "-W", "5", "10.96.0.10"], timeout: .seconds(20))
        }
        #expect(ping.status != .exited(0) && ping.text.contains("Port Unreachable"), "\(ping.text)")
    }

    @Test func `a load balancer's address is taken unless it is a proxy's, and needs no node port`() async throws {
        let bed = try TrafficBed(hosts)
        let ingress = [
            LoadBalancerIngress(address: IPAddress("203.0.113.1")!),
            LoadBalancerIngress(address: IPAddress("203.0.113.2")!, mode: .proxy),
        ]
        try await bed.program(service(nodePort: nil) { $0.ingress = ingress }, endpoints: ["near"])
        #expect(try bed.ask("203.0.113.1", 80, from: "out") == "near")
        #expect(try bed.ask("203.0.113.2", 80, from: "near2") != "near")
        #expect(try bed.ask("172.30.0.11", 30080, from: "out") == "refused")
        try await bed.program(service(nodePort: nil) { $0.ingress = ingress }, endpoints: [])
        #expect(try bed.ask("203.0.113.1", 80, from: "near2") == "refused")
    }

    @Test func `external addresses are masqueraded like all that comes from outside, and can be switched off`() async throws {
        let web = service("web", .clusterIP, transport: .udp, nodePort: nil) { $0.externalIPs = [IPAddress("203.0.113.7")!] }
        let bed = try TrafficBed(hosts)
        try await bed.program(web, endpoints: ["far"])
        for client in ["out", "near"] {
            #expect(try bed.source(seenFrom: client, to: "203.0.113.7", 80) == "172.30.0.11")
        }
        let closed = try TrafficBed(hosts, settings: ServiceSettings(allowsExternalIPs: false))
        try await closed.program(web, endpoints: ["far"])
        #expect(try !closed.ask("203.0.113.7", 80, from: "near", udp: true, patience: .milliseconds(400)).hasPrefix("far"))
        #expect(try closed.source(seenFrom: "near", to: "10.96.0.10", 80) == "10.244.1.2")
    }

    @Test func `a node within the source ranges may also come from the load balancer's address`() async throws {
        let bed = try TrafficBed(hosts)
        try bed.addNodeAddress("203.0.113.1")
        func program(_ range: String) async throws {
            let web = service {
                $0.ingress = [LoadBalancerIngress(address: IPAddress("203.0.113.1")!)]
                $0.sourceRanges = [IPPrefix(range)!]
            }
            try await bed.program(web, endpoints: ["near"])
        }
        func fromItself() throws -> Probe.Outcome {
            try bed.node.withEntered { () throws(KernelError) in
                try Probe.tcp(
                    to: SocketAddress(IPAddress("203.0.113.1")!, Port(80)!), from: IPAddress("203.0.113.1")!,
                    timeout: .milliseconds(600), send: "x\n")
            }
        }
        try await program("192.0.2.0/24")
        #expect(try fromItself() == .timeout)
        try await program("172.30.0.0/24")
        #expect(try fromItself() == .reply("near\n"))
        bed.own.internalIPs = [IPAddress("172.31.0.1")!]
        try await bed.apply()
        #expect(try fromItself() == .timeout, "the node's address changed")
    }

    @Test func `SCTP goes to the endpoint's port, from the client's address or the node's`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(transport: .sctp), endpoints: ["far"])
        let listener = try bed.hosts["far"]!.namespace.withEntered { () throws(KernelError) in try RawPackets(.sctp) }
        func send(_ address: String, _ port: Int, from name: String, _ source: UInt16) throws -> String {
            let client = try bed.hosts[name]!.namespace.withEntered { () throws(KernelError) in try RawPackets(.sctp) }
            try client.sendInit(to: SocketAddress(IPAddress(address)!, Port(port)!), from: source)
            return listener.next(within: 5000).map { "\($0.source) to \($0.port)" } ?? "nothing"
        }
        #expect(try send("10.96.0.10", 80, from: "near", 5001) == "10.244.1.2 to 8080")
        #expect(try send("10.96.0.10", 80, from: "out", 5002) == "172.30.0.11 to 8080")
        #expect(try send("172.30.0.11", 30080, from: "near", 5003) == "172.30.0.11 to 8080")
    }

    @Test func `of two services that claim one address the older has it until it goes`() async throws {
        let bed = try TrafficBed(hosts)
        func claimant(_ name: String, _ number: Int, createdAt second: Int64, nodePort: Int = 30080) -> Service {
            service(name, ip: "10.96.0.\(number)", nodePort: nodePort) {
                $0.externalIPs = [IPAddress("203.0.113.7")!]
                $0.metadata.creationTimestamp = Timestamp(secondsSince1970: second)
            }
        }
        let (first, second) = (claimant("zebra", 1, createdAt: 1), claimant("ant", 2, createdAt: 2))
        func asked() throws -> [String] {
            try [("203.0.113.7", 80), ("172.30.0.11", 30080), ("10.96.0.1", 80), ("10.96.0.2", 80)].map {
                try bed.ask($0, $1, from: "out")
            }
        }
        let report = try await bed.apply(
            .service(second), .endpointSlice(bed.slice(of: second, [bed.endpoint("far"), bed.endpoint("near2")])),
            .service(first), .endpointSlice(bed.slice(of: first, [bed.endpoint("near")])))
        #expect(try Array(asked()[..<3]) == ["near", "near", "near"])
        #expect(
            report.notes.map(\.description) == [
                "Service shop/ant: spec.ports: 172.30.0.11:30080/tcp is already that of Service shop/zebra, which keeps it",
                "Service shop/ant: spec.externalIPs: 203.0.113.7:80/tcp is already that of Service shop/zebra, which keeps it",
            ])
        try bed.restart()
        let again = try await bed.apply(
            .service(first), .endpointSlice(bed.slice(of: first, [bed.endpoint("near")])),
            .service(second), .endpointSlice(bed.slice(of: second, [bed.endpoint("far"), bed.endpoint("near2")])))
        #expect(again.changes == 0 && again.notes == report.notes)
        // The winner gives the node port up, then goes.
        #expect(try await bed.apply(.service(claimant("zebra", 1, createdAt: 1, nodePort: 30081))).notes.count == 1)
        #expect(try asked()[0] == "near" && asked()[1] != "near")
        #expect(try await bed.apply(removing: [ObjectReference(.service, first.key)]).notes.isEmpty)
        #expect(try bed.answers("203.0.113.7", 80, from: "out") == ["far", "near2"])
    }

    @Test func `what the API server allots is not taken away by an external address`() async throws {
        let bed = try TrafficBed(hosts)
        let (dns, thief) = (
            service("dns", ip: "10.96.0.10"),
            service("a-thief", ip: "10.96.0.11", nodePort: nil) {
                $0.externalIPs = [IPAddress("10.96.0.10")!]
                $0.metadata.creationTimestamp = Timestamp(secondsSince1970: 0)
            }
        )
        let report = try await bed.apply(
            .service(thief), .endpointSlice(bed.slice(of: thief, [bed.endpoint("far")])),
            .service(dns), .endpointSlice(bed.slice(of: dns, [bed.endpoint("near")])))
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 8) == ["near"])
        #expect(report.notes.map(\.object?.name) == ["a-thief"])
    }
}
