import ArgumentParser
import KernelInterface
import KubernetesObjects
import Logging
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules

/// Programs many services from empty, restarts over them, and changes one at a time.
struct ServicesBenchmark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "services",
        abstract: "Programs services from empty, then changes one endpoint at a time.")

    @Option(help: "How many services.")
    var services = 10_000

    @Option(help: "Endpoints of each.")
    var endpoints = 2

    @Option(help: "How many single changes to time.")
    var changes = 1000

    @Flag(
        inversion: .prefixedNo,
        help: "Measure the kernel's share and nft -f beside it. nft takes much time and memory for a large table.")
    var floor = true

    @Flag(inversion: .prefixedNo, help: "Restart over the table, and change endpoints one at a time.")
    var restart = true

    func run() async throws {
        // As the agent does.
        ProcessMemory.useOneArena()
        print("\(services) services of \(endpoints) endpoints each, on one node")
        let before = residentMemory().now
        let cluster = Cluster(services: services, endpoints: endpoints)
        let objects = residentMemory().now - before
        let namespace = try NetworkNamespace.anonymous()
        // Released below: a second agent gets the table only when the first no longer owns it.
        var agent: NodeReconciler? = try reconciler(in: namespace)

        var fromEmpty = Measurement()
        let first = await fromEmpty.time { [agent] in
            await agent!.apply([.objects(cluster.events, notes: [], revision: "1")])
        }
        try check(first, "from empty")
        report(
            "from empty: compile and commit", fromEmpty.median.milliseconds,
            target: services == 10_000 ? "150 ms" : services == 50_000 ? "1500 ms" : "")
        let memory = residentMemory()
        report(
            "resident memory: agent's share / with the objects / peak",
            "\(memory.now - before - objects) / \(memory.now) / \(memory.peak) MB", target: "60 MB at 10,000 x 2")

        if floor { try await measureFloor(cluster) }

        guard restart else { return }
        agent = nil
        var restart = Measurement()
        let again = try reconciler(in: namespace)
        let second = await restart.time { await again.apply([.objects(cluster.events, notes: [], revision: "1")]) }
        try check(second, "restart")
        report("restart over the same table (\(second.changes) changes)", restart.median.milliseconds)

        guard changes > 0 else { return }
        try await changeOne(
            again, cluster, "one endpoint replaced: event to committed", target: "1 ms median, 5 ms p99"
        ) {
            cluster.slice($0, endpoints: endpoints, from: 3 + $1 % 200)
        }
        try await changeOne(again, cluster, "one endpoint more: event to committed", target: "") {
            cluster.slice($0, endpoints: endpoints + 1 + $1 % 2, from: 3)
        }
    }

    /// What the same table costs without us: the finished edits sent over a fresh socket, and `nft -f` of its text.
    private func measureFloor(_ cluster: Cluster) async throws {
        let table = serviceTable(services: cluster.services, slices: cluster.slices, on: cluster.node)
        let creation = table.creation
        var ours = Measurement()
        for _ in 0..<5 {
            let namespace = try NetworkNamespace.anonymous()
            let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
            try await ours.time { try socket.apply(creation, to: table.table) }
        }
        report("floor: the finished edits, encoded and carried out by the kernel", ours.median.milliseconds)
        let namespace = try NetworkNamespace.anonymous()
        let text = Array(table.text.utf8)
        var peer = Measurement()
        let result = try await peer.time {
            try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", ["-f", "-"], input: text, timeout: .seconds(300))
            }
        }
        report("peer: nft -f of the same table", result.status.isSuccess ? peer.median.milliseconds : "no nft here")
    }

    private func changeOne(
        _ agent: NodeReconciler, _ cluster: Cluster, _ what: String, target: String,
        _ slice: (Int, Int) -> EndpointSlice
    ) async throws {
        var measurement = Measurement()
        for number in 0..<changes {
            // Scattered over the services, the same in every run.
            let changed = slice((number * 7919) % services, number)
            let pass = await measurement.time {
                await agent.apply([.objects([.set(.endpointSlice(changed))], notes: [], revision: "2")])
            }
            try check(pass, what)
        }
        report(
            what + ", median / p99",
            "\(measurement.median.milliseconds) / \(measurement.percentile(0.99).milliseconds)", target: target)
    }

    private func check(_ report: SyncReport, _ what: String) throws {
        guard report.isSynced else { throw ValidationError("\(what): \(report.errors.joined(separator: "; "))") }
    }

    private func reconciler(in namespace: borrowing NetworkNamespace) throws -> NodeReconciler {
        var logger = Logger(label: "bench")
        logger.logLevel = .critical
        return try namespace.withEntered { () throws(KernelError) in
            try NodeReconciler(.init(nodeName: "n1", components: [.services]), logger: logger)
        }
    }
}

/// A made-up cluster: services 10.96.0.1 and on, each with pods of its own.
private struct Cluster {
    let services: [Service]
    let slices: [EndpointSlice]
    let node = NodeContext(name: "n1")

    init(services count: Int, endpoints: Int) {
        services = (0..<count).map { number in
            Service(
                metadata: ObjectMetadata(name: "service-\(number)", namespace: "bench"),
                clusterIPs: [IPAddress("10.96.0.1")!.advanced(by: UInt128(number))!],
                ports: [ServicePort(name: "http", number: Port(80)!)])
        }
        slices = (0..<count).map { Self.slice($0, endpoints: endpoints, from: 0) }
    }

    var events: [ObjectEvent] {
        services.map { .set(.service($0)) } + slices.map { .set(.endpointSlice($0)) } + [.synced]
    }

    func slice(_ number: Int, endpoints: Int, from first: Int) -> EndpointSlice {
        Self.slice(number, endpoints: endpoints, from: first)
    }

    /// The slice of a service, whose last endpoint is `first` addresses further on than in the beginning.
    static func slice(_ number: Int, endpoints: Int, from first: Int) -> EndpointSlice {
        let base = IPAddress("10.128.0.0")!.advanced(by: UInt128(number) * 256)!
        return EndpointSlice(
            metadata: ObjectMetadata(
                name: "service-\(number)-1", namespace: "bench",
                labels: [EndpointSlice.serviceNameLabel: "service-\(number)"]),
            family: .ipv4,
            endpoints: (0..<endpoints).map { index in
                Endpoint(
                    address: base.advanced(by: UInt128(index == endpoints - 1 ? index + first : index))!,
                    nodeName: "n2",
                    pod: NamespacedName(namespace: "bench", name: "pod-\(number)-\(index)"))
            }, ports: [EndpointPort(name: "http", number: Port(8080)!)])
    }
}
