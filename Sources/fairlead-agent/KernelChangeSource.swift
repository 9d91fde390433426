import KernelInterface
import NetworkAddresses
import Reconciliation
import RouteNetlink
import ServiceLifecycle

/// Notices what changes in the kernel, by whose hand ever, so that what is ours is mended.
actor KernelChangeSource: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private let mailbox: Mailbox
    /// Waits for changes, for a while, and gives what they mean.
    private let next: @Sendable () throws(KernelError) -> [NodeEvent]

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    private init(mailbox: Mailbox, next: @escaping @Sendable () throws(KernelError) -> [NodeEvent]) {
        self.mailbox = mailbox
        self.next = next
    }

    /// Tells of links, addresses, routes and neighbours.
    static func network(mailbox: Mailbox) throws(KernelError) -> KernelChangeSource {
        let monitor = try RouteMonitor.open()
        return KernelChangeSource(mailbox: mailbox) { () throws(KernelError) in
            let changes = try monitor.next(timeout: patience)
            var events: [NodeEvent] = []
            if changes.contains(where: \.mayConcernOverlay) { events.append(.kernelChanged) }
            if changes.contains(where: \.mayConcernServices) { events.append(.addressesChanged) }
            return events
        }
    }

    /// Tells of nftables tables, where the kernel does not keep others out of ours.
    static func ruleset(mailbox: Mailbox) throws(KernelError) -> KernelChangeSource {
        let monitor = try RulesetMonitor.open()
        return KernelChangeSource(mailbox: mailbox) { () throws(KernelError) in
            let changes = try monitor.next(timeout: patience)
            return changes.isEmpty ? [] : [.rulesetChanged(changes)]
        }
    }

    func run() async throws {
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            for event in try next() { mailbox.post(event) }
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

    /// Whether the machine may have other addresses to serve at; the link-local ones, which every pod's interface
    /// brings, are none.
    fileprivate var mayConcernServices: Bool {
        switch self {
        case .address(let address), .addressRemoved(let address):
            if case .v6(let address) = address.prefix.address { !address.isLinkLocal } else { true }
        case .missed: true
        case .link, .linkRemoved, .route, .routeRemoved, .neighbor, .neighborRemoved, .forwardingEntry,
            .forwardingEntryRemoved:
            false
        }
    }
}
