import KernelInterface
import ManifestFolder
import Reconciliation
import ServiceLifecycle

/// How long a source waits for its kernel object at a time, and so the longest that ending the agent takes.
let patience = Duration.milliseconds(200)

/// Follows the folder of manifests.
actor ManifestSource: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private let mailbox: Mailbox
    private var watcher: ManifestWatcher

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    init(_ path: String, mailbox: Mailbox) throws(KernelError) {
        self.mailbox = mailbox
        watcher = try ManifestWatcher.open(path)
    }

    func run() async throws {
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            guard let update = try watcher.next(timeout: patience) else { continue }
            mailbox.post(.objects(update.events, notes: update.notes, revision: update.revision ?? ""))
        }
    }
}
