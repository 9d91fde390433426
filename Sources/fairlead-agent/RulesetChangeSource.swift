import KernelInterface
import Reconciliation
import ServiceLifecycle

/// Notices when nftables tables change, so that ours are mended where the kernel does not keep others out of them.
actor RulesetChangeSource: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private var monitor: RulesetMonitor
    private let mailbox: Mailbox

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    init(mailbox: Mailbox) throws(KernelError) {
        monitor = try RulesetMonitor.open()
        self.mailbox = mailbox
    }

    func run() async throws {
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            let changes = try monitor.next(timeout: patience)
            if !changes.isEmpty { mailbox.post(.rulesetChanged(changes)) }
        }
    }
}
