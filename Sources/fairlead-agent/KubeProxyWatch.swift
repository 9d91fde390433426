import KernelInterface
import Logging
import Reconciliation
import ServiceLifecycle

/// Looks out for a kube-proxy beside this agent: two proxies on one node answer for the same addresses.
actor KubeProxyWatch: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private let state: DutyState
    private let takesOver: Bool
    private let logger: Logger

    private static let pause = Duration.seconds(60)

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    /// - Parameter takesOver: Whether what it finds is removed.
    init(state: DutyState, takesOver: Bool, logger: Logger) {
        self.state = state
        self.takesOver = takesOver
        self.logger = logger
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { await self.watch() }
    }

    private func watch() async {
        // Not before our own rules are there: at no moment may a service have none.
        while !state.isProgrammed {
            if (try? await Task.sleep(for: .milliseconds(100))) == nil { return }
        }
        var known: [String] = []
        var hasTakenOver = false
        while !Task.isCancelled {
            do {
                known = try look(known: known, again: hasTakenOver)
                hasTakenOver = takesOver
            } catch {
                logger.error("Cannot look for kube-proxy's rules", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: Self.pause)
        }
    }

    /// - Parameter again: Whether all of it has been removed before.
    /// - Returns: what is left of kube-proxy.
    private func look(known: [String], again: Bool) throws(KernelError) -> [String] {
        let traces = try KubeProxyTraces()
        let found = try traces.find()
        if takesOver, !found.isEmpty {
            let (removed, staying) = try traces.remove()
            logger.notice("Took over from kube-proxy", metadata: ["removed": "\(removed.joined(separator: ", "))"])
            if again {
                logger.warning("kube-proxy has written its rules again: it still runs on this node; stop it")
            }
            for remainder in staying where !known.contains(remainder) {
                logger.warning("Of kube-proxy stays: \(remainder)")
            }
            return staying
        }
        if !takesOver, !found.isEmpty, found != known {
            logger.warning(
                "kube-proxy's rules are active on this node beside ours, and which of them a connection meets is left to chance; stop kube-proxy and start this agent with --take-over",
                metadata: ["found": "\(found.joined(separator: ", "))"])
        }
        return takesOver ? known : found
    }
}
