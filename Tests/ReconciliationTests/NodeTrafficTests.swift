import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import RouteNetlink
import ServiceRules
import Testing

private let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

private func service(_ transport: TransportProtocol = .udp, _ adjust: (inout Service) -> Void = { _ in }) -> Service {
    var service = Service(
        metadata: ObjectMetadata(name: "web", namespace: "shop"), type: .nodePort, clusterIPs: [IPAddress("10.96.0.10")!],
        ports: [ServicePort(name: "http", protocol: transport, number: Port(80)!, nodePort: Port(30080)!)])
    adjust(&service)
    return service
}

/// What packets do by the node's own settings and addresses, and by what changes about them while all is running.
@Suite(.needsRoot, .serialized) struct NodeTrafficTests {
    /// Whom an endpoint sees that is asked by the cluster IP: the client, or the node in its place.
    private func sources(_ settings: ServiceSettings) async throws -> [String] {
        let bed = try TrafficBed(hosts, settings: settings)
        try await bed.program(service(), endpoints: ["far"])
        return try ["near", "near2", "out", nil].map { try bed.source(seenFrom: $0, to: "10.96.0.10", 80) }
    }

    static let (near, near2, out, node) = ("10.244.1.2", "10.244.1.3", "192.0.2.9", "172.30.0.11")

    @Test(arguments: [
        (ServiceSettings(), [near, near2, node, node]),
        (ServiceSettings(localTraffic: .clusterCIDR([IPPrefix("10.244.1.2/31")!, IPPrefix("192.0.2.0/24")!])), [near, near2, node, node]),
        (ServiceSettings(localTraffic: .clusterCIDR([IPPrefix("192.0.2.0/24")!])), [node, node, out, node]),
        (ServiceSettings(localTraffic: .clusterCIDR([IPPrefix("fd00::/8")!])), [near, near2, out, node]),
        (ServiceSettings(localTraffic: .bridgeInterface(InterfaceName("to-near")!)), [near, node, node, node]),
        (ServiceSettings(localTraffic: .interfaceNamePrefix(InterfaceName("to-near")!)), [near, near2, node, node]),
        (ServiceSettings(masqueradesAll: true), [node, node, node, node]),
    ]) func `who reaches a cluster IP with its own address`(settings: ServiceSettings, expected: [String]) async throws {
        #expect(try await sources(settings) == expected)
    }

    /// The short cut to a load balancer's endpoints follows the same idea of local traffic.
    @Test(arguments: [
        (ServiceSettings(localTraffic: .bridgeInterface(InterfaceName("to-near")!)), near, "timeout"),
        (ServiceSettings(localTraffic: .interfaceNamePrefix(InterfaceName("to-near")!)), near, near2),
        (ServiceSettings(localTraffic: .clusterCIDR([])), "timeout", "timeout"),
    ]) func `only local traffic is spared policy Local`(settings: ServiceSettings, first: String, second: String) async throws {
        let bed = try TrafficBed(hosts, settings: settings)
        try await bed.program(service { $0.externalTrafficPolicy = .local }, endpoints: ["far"])
        for (name, expected) in [("near", first), ("near2", second)] {
            if expected == "timeout" {
                #expect(try bed.ask("172.30.0.11", 30080, from: name, udp: true, patience: .milliseconds(400)) == "timeout")
            } else {
                #expect(try bed.source(seenFrom: name, to: "172.30.0.11", 30080) == expected, "not masqueraded")
            }
        }
        #expect(try bed.source(to: "172.30.0.11", 30080) == Self.node, "the node's own programs always are")
    }

    /// Who answers at a node port of each of the node's addresses.
    private func answers(_ bed: TrafficBed) throws -> [String] {
        try ["172.30.0.11", "172.30.0.12", "198.51.100.1", "127.0.0.1"].map { address in
            try bed.ask(address, 30080, from: address == "127.0.0.1" ? nil : "far")
        }
    }

    @Test(arguments: [
        (.primary, ["near", "refused", "refused", "refused"]),
        (.all, ["near", "near", "near", "refused"]),
        (.networks([IPPrefix("0.0.0.0/0")!]), ["near", "near", "near", "refused"]),
        (.networks([IPPrefix("198.51.100.0/24")!, IPPrefix("127.0.0.0/8")!]), ["refused", "refused", "near", "refused"]),
        (.networks([IPPrefix("fd00::/8")!]), ["near", "near", "near", "refused"]),
    ] as [(ServiceSettings.NodePortAddresses, [String])])
    func `where node ports answer`(addresses: ServiceSettings.NodePortAddresses, expected: [String]) async throws {
        let bed = try TrafficBed(hosts, settings: ServiceSettings(nodePortAddresses: addresses))
        for address in ["172.30.0.12", "198.51.100.1"] { try bed.addNodeAddress(address) }
        try await bed.program(service(.tcp), endpoints: ["near"])
        #expect(try answers(bed) == expected)
    }

    @Test func `a node port follows the node's addresses`() async throws {
        let bed = try TrafficBed(hosts, settings: ServiceSettings(nodePortAddresses: .all))
        try await bed.program(service(.tcp), endpoints: ["near"])
        #expect(try bed.ask("172.30.0.11", 30080, from: "far") == "near")
        try bed.addNodeAddress("172.30.0.12")
        #expect(try bed.ask("172.30.0.12", 30080, from: "far") == "refused", "nobody was told yet")
        #expect(try await bed.apply().changes > 0)
        #expect(try bed.ask("172.30.0.12", 30080, from: "far") == "near")
        try bed.routes.remove(InterfaceAddress(IPAddress("172.30.0.12")!.hostPrefix, link: 1))
        #expect(try await bed.apply().changes > 0)
        #expect(try await bed.apply().changes == 0)
    }

    @Test func `the primary address is the Node object's first, or the one that was set`() async throws {
        let bed = try TrafficBed(hosts)
        try bed.addNodeAddress("172.30.0.12")
        try await bed.program(service(.tcp), endpoints: ["near"])
        bed.own.internalIPs = [IPAddress("172.30.0.12")!, TrafficBed.nodeAddress]
        #expect(try await bed.apply().changes > 0)
        #expect(try bed.ask("172.30.0.12", 30080, from: "far") == "near")
        #expect(try bed.ask("172.30.0.11", 30080, from: "far") == "refused")
        let other = try TrafficBed(hosts, settings: ServiceSettings(primaryAddress: IPAddress("172.30.0.12")!))
        try other.addNodeAddress("172.30.0.12")
        try await other.program(service(.tcp), endpoints: ["near"])
        #expect(try other.ask("172.30.0.12", 30080, from: "far") == "near")
    }

    @Test func `an address that no service has leads nowhere, as soon as the range is known`() async throws {
        let bed = try TrafficBed(hosts)
        try await bed.program(service(.tcp), endpoints: ["near"])
        // What is no service's goes where the routes lead, which is the host `out`.
        try bed.add("10.96.77.77", to: "out")
        let cidr = ServiceCIDR(metadata: ObjectMetadata(name: "kubernetes", namespace: ""), cidrs: [IPPrefix("10.96.0.0/16")!])
        #expect(try bed.ask("10.96.77.77", 8080, from: "near") == "out")
        try await bed.apply(.serviceCIDR(cidr))
        #expect(try bed.isSilent("10.96.77.77", 8080, from: "near"))
        #expect(try bed.isSilent("10.96.77.77", 8080))
        #expect(try bed.ask("10.96.0.10", 80, from: "near") == "near")
        try await bed.apply(removing: [ObjectReference(.serviceCIDR, NamespacedName(namespace: "", name: "kubernetes"))])
        #expect(try bed.ask("10.96.77.77", 8080, from: "near") == "out")
    }

    @Test func `hints send to this node, else to its zone, and only when every endpoint has them`() async throws {
        let bed = try TrafficBed(hosts)
        bed.own.metadata.labels["topology.kubernetes.io/zone"] = "a"
        func program(_ hints: [(String, zones: Set<String>, nodes: Set<String>)]) async throws {
            let web = service(.tcp)
            let endpoints = hints.map { hint in
                bed.endpoint(hint.0) { ($0.hintedZones, $0.hintedNodes) = (hint.zones, hint.nodes) }
            }
            try await bed.apply(.service(web), .endpointSlice(bed.slice(of: web, endpoints)))
        }
        func answers() throws -> Set<String> { try bed.answers("10.96.0.10", 80, from: "out") }
        try await program([("near", ["a"], ["n1"]), ("near2", ["a"], ["n3"]), ("far", ["b"], ["n2"])])
        #expect(try answers() == ["near"], "this node's")
        #expect(try bed.answers("172.30.0.11", 30080, from: "out") == ["near"], "by any address")
        try await program([("near", ["a"], ["n3"]), ("near2", ["a"], ["n3"]), ("far", ["b"], ["n2"])])
        #expect(try answers() == ["near", "near2"], "none for this node: the zone's")
        try await program([("near", ["a"], ["n1"]), ("near2", ["a"], []), ("far", ["b"], ["n2"])])
        #expect(try answers() == ["near", "near2"], "not all have a node hint: the zone's")
        try await program([("near", ["a"], []), ("near2", [], []), ("far", ["b"], [])])
        #expect(try answers() == ["near", "near2", "far"], "not all have a zone hint")
        try await program([("near", ["c"], []), ("near2", ["b"], []), ("far", ["b", "c"], [])])
        #expect(try answers() == ["near", "near2", "far"], "none for this zone")
        bed.own.metadata.labels["topology.kubernetes.io/zone"] = "b"
        try await bed.apply()
        #expect(try answers() == ["near2", "far"], "the node moved to another zone")
        bed.own.metadata.labels["topology.kubernetes.io/zone"] = nil
        try await bed.apply()
        #expect(try answers() == ["near", "near2", "far"], "and to none")
    }

    @Test func `hints leave a Local policy alone`() async throws {
        let bed = try TrafficBed(hosts)
        bed.own.metadata.labels["topology.kubernetes.io/zone"] = "a"
        let web = service(.tcp) { $0.externalTrafficPolicy = .local }
        let endpoints = [bed.endpoint("near") { $0.hintedZones = ["b"] }, bed.endpoint("far") { $0.hintedZones = ["a"] }]
        try await bed.apply(.service(web), .endpointSlice(bed.slice(of: web, endpoints)))
        #expect(try bed.answers("172.30.0.11", 30080, from: "out", attempts: 8) == ["near"])
        #expect(try bed.answers("172.30.0.11", 30080, from: "near2", attempts: 8) == ["far"], "the short cut is no Local traffic")
        #expect(try bed.answers("10.96.0.10", 80, from: "out", attempts: 8) == ["far"])
    }
}
