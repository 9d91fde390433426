import Glibc
import KernelInterface
import KubernetesObjects
import Testing

@testable import KubernetesClient

extension Trait where Self == ConditionTrait {
    /// The agent programs a network namespace of the test's own, which only root may make.
    static var needsRoot: Self { .enabled(if: geteuid() == 0, "making network namespaces needs root") }
}

/// The agent, as a process in a node of its own, beside a test server.
@Suite struct AgentTests {
    /// The built agent, which lies beside the test bundle.
    static let binary: String = {
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        return bundle.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/fairlead-agent"
    }()

    static let services = WatchedResource.services.path
    private static let slices = WatchedResource.endpointSlices.path

    /// A server with a node and these services, the first of which has the address 10.96.0.1 and the endpoint 10.244.1.1.
    private func populate(_ server: TestServer, _ names: [String]) {
        server.with { $0.acceptedTokens = ["abc"] }
        server.change { model in
            model.set(WatchedResource.nodes.path, node("node-1"))
            for (number, name) in names.enumerated() {
                model.set(Self.services, service(name, "10.96.0.\(number + 1)"))
                model.set(Self.slices, endpointSlice("\(name)-1", of: name, ["10.244.1.\(number + 1)"]))
            }
        }
    }

    /// Runs `body`, and stops the servers however it ends.
    private func stopping(_ servers: TestServer..., body: () async throws -> Void) async throws {
        do { try await body() } catch {
            for server in servers { await server.stop() }
            throw error
        }
        for server in servers { await server.stop() }
    }

    @Test(.needsRoot)
    func `the kernel holds the server's services, through a restart of it too`() async throws {
        let (bed, server) = (try ServedNode(), TestServer())
        populate(server, ["kept", "lost"])
        try await server.start(in: bed.namespace)
        try await stopping(server) {
            try bed.start(server: "127.0.0.1:\(server.port)")
            try await bed.wait("both services") { table in
                table.contains("10.96.0.1 . tcp . 80") && table.contains("10.96.0.2 . tcp . 80")
                    && table.contains("10.244.1.2")
            }
            #expect(server.requests(.watch, .pods).isEmpty)

            await server.stop()
            server.change { model in
                model.remove(Self.services, "shop/lost")
                model.set(Self.services, service("new", "10.96.0.3"))
                model.compact()
            }
            // Nothing changes for the node as long as nobody knows better.
            #expect(try bed.table.contains("10.96.0.2 . tcp . 80"))
            try await server.start(in: bed.namespace)
            try await bed.wait("the new list") { table in
                !table.contains("10.96.0.2 . tcp . 80") && table.contains("10.96.0.3 . tcp . 80")
                    && table.contains("10.96.0.1 . tcp . 80")
            }
            #expect(try bed.end(.terminate) == .exited(0))
        }
    }

    @Test(.needsRoot)
    func `as long as one kind of object has not come, a new agent leaves the kernel as it is`() async throws {
        let (bed, server) = (try ServedNode(), TestServer())
        populate(server, ["one", "two"])
        try await server.start(in: bed.namespace)
        try await stopping(server) {
            try bed.start(server: "127.0.0.1:\(server.port)")
            try await bed.wait("both services") { $0.contains("10.244.1.1") && $0.contains("10.244.1.2") }
            try bed.end(.kill)
            let (before, generation) = (try bed.table, try bed.generation)
            server.change { $0.remove(Self.services, "shop/two") }
            // Services come without endpoints: all of them would be refused.
            server.order(.silence, .watch, .endpointSlices)
            let asked = server.requests(.watch, .endpointSlices).count
            try bed.start(server: "127.0.0.1:\(server.port)")
            try await bed.wait("the question") { _ in server.requests(.watch, .endpointSlices).count > asked }
            try await Task.sleep(for: .milliseconds(500))
            #expect(try bed.table == before)
            #expect(try bed.generation == generation, "\(bed.log)")
            // The connection ends, and the question is asked again.
            await server.stop()
            try await server.start(in: bed.namespace)
            try await bed.wait("the removal") { !$0.contains("10.96.0.2 . tcp") && $0.contains("10.244.1.1") }
            #expect(try bed.end(.terminate) == .exited(0))
        }
    }

    @Test(.needsRoot) func `a service that flaps a thousand times a second holds up no other`() async throws {
        let (bed, server) = (try ServedNode(), TestServer())
        populate(server, ["flapping", "quiet"])
        try await server.start(in: bed.namespace)
        try await stopping(server) {
            try bed.start(server: "127.0.0.1:\(server.port)")
            try await bed.wait("both services") { $0.contains("10.244.1.1") && $0.contains("10.244.1.2") }
            let (start, before) = (ContinuousClock.now, try bed.generation)
            let storm = Task {
                var count = 0
                while !Task.isCancelled {
                    for _ in 0..<10 {
                        count += 1
                        let number = count
                        server.change { model in
                            switch number % 4 {
                            case 0: model.remove(Self.services, "shop/flapping")
                            case 1: model.set(Self.services, service("flapping", "10.96.0.1", port: 80 + number % 3))
                            case 2: model.set(Self.slices, endpointSlice("flapping-1", of: "flapping", []))
                            default: model.set(Self.slices, endpointSlice("flapping-1", of: "flapping", ["10.244.1.1"]))
                            }
                        }
                    }
                    try? await Task.sleep(for: .milliseconds(10))
                }
                return count
            }
            // Another service's changes come through meanwhile.
            for number in 1...10 {
                try await Task.sleep(for: .milliseconds(200))
                server.change { $0.set(Self.slices, endpointSlice("quiet-1", of: "quiet", ["10.244.2.\(number)"])) }
                try await bed.wait("change \(number) of the other service") { $0.contains("10.244.2.\(number) ") }
            }
            storm.cancel()
            let changes = await storm.value
            server.change { model in
                model.set(Self.services, service("flapping", "10.96.0.1", port: 99))
                model.set(Self.slices, endpointSlice("flapping-1", of: "flapping", ["10.244.1.9"]))
            }
            try await bed.wait("the last state") { table in
                table.contains("10.96.0.1 . tcp . 99") && table.contains("10.244.1.9 . 8080")
                    && !table.contains("10.96.0.1 . tcp . 80")
            }
            let passes = Int(try bed.generation - before)
            let milliseconds = Int((ContinuousClock.now - start) / .milliseconds(1))
            #expect(changes > 4 * passes && passes < milliseconds / 40 + 20, "\(passes) passes for \(changes) changes")
            #expect(try bed.end(.terminate) == .exited(0))
        }
    }

    @Test(.needsRoot) func `of several servers behind one name one that lives is enough`() async throws {
        let bed = try ServedNode()
        let port = 16443
        let servers = [TestServer(address: 0x7f00_0002, port: port), TestServer(address: 0x7f00_0003, port: port)]
        for server in servers { populate(server, ["one"]) }
        try await stopping(servers[0], servers[1]) {
            // The first one does not even refuse: packets to it are lost.
            let hole = """
                add table inet hole; add chain inet hole in { type filter hook input priority 0; }; \
                add rule inet hole in ip daddr 127.0.0.2 drop
                """
            let made = try bed.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", [hole])
            }
            #expect(made.status.isSuccess, "\(made.errorText)")
            try await servers[1].start(in: bed.namespace)
            try bed.start(server: "api.test:\(port)", hosts: "127.0.0.2 api.test\n127.0.0.3 api.test\n")
            try await bed.wait("the service, from the second server") { $0.contains("10.96.0.1 . tcp . 80") }

            _ = try bed.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", ["delete", "table", "inet", "hole"])
            }
            for (turn, living) in [0, 1, 0].enumerated() {
                await servers[1 - living].stop()
                for server in servers {
                    server.change { $0.set(Self.services, service("new-\(turn)", "10.96.1.\(turn + 1)")) }
                }
                try await servers[living].start(in: bed.namespace)
                try await bed.wait("what server \(living) knows") { $0.contains("10.96.1.\(turn + 1) . tcp . 80") }
            }
            // One of the servers went away and came back, and that was no reason to ask for everything again.
            let lists = servers.flatMap { $0.requests(.watch, .services) }.filter { $0.query["sendInitialEvents"] != nil }
            #expect(lists.count == 1)
            #expect(try bed.end(.terminate) == .exited(0))
        }
    }

    @Test(arguments: [
        [], ["--kubeconfig", "x", "--manifests", "y"], ["--in-cluster", "--manifests", "y"],
        ["--in-cluster", "--kubeconfig", "x"],
    ])
    func `exactly one source of objects must be given`(arguments: [String]) throws {
        let captured = try ChildProcess.capture(Self.binary, ["--node-name", "n"] + arguments)
        #expect(!captured.status.isSuccess)
        #expect(captured.errorText.contains("exactly one of --manifests, --kubeconfig and --in-cluster"))
    }

    @Test(.needsRoot) func `a kubeconfig that leads nowhere is said to`() throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let path = try folder.write("config", KubeconfigTests.file(cluster: "server: nowhere"))
        let namespace = try NetworkNamespace.anonymous()
        let captured = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                Self.binary, ["--kubeconfig", path, "--node-name", "n", "--state-dir", "\(folder.path)/state"],
                timeout: .seconds(20))
        }
        #expect(!captured.status.isSuccess)
        #expect(captured.errorText.contains("\(path): context \"blue\": clusters[0].cluster.server: \"nowhere\""))
    }
}
