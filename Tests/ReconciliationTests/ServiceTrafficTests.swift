import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import ServiceRules
import Testing

/// What packets do, sent and read where they arrive: the rows of kube-proxy's behaviour, one by one.
@Suite(.needsRoot, .serialized) struct ServiceTrafficTests {
    let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

    func service(
        _ type: Service.Kind = .nodePort, transport: TransportProtocol = .tcp, _ adjust: (inout Service) -> Void = { _ in }
    ) -> Service {
        var service = Service(
            metadata: ObjectMetadata(name: "web", namespace: "shop"), type: type, clusterIPs: [IPAddress("10.96.0.10")!],
            ports: [ServicePort(name: "http", protocol: transport, number: Port(80)!, nodePort: Port(30080)!)])
        adjust(&service)
        return service
    }

    @Test func `requests spread over the endpoints, wherever they come from`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(), endpoints: ["near", "near2", "far"])
        for client in ["out", "near", "far", nil] {
            #expect(try bed.answers("10.96.0.10", 80, from: client) == ["near", "near2", "far"], "from \(client ?? "the node")")
            #expect(try bed.answers("172.30.0.11", 30080, from: client) == ["near", "near2", "far"], "from \(client ?? "the node")")
        }
        #expect(try bed.ask("10.96.0.10", 81, from: "near") == "refused")
        #expect(try bed.ask("10.96.0.10", 81) == "refused")
        try await bed.program(service(), endpoints: [])
        #expect(try bed.ask("10.96.0.10", 80, from: "near") == "refused")
        #expect(try bed.ask("172.30.0.11", 30080, from: "out") == "refused")
    }

    @Test func `who is masqueraded: what comes from outside the node's pods, and a pod that reaches itself`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(transport: .udp), endpoints: ["far"])
        #expect(try bed.source(seenFrom: "near", to: "10.96.0.10", 80) == "10.244.1.2")
        #expect(try bed.source(seenFrom: "out", to: "10.96.0.10", 80) == "172.30.0.11")
        #expect(try bed.source(seenFrom: "near", to: "172.30.0.11", 30080) == "172.30.0.11")
        #expect(try bed.source(seenFrom: "out", to: "172.30.0.11", 30080) == "172.30.0.11")
        try await bed.program(service(transport: .udp), endpoints: ["near"])
        #expect(try bed.source(seenFrom: "near", to: "10.96.0.10", 80) == "172.30.0.11", "hairpin")
    }

    @Test func `external policy Local keeps the client's address, and serves the cluster from everywhere`() async throws {
        let bed = try TrafficBed(hosts)
        let local = service(transport: .udp) { $0.externalTrafficPolicy = .local }
        try await bed.program(local, endpoints: ["near", "far"])
        let answers = Set(try (0..<20).map { _ in try bed.ask("172.30.0.11", 30080, from: "out", udp: true).split(separator: ":")[0] })
        #expect(answers == ["near 192.0.2.9"])
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["near", "far"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "near2") == ["near", "far"])
        #expect(try bed.answers("172.30.0.11", 30080) == ["near", "far"])
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["far"])
        #expect(try bed.isSilent("172.30.0.11", 30080, from: "out"), "none here, but elsewhere: silence")
        #expect(try bed.answers("172.30.0.11", 30080, from: "near2", attempts: 3) == ["far"])
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: [])
        #expect(try bed.ask("172.30.0.11", 30080, from: "out") == "refused")
        #expect(try bed.ask("172.30.0.11", 30080, from: "near2") == "refused")
    }

    @Test func `internal policy Local uses this node's endpoints only`() async throws {
        let bed = try TrafficBed(hosts)
        let local = service { $0.internalTrafficPolicy = .local }
        try await bed.program(local, endpoints: ["near", "far"])
        #expect(try bed.answers("10.96.0.10", 80, from: "near2") == ["near"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "out") == ["near", "far"])
        try await bed.program(local, endpoints: ["far"])
        #expect(try bed.isSilent("10.96.0.10", 80, from: "near2"))
    }

    @Test func `source ranges guard the load balancer's address and nothing else`() async throws {
        let bed = try TrafficBed(hosts + [("other", "198.51.100.5")])
        func balanced(_ ranges: [String]?) -> Service {
            service(.loadBalancer) {
                $0.ingress = [LoadBalancerIngress(address: IPAddress("203.0.113.1")!)]
                $0.sourceRanges = ranges?.map { IPPrefix($0)! }
            }
        }
        try await bed.program(balanced(["192.0.2.0/24", "192.0.2.9/32"]), endpoints: ["near"])
        #expect(try bed.ask("203.0.113.1", 80, from: "out") == "near")
        #expect(try bed.isSilent("203.0.113.1", 80, from: "other"))
        #expect(try bed.isSilent("203.0.113.1", 80, from: "far"))
        #expect(try bed.ask("172.30.0.11", 30080, from: "other") == "near")
        try await bed.program(balanced(["0.0.0.0/0"]), endpoints: ["near"])
        #expect(try bed.ask("203.0.113.1", 80, from: "other") == "near")
        try await bed.program(balanced(["2001:db8::/32"]), endpoints: ["near"])
        #expect(try bed.isSilent("203.0.113.1", 80, from: "other"), "ranges of the other family admit nobody")
        try await bed.program(balanced(nil), endpoints: ["near"])
        #expect(try bed.ask("203.0.113.1", 80, from: "other") == "near")
    }

    @Test func `a client with affinity keeps its endpoint until that goes or the client stays away`() async throws {
        let bed = try TrafficBed(hosts + [("other", "198.51.100.5")])
        let sticky = service { $0.sessionAffinity = .clientIP(timeoutSeconds: 3) }
        try await bed.program(sticky, endpoints: ["near", "near2", "far"])
        for client in ["out", "other"] {
            let first = try bed.ask("10.96.0.10", 80, from: client)
            #expect(try bed.answers("10.96.0.10", 80, from: client, attempts: 12) == [first])
            #expect(try bed.answers("172.30.0.11", 30080, from: client, attempts: 6) == [first], "by whichever address")
        }
        let before = try bed.ask("10.96.0.10", 80, from: "out")
        let others = ["near", "near2", "far"].filter { $0 != before }
        // An endpoint that the client was not sent to goes: the client stays where it is.
        try await bed.program(sticky, endpoints: [before, others[0]])
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 6) == [before])
        // Its own endpoint goes: it gets another, and keeps that.
        try await bed.program(sticky, endpoints: others)
        let after = try bed.ask("10.96.0.10", 80, from: "out")
        #expect(others.contains(after))
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 6) == [after])
        // Each new connection starts the time anew; after a pause as long as the timeout the client is forgotten.
        for _ in 0..<3 {
            try await Task.sleep(for: .seconds(1))
            #expect(try bed.ask("10.96.0.10", 80, from: "out") == after)
        }
        let socket = try bed.node.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let sets = try #require(try socket.observe(ServiceTable.name)).sets.filter { $0.value.definition.expiry != nil }
        #expect(sets.count == 2 && sets.values.allSatisfy { $0.definition.expiry == 3 })
        let key = ElementKey(.address(IPAddress("192.0.2.9")!))
        func isRemembered() throws -> Bool {
            try sets.keys.contains { try socket.contains(key, set: $0, table: ServiceTable.name) }
        }
        #expect(try isRemembered())
        try await Task.sleep(for: .seconds(4))
        #expect(try !isRemembered())
        // Back to a service without affinity: nothing of it is left.
        try await bed.program(service(), endpoints: others)
        let plain = try #require(try socket.observe(ServiceTable.name))
        #expect(!plain.chains.keys.contains { $0.hasPrefix("sticky") || $0.hasPrefix("endpoint") })
        #expect(try bed.answers("10.96.0.10", 80, from: "out") == Set(others))
    }

    @Test func `nft prints all of it and reads it back`() async throws {
        let bed = try TrafficBed(hosts)
        let all = service(.loadBalancer) {
            $0.sessionAffinity = .clientIP(timeoutSeconds: 10800)
            $0.externalTrafficPolicy = .local
            $0.ingress = [LoadBalancerIngress(address: IPAddress("203.0.113.1")!)]
            $0.sourceRanges = [IPPrefix("192.0.2.0/24")!]
        }
        try await bed.program(all, endpoints: ["near", "far"])
        #expect(try bed.ask("203.0.113.1", 80, from: "out") == "near")
        let listing = try bed.listingReadBack()
        #expect(listing.contains("update @clients-") && listing.contains("fib saddr type local masquerade"))
    }

    @Test(arguments: [
        (ServiceSettings(localTraffic: .bridgeInterface(InterfaceName("to-near")!)), "iifname != \"to-near\" masquerade"),
        (ServiceSettings(localTraffic: .interfaceNamePrefix(InterfaceName("to-n")!)), "iifname != \"to-n*\" masquerade"),
        (ServiceSettings(masqueradesAll: true), "@cluster-ips6 masquerade"),
    ]) func `nft prints what tells local traffic, too`(settings: ServiceSettings, expected: String) async throws {
        let bed = try TrafficBed(hosts, settings: settings)
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["near", "far"])
        #expect(try bed.listingReadBack().contains(expected))
    }

    @Test func `UDP conversations move on when their endpoint goes`() async throws {
        let bed = try TrafficBed(hosts)
        let dns = service(transport: .udp)
        try await bed.program(dns, endpoints: ["far"])
        let target = SocketAddress(IPAddress("10.96.0.10")!, Port(80)!)
        let connection = try bed.hosts["near"]!.namespace.withEntered { () throws(KernelError) in
            try ProbeConnection.open(.udp, to: target, timeout: .seconds(1))
        }
        #expect(try connection.exchange(line: "x", timeout: .seconds(5)).hasPrefix("far"))
        try await bed.program(dns, endpoints: ["near2"])
        #expect(try connection.exchange(line: "x", timeout: .seconds(5)).hasPrefix("near2"), "from the same port")
    }
}
