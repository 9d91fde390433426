import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Testing

@Suite(.needsRoot) struct ServiceTests {
    func service(_ number: Int, endpoints: Int) -> [ObjectEvent] {
        let name = "s\(number)"
        return [
            .set(
                .service(
                    Service(
                        metadata: ObjectMetadata(name: name, namespace: "a"), clusterIPs: [IPAddress("10.96.0.\(number)")!],
                        ports: [ServicePort(number: Port(80)!)]))),
            .set(
                .endpointSlice(
                    EndpointSlice(
                        metadata: ObjectMetadata(
                            name: name, namespace: "a", labels: [EndpointSlice.serviceNameLabel: name]),
                        family: .ipv4,
                        endpoints: (0..<endpoints).map { Endpoint(address: IPAddress("10.244.\(number).\($0 + 1)")!) },
                        ports: [EndpointPort(number: Port(8080)!)]))),
        ]
    }

    /// The table with the kernel's own numbers of the rules: rewritten rules have others.
    func handles(_ socket: borrowing NftablesSocket) throws -> [String: [UInt64?]] {
        try socket.observe(ServiceTable.name)!.chains.mapValues { $0.rules.map(\.handle) }
    }

    @Test func `a restart that finds everything in place changes no rule and no element`() async throws {
        let bed = try NodeBed()
        let socket = try bed.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let events = (1...20).flatMap { service($0, endpoints: $0 % 4) } + [.set(.node(node(1))), .synced]
        var before: [String: [UInt64?]] = [:]
        do {
            let agent = try bed.reconciler([.services])
            #expect(await agent.apply([.objects(events, notes: [], revision: "")]).changes > 0)
            before = try handles(socket)
        }
        let generation = try socket.generation()
        let agent = try bed.reconciler([.services])
        let report = await agent.apply([.objects(events, notes: [], revision: "")])
        #expect(report.isSynced && report.changes == 0)
        #expect(try handles(socket) == before)
        #expect(try socket.generation() == generation + 1, "one transaction: taking over the ownership")
        #expect(await agent.apply([.kernelChanged, .addressesChanged]).changes == 0)
        #expect(try socket.generation() == generation + 1)
    }

    @Test func `the kernel follows single changes and equals a fresh computation`() async throws {
        let bed = try NodeBed()
        let socket = try bed.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let agent = try bed.reconciler([.services])
        _ = await agent.apply([.objects((1...9).flatMap { service($0, endpoints: 2) } + [.synced], notes: [], revision: "")])
        var counts = Array(repeating: 2, count: 10)
        for step in 0..<60 {
            let number = step * 7 % 9 + 1
            counts[number] = (step * 5) % 6
            let report = await agent.apply([.objects(service(number, endpoints: counts[number]), notes: [], revision: "")])
            #expect(report.isSynced, "\(report.errors)")
        }
        let all = (1...9).flatMap { service($0, endpoints: counts[$0]) }
        let snapshot = ClusterSnapshot(all.compactMap { if case .set(let object) = $0 { object } else { nil } })
        let whole = serviceTable(
            services: snapshot.services.values, slices: snapshot.endpointSlices.values, on: NodeContext(name: "n1"))
        #expect(try socket.observe(ServiceTable.name) == whole)
    }

    @Test func `a second agent is told that the table has an owner, and takes it over when that is gone`() async throws {
        let bed = try NodeBed()
        var first: NodeReconciler? = try bed.reconciler([.services])
        let events = service(1, endpoints: 1) + [.synced]
        #expect(await first!.apply([.objects(events, notes: [], revision: "")]).isSynced)
        let second = try bed.reconciler([.services])
        let refused = await second.apply([.objects(events, notes: [], revision: "")])
        #expect(!refused.isSynced && refused.errors.first?.contains("fairlead-services") == true, "\(refused.errors)")
        first = nil
        #expect(await second.apply([]).isSynced)
    }
}
