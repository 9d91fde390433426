import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Testing

private let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

private let (clusterIP, node, balancer) = ("fd00:10:96::10", "fd00:172:30::11", "2001:db8:1::1")

private func service(
    _ transport: TransportProtocol = .tcp, _ families: Set<AddressFamily> = [.ipv6],
    _ adjust: (inout Service) -> Void = { _ in }
) -> Service {
    var service = Service(
        metadata: ObjectMetadata(name: "web", namespace: "shop"), type: .loadBalancer,
        clusterIPs: ["10.96.0.10", clusterIP].map { IPAddress($0)! }.filter { families.contains($0.family) },
        ports: [ServicePort(name: "http", protocol: transport, number: Port(80)!, nodePort: Port(30080)!)])
    if families.contains(.ipv6) { service.ingress = [LoadBalancerIngress(address: IPAddress(balancer)!)] }
    adjust(&service)
    return service
}

/// What depends on the client or on the node, over IPv6; and nodes that have none.
@Suite(.needsRoot, .serialized) struct IPv6TrafficTests {
    @discardableResult
    private func program(_ bed: TrafficBed, _ service: Service, _ names: [String]) async throws -> SyncReport {
        try await bed.apply(
            .service(service), .endpointSlice(bed.slice(of: service, names.map { bed.endpoint($0, .ipv6) }, .ipv6, number: 6)))
    }

    @Test func `a client keeps its endpoint, by whichever address it asks, until that goes`() async throws {
        let bed = try TrafficBed(hosts + [("other", "198.51.100.5")])
        let sticky = service { $0.sessionAffinity = .clientIP(timeoutSeconds: 10800) }
        try await program(bed, sticky, ["near", "near2", "far"])
        for client in ["out", "other"] {
            let mine = try bed.ask(clusterIP, 80, from: client)
            for (address, port) in [(clusterIP, 80), (node, 30080), (balancer, 80)] {
                #expect(try bed.answers(address, port, from: client, attempts: 8) == [mine], "\(client) at \(address)")
            }
        }
        let mine = try bed.ask(clusterIP, 80, from: "out")
        let others = ["near", "near2", "far"].filter { $0 != mine }
        try await program(bed, sticky, [mine, others[0]])
        #expect(try bed.answers(clusterIP, 80, from: "out", attempts: 8) == [mine])
        try bed.restart()
        #expect(try await program(bed, sticky, [mine, others[0]]).changes == 0)
        #expect(try bed.answers(clusterIP, 80, from: "out", attempts: 8) == [mine], "the memory outlives the agent")
        try await program(bed, sticky, others)
        let next = try bed.ask(clusterIP, 80, from: "out")
        #expect(others.contains(next))
        #expect(try bed.answers(clusterIP, 80, from: "out", attempts: 8) == [next])
        try await program(bed, service(), others)
        #expect(try bed.answers(clusterIP, 80, from: "out") == Set(others), "without affinity they are spread again")
    }

    @Test func `the two families of a client are two clients, and each is forgotten in time`() async throws {
        let bed = try TrafficBed(hosts)
        let sticky = service(.tcp, [.ipv4, .ipv6]) { $0.sessionAffinity = .clientIP(timeoutSeconds: 2) }
        try await program(bed, sticky, ["near"])
        try await bed.apply(.endpointSlice(bed.slice(of: sticky, [bed.endpoint("far")])))
        for _ in 0..<6 {
            #expect(try bed.ask(clusterIP, 80, from: "out") == "near")
            #expect(try bed.ask("10.96.0.10", 80, from: "out") == "far")
        }
        let socket = try bed.node.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        func remembered(_ address: String) throws -> Int {
            let sets = try #require(try socket.observe(ServiceTable.name)).sets.filter { $0.value.definition.expiry != nil }
            let (key, type) = (ElementKey(.address(IPAddress(address)!)), KeyType.address(IPAddress(address)!.family))
            return try sets.filter { $0.value.definition.key == [type] }.keys
                .count { try socket.contains(key, set: $0, table: ServiceTable.name) }
        }
        #expect(try remembered("fd00:192:0:2::9") == 1 && remembered("192.0.2.9") == 1)
        try await Task.sleep(for: .seconds(3))
        #expect(try remembered("fd00:192:0:2::9") == 0 && remembered("192.0.2.9") == 0)
    }

    @Test func `external policy Local keeps the client's address, and serves the cluster from everywhere`() async throws {
        let bed = try TrafficBed(hosts)
        func local(_ transport: TransportProtocol = .tcp) -> Service {
            service(transport) { $0.externalTrafficPolicy = .local }
        }
        try await program(bed, local(.udp), ["near", "far"])
        for (address, port) in [(node, 30080), (balancer, 80)] {
            let seen = Set(try (0..<12).map { _ in try bed.ask(address, port, from: "out", udp: true).split(separator: "]")[0] })
            #expect(seen == ["near [fd00:192:0:2::9"], "\(address)")
        }
        #expect(try bed.source(seenFrom: "out", to: clusterIP, 80) == "[\(node)]", "a cluster IP knows no Local policy")
        try await program(bed, local(), ["near", "far"])
        for (address, port) in [(node, 30080), (balancer, 80)] {
            #expect(try bed.answers(address, port, from: "near2") == ["near", "far"])
            #expect(try bed.answers(address, port) == ["near", "far"])
        }
        try await program(bed, local(), ["far"])
        for (address, port) in [(node, 30080), (balancer, 80)] {
            #expect(try bed.isSilent(address, port, from: "out"), "none here, but elsewhere: silence")
            #expect(try bed.answers(address, port, from: "near2", attempts: 3) == ["far"])
        }
        try await program(bed, local(), [])
        for client in ["out", "near2"] {
            #expect(try bed.ask(node, 30080, from: client) == "refused")
            #expect(try bed.ask(balancer, 80, from: client) == "refused")
        }
    }

    @Test func `internal policy Local uses this node's endpoints only`() async throws {
        let bed = try TrafficBed(hosts)
        let local = service { $0.internalTrafficPolicy = .local }
        try await program(bed, local, ["near", "far"])
        #expect(try bed.answers(clusterIP, 80, from: "near2") == ["near"])
        #expect(try bed.answers(node, 30080, from: "out") == ["near", "far"])
        try await program(bed, local, ["far"])
        #expect(try bed.isSilent(clusterIP, 80, from: "near2"))
    }

    @Test func `source ranges guard the load balancer's address and nothing else`() async throws {
        let bed = try TrafficBed(hosts + [("other", "198.51.100.5")])
        func guarded(_ range: String) -> Service { service { $0.sourceRanges = [IPPrefix(range)!] } }
        try await program(bed, guarded("fd00:192:0:2::/64"), ["near"])
        #expect(try bed.ask(balancer, 80, from: "out") == "near")
        #expect(try bed.isSilent(balancer, 80, from: "other"))
        #expect(try bed.ask(node, 30080, from: "other") == "near")
        #expect(try bed.ask(clusterIP, 80, from: "other") == "near")
        try await program(bed, guarded("192.0.2.0/24"), ["near"])
        #expect(try bed.isSilent(balancer, 80, from: "out"), "ranges of the other family admit nobody")
    }

    @Test func `a node whose IPv6 is switched off serves IPv4, and says no error of it`() async throws {
        let bed = try TrafficBed(hosts, hasIPv6: false)
        let both = service(.tcp, [.ipv4, .ipv6]) { $0.externalTrafficPolicy = .local }
        let slices = AddressFamily.allCases.enumerated().map { number, family in
            bed.slice(of: both, ["near", "far"].map { bed.endpoint($0, family) }, family, number: number)
        }
        let report = try await bed.apply(.service(both), .endpointSlice(slices[0]), .endpointSlice(slices[1]))
        #expect(report.errors == [] && report.notes == [])
        #expect(try bed.answers("10.96.0.10", 80, from: "out") == ["near", "far"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "out", attempts: 8) == ["near"])
        #expect(try bed.ask("10.96.0.10", 81, from: "near") == "refused")
        #expect(try bed.ask(clusterIP, 80, from: "near", patience: .milliseconds(400)) != "near")
        let six = service(.udp) { $0.metadata.name = "six" }
        try await bed.apply(.service(six), .endpointSlice(bed.slice(of: six, [bed.endpoint("near", .ipv6)], .ipv6)))
        try bed.restart()
        let again = try await bed.apply(
            .service(both), .endpointSlice(slices[0]), .endpointSlice(slices[1]), .service(six),
            .endpointSlice(bed.slice(of: six, [bed.endpoint("near", .ipv6)], .ipv6)))
        #expect(again.changes == 0)
        #expect(try bed.answers("10.96.0.10", 80, from: "near2") == ["near", "far"])
    }
}
