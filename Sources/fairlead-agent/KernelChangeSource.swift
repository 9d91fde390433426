import KernelInterface
import Reconciliation
import RouteNetlink
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
            let changes = try monitor.next(timeout: patience)
            if changes.contains(where: \.mayConcernOverlay) { mailbox.post(.kernelChanged) }
        }
    }
}

extension RouteChange {
    /// False for what happens all the time and is no business of the overlay: neighbours that the kernel learns, and
    /// the routes of pods that come and go.
    fileprivate var mayConcernOverlay: Bool {
        switch self {
        case .neighbor(let neighbor): neighbor.state != .learned && neighbor.state != .incomplete
        case .route(let route), .routeRemoved(let route): route.gateway != nil || route.origin != .fairlead
        case .link, .linkRemoved, .address, .addressRemoved, .neighborRemoved, .forwardingEntry,
            .forwardingEntryRemoved, .missed:
            true
        }
    }
}
