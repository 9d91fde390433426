import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import Testing

/// The shop of the quickstart, and what its policies let through.
@Suite(.needsRoot, .serialized, .shop) struct ShopTests {
    let state: LabState
    let snapshot: ClusterSnapshot

    init() throws {
        state = try LabUnderTest.current().state()
        snapshot = try state.snapshot()
    }

    private func pods(_ prefix: String) throws -> [LabPod] {
        let pods = state.pods.filter { $0.key.name.hasPrefix(prefix) }
        try #require(!pods.isEmpty)
        return pods
    }

    private func ask(_ client: LabPod, _ service: String, _ number: Int, _ family: AddressFamily) throws -> String {
        let namespace = service == "payments" ? "payments" : service == "logs" ? "monitoring" : "shop"
        let found = try #require(snapshot.services[NamespacedName(namespace: namespace, name: service)])
        let target = SocketAddress(try #require(found.clusterIP(of: family)), try #require(Port(number)))
        return try client.inside { () throws(KernelError) in
            try Probe.answer(service == "logs" ? .udp : .tcp, target, timeout: .milliseconds(700))
        }
    }

    /// Who may ask whom.
    private static let allowed: [(client: String, service: String, port: Int)] = [
        ("frontend", "catalog", 80), ("frontend", "cart", 80), ("catalog", "db", 5432), ("cart", "db", 5432),
        ("cart", "payments", 443), ("frontend", "logs", 514), ("payments", "frontend", 80), ("logs", "catalog", 9090),
    ]

    @Test(arguments: AddressFamily.allCases)
    func `what the policies allow is answered, from every replica`(family: AddressFamily) throws {
        for (client, service, port) in Self.allowed {
            for pod in try pods(client) {
                let answer = try ask(pod, service, port, family)
                #expect(answer.hasPrefix("\(service)-"), "\(pod.key) to \(service):\(port): \(answer)")
            }
        }
    }

    /// Who is kept from whom: by the default, by a policy for others, by a port, by a namespace, by egress.
    private static let denied: [(client: String, service: String, port: Int)] = [
        ("frontend", "db", 5432), ("frontend", "payments", 443), ("frontend", "catalog", 9090), ("logs", "catalog", 80),
        ("payments", "db", 5432), ("db", "catalog", 80),
    ]

    @Test(arguments: AddressFamily.allCases)
    func `what the policies deny is never answered and never refused`(family: AddressFamily) throws {
        for (client, service, port) in Self.denied {
            let pod = try #require(try pods(client).first)
            #expect(try ask(pod, service, port, family) == "timeout", "\(pod.key) to \(service):\(port)")
        }
    }

    @Test func `the frontend is open to the world`() throws {
        let outside = try NetworkNamespace.open(NetworkNamespace.path(named: "fairlead-\(state.name)-underlay"))
        for node in state.nodes {
            for address in node.addresses {
                let answer = try outside.withEntered { () throws(KernelError) in
                    try Probe.answer(.tcp, SocketAddress(address, Port(30080)!))
                }
                #expect(answer.hasPrefix("frontend-"), "\(node.name) at \(address): \(answer)")
            }
        }
    }
}

extension Trait where Self == LabTrait {
    /// The manifests as the quickstart applies them.
    static var shop: Self { LabTrait(manifests: [], folder: "\(LabUnderTest.checkout)/scripts/shop") }
}
