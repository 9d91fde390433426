import Glibc
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import RouteNetlink
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

    /// What `nft` lists on the node; nil where there is no such table yet.
    private func table(in namespace: borrowing NetworkNamespace) throws -> String? {
        let captured = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("nft", ["list", "table", "inet", "fairlead-services"])
        }
        return captured.status.isSuccess ? captured.text : nil
    }

    private func wait(
        _ what: String, in namespace: borrowing NetworkNamespace, log: String, until isSo: (String) -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while !(try table(in: namespace).map(isSo) ?? false) {
            guard ContinuousClock.now < deadline else {
                let said = try? readFile(log, limit: 1 << 20)
                Issue.record("waited in vain for \(what): \(String(decoding: said ?? [], as: UTF8.self))")
                throw CancellationError()
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    @Test(.needsRoot)
    func `the kernel holds the server's services, through a restart of it too`() async throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let name = try #require(InterfaceName("lo"))
        let loopback = try #require(try socket.link(named: name))
        try socket.change(link: loopback.index, LinkChange(isUp: true))

        let server = TestServer()
        server.with { $0.acceptedTokens = ["abc"] }
        server.change { model in
            model.set(WatchedResource.nodes.path, node("node-1"))
            for (number, name) in ["kept", "lost"].enumerated() {
                model.set(Self.services, service(name, "10.96.0.\(number + 1)"))
                model.set(
                    WatchedResource.endpointSlices.path,
                    endpointSlice("\(name)-1", of: name, ["10.244.1.\(number + 1)"]))
            }
        }
        try await server.start(in: namespace)
        try folder.write("ca.pem", TestCertificate.here.certificate)
        let kubeconfig = try folder.write(
            "config",
            KubeconfigTests.file(
                cluster: "{server: 'https://127.0.0.1:\(server.port)', certificate-authority: ca.pem}"))
        let log = "\(folder.path)/agent.log"
        let agent = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: Self.binary,
                arguments: [
                    "--kubeconfig", kubeconfig, "--node-name", "node-1", "--state-dir", "\(folder.path)/state",
                    "--components", "services",
                ],
                standardOutput: .file(log), standardError: .file(log))
        }
        defer {
            _ = try? agent.signal(.kill)
            _ = try? agent.wait()
        }
        do {
            try await wait("both services", in: namespace, log: log) { table in
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
            #expect(try table(in: namespace)?.contains("10.96.0.2 . tcp . 80") == true)
            try await server.start(in: namespace)
            try await wait("the new list", in: namespace, log: log) { table in
                !table.contains("10.96.0.2 . tcp . 80") && table.contains("10.96.0.3 . tcp . 80")
                    && table.contains("10.96.0.1 . tcp . 80")
            }

            try agent.signal(.terminate)
            #expect(try agent.wait() == .exited(0))
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
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
