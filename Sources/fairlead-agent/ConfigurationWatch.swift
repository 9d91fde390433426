import KernelInterface
import Logging
import ServiceLifecycle

/// Ends the process when its configuration file changes: whoever started it starts it again, as with kube-proxy.
actor ConfigurationWatch: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private let path: String
    private let bytes: [UInt8]
    private var watch: DirectoryWatch

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    /// - Parameter bytes: What the file held when it was read.
    init(_ path: String, bytes: [UInt8]) throws(KernelError) {
        self.path = path
        self.bytes = bytes
        // The folder, because a ConfigMap's files are links that stay while what they lead to is exchanged.
        let folder = path.contains("/") ? path.prefix(through: path.lastIndex(of: "/") ?? path.startIndex) : "."
        watch = try DirectoryWatch.open(String(folder))
    }

    func run() async throws {
        // What happened before the watch began.
        try check()
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            let changes = try watch.next(timeout: patience)
            // With its folder; there is nothing left to notice.
            if changes.isGone { return try await gracefulShutdown() }
            if !changes.isEmpty { try check() }
        }
    }

    private func check() throws {
        // A file that is gone may be on its way back.
        guard let now = try? readFile(path, limit: ProxyFlags.sizeLimit), now != bytes else { return }
        throw ConfigurationChanged(path: path)
    }
}

/// Why the agent ends; nothing is wrong.
struct ConfigurationChanged: Error, CustomStringConvertible {
    var path: String

    var description: String { "\(path) has changed; ending, to be started again with it" }
}
