import KernelInterface
import Reconciliation
import ServiceLifecycle

/// Notices when links, addresses, routes or neighbours change, by whose hand ever, so that the overlay is mended.
actor KernelChangeSource: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private var monitor: RouteMonitor
    private let mailbox: Mailbox

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    init(mailbox: Mailbox) throws(KernelError) {
        monitor = try RouteMonitor.open()
        self.mailbox = mailbox
    }

    func run() async throws {
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            if try !monitor.next(timeout: patience).isEmpty { mailbox.post(.kernelChanged) }
        }
    }
}
