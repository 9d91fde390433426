import KernelInterface
import KubernetesObjects
import NetworkAddresses
import RouteNetlink
import Testing

@testable import KubernetesClient

/// A node in a network namespace of its own, whose agent programs the services that a test server has.
final class ServedNode {
    let folder: TemporaryFolder
    let namespace: NetworkNamespace
    private let witness: NftablesSocket
    private var agent: ChildProcess?

    init() throws {
        folder = try TemporaryFolder()
        namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        witness = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let name = try #require(InterfaceName("lo"))
        let loopback = try #require(try socket.link(named: name))
        try socket.change(link: loopback.index, LinkChange(isUp: true))
        try folder.write("ca.pem", TestCertificate.here.certificate)
    }

    deinit { _ = try? end(.kill) }

    /// Starts the agent, which finds its servers by this name.
    ///
    /// - Parameter hosts: What `/etc/hosts` is to the agent.
    func start(server: String, hosts: String? = nil) throws {
        let kubeconfig = try folder.write(
            "config",
            KubeconfigTests.file(
                cluster: "{server: 'https://\(server)', tls-server-name: localhost, certificate-authority: ca.pem}"))
        var command = [
            AgentTests.binary, "--kubeconfig", kubeconfig, "--node-name", "node-1", "--state-dir",
            "\(folder.path)/state", "--components", "services",
        ]
        if let hosts {
            let file = try folder.write("hosts", hosts)
            let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\""
            command = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, file] + command
        }
        agent = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: command[0], arguments: Array(command.dropFirst()),
                standardOutput: .file("\(folder.path)/log"), standardError: .file("\(folder.path)/log"))
        }
    }

    /// Ends the agent, and waits until it is gone.
    @discardableResult
    func end(_ signal: Signal) throws -> ChildProcess.ExitStatus? {
        guard let agent else { return nil }
        self.agent = nil
        try agent.signal(signal)
        return try agent.wait()
    }

    var log: String { (try? folder.read("log")) ?? "" }

    /// How many transactions of nftables there have been.
    var generation: UInt32 { get throws { try witness.generation() } }

    /// What `nft` lists of our table; empty where there is none yet.
    var table: String {
        get throws {
            let captured = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", ["list", "table", "inet", "fairlead-services"])
            }
            return captured.status.isSuccess ? captured.text : ""
        }
    }

    /// Waits until the listing is as expected.
    func wait(
        _ what: String, sourceLocation: SourceLocation = #_sourceLocation, until isSo: (String) -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while !(try isSo(table)) {
            guard ContinuousClock.now < deadline else {
                Issue.record("waited in vain for \(what): \(log)", sourceLocation: sourceLocation)
                throw CancellationError()
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}
