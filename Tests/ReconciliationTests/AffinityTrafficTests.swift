import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Testing

private let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

private func service(_ adjust: (inout Service) -> Void = { _ in }) -> Service {
    var service = Service(
        metadata: ObjectMetadata(name: "web", namespace: "shop"), type: .nodePort, clusterIPs: [IPAddress("10.96.0.10")!],
        ports: [
            ServicePort(name: "http", number: Port(80)!, nodePort: Port(30080)!),
            ServicePort(name: "admin", number: Port(81)!),
        ], sessionAffinity: .clientIP(timeoutSeconds: 10800))
    adjust(&service)
    return service
}

/// Clients that stay with their endpoint, where that is harder than usual.
@Suite(.needsRoot, .serialized) struct AffinityTrafficTests {
    private func remembered(_ bed: TrafficBed) throws -> [String] {
        let socket = try bed.node.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let sets = try #require(try socket.observe(ServiceTable.name)).sets.filter { $0.value.definition.expiry != nil }
        let key = ElementKey(.address(IPAddress("192.0.2.9")!))
        return try sets.keys.filter { try socket.contains(key, set: $0, table: ServiceTable.name) }
    }

    @Test func `each port of a service has a memory of its own`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(), endpoints: ["near", "near2", "far"])
        _ = try bed.ask("10.96.0.10", 80, from: "out")
        #expect(try remembered(bed).count == 1)
        _ = try bed.ask("10.96.0.10", 81, from: "out")
        let sets = try remembered(bed)
        #expect(sets.count == 2 && sets.contains { $0.contains("/http/") } && sets.contains { $0.contains("/admin/") })
    }

    @Test func `the memory outlives the agent, and ends with the endpoint`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(), endpoints: ["near", "near2", "far"])
        let mine = try bed.ask("10.96.0.10", 80, from: "out")
        try bed.restart()
        #expect(try await bed.program(service(), endpoints: ["near", "near2", "far"]).changes == 0)
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 12) == [mine])
        // It goes and comes again: the client is a stranger to it.
        let others = ["near", "near2", "far"].filter { $0 != mine }
        try await bed.program(service(), endpoints: others)
        #expect(try remembered(bed).isEmpty)
        try await bed.program(service(), endpoints: ["near", "near2", "far"])
        #expect(try remembered(bed).isEmpty)
    }

    @Test func `an endpoint that is going keeps no client once others are ready`() async throws {
        let bed = try TrafficBed(hosts)
        func program(_ endpoints: [Endpoint]) async throws {
            try await bed.apply(.service(service()), .endpointSlice(bed.slice(of: service(), endpoints)))
        }
        try await program([bed.endpoint("near")])
        #expect(try bed.ask("10.96.0.10", 80, from: "out") == "near")
        let going = bed.endpoint("near") { ($0.isReady, $0.isTerminating) = (false, true) }
        try await program([going, bed.endpoint("far")])
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 6) == ["far"])
    }

    @Test func `a Local policy overrules the memory, and a client comes back to it where that counts`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["near", "far"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "out", attempts: 6) == ["near"])
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 6) == ["near"], "one memory for all addresses")
        // A client of the cluster IP that was sent away cannot be kept by the policy that only knows this node's.
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["far"])
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 3) == ["far"])
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["near", "far"])
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 6) == ["far"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "out", attempts: 6) == ["near"])
    }

    @Test func `hints take a client away from an endpoint of another zone`() async throws {
        let bed = try TrafficBed(hosts)
        bed.own.metadata.labels["topology.kubernetes.io/zone"] = "a"
        func program(_ hints: [String: Set<String>]) async throws {
            let endpoints = hints.sorted { $0.key < $1.key }.map { name, zones in bed.endpoint(name) { $0.hintedZones = zones } }
            try await bed.apply(.service(service()), .endpointSlice(bed.slice(of: service(), endpoints)))
        }
        try await program(["far": []])
        #expect(try bed.ask("10.96.0.10", 80, from: "out") == "far")
        try await program(["far": ["b"], "near": ["a"]])
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 6) == ["near"])
    }

    @Test func `a client that finds the memory full is served all the same`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service { $0.ports.removeLast() }, endpoints: ["near", "far"])
        let socket = try bed.node.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let sets = try #require(try socket.observe(ServiceTable.name)).sets.filter { $0.value.definition.expiry != nil }
        // The table is the agent's alone, so it has to go for a moment, as it does when an agent is killed.
        bed.stop()
        for (set, _) in sets {
            let clients = (0..<SetDefinition.mostRemembered).map { Element(ElementKey(.address(IPAddress("100.64.0.0")!.advanced(by: UInt128($0))!))) }
            try socket.apply([.addElements(clients, set: set)], to: ServiceTable.name, owned: true)
        }
        #expect(try bed.answers("10.96.0.10", 80, from: "out") == ["near", "far"])
        #expect(try remembered(bed).isEmpty)
    }
}
