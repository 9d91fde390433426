public import KernelInterface
public import KubernetesObjects
public import Logging
public import OverlayRoutes
public import PolicyRules
public import ServiceRules

/// What the agent takes care of; each can be left to somebody else.
public enum Component: String, Hashable, Sendable, CaseIterable {
    case overlay
    case services
    case policy
}

/// Something that happened, in the words of its source.
public enum NodeEvent: Sendable {
    /// Changed objects, and all that is wrong with those of this source now.
    case objects([ObjectEvent], notes: [Note], revision: String)
    /// All attachments of this node, as the CNI plugins recorded them.
    case attachments([LocalAttachment])
    /// Links, routes, neighbours or addresses changed in the kernel, maybe by somebody else.
    case kernelChanged
    /// The machine has other addresses; told beside `kernelChanged`.
    case addressesChanged
    /// Somebody changed nftables tables, maybe ours; told only where ours are not owned.
    case rulesetChanged(RulesetChanges)
}

/// What a pass over the node came to.
public struct SyncReport: Hashable, Sendable {
    /// Whether the kernel holds all that it should.
    public var isSynced = false
    /// The revision of the objects it holds.
    public var revision = ""
    /// Edits made in the kernel.
    public var changes = 0
    /// What is wrong with objects; the rest works.
    public var notes: [Note] = []
    /// What the kernel refused; tried again.
    public var errors: [String] = []
    /// How far the overlay is; nil where it is somebody else's, or before the first pass.
    public var overlay: OverlayState?
    /// After how long another pass is worth while though nothing new has happened; nil where there is nothing to retry.
    public var retryAfter: Duration?
    /// How each component's pass went; none for a component that had nothing to look at.
    public var passes: [ComponentPass] = []
    /// How many elements of sets and maps each component has programmed.
    public var elements: [Component: Int] = [:]
    /// The look through the connections, where a change called for one.
    public var flowSweep: FlowSweep?
}

/// How the connections were looked through for those whose endpoint is gone.
public struct FlowSweep: Hashable, Sendable {
    public var duration: Duration
    /// How many were forgotten.
    public var forgotten: Int
}

/// One component's part of a pass, for metrics and health.
public struct ComponentPass: Hashable, Sendable {
    public var component: Component
    /// From its beginning to the kernel's answer.
    public var duration: Duration
    /// Edits made in the kernel.
    public var changes: Int
    /// The kernel's words where it refused.
    public var error: String?

    public init(component: Component, duration: Duration, changes: Int = 0, error: String? = nil) {
        self.component = component
        self.duration = duration
        self.changes = changes
        self.error = error
    }
}

/// Brings the kernel of this node to what the cluster's objects say: observe, decide, do.
///
/// All of it runs on one thread, so no two passes meet, and blocking calls to the kernel block nobody else.
public actor NodeReconciler {
    public struct Configuration: Sendable {
        public var nodeName: String
        public var components: Set<Component>
        public var overlay: OverlayConfiguration
        public var services: ServiceSettings
        /// Where denied packets are reported.
        public var denialLog: DenialLog
        /// Where the count of policy epochs begins, and the field of the conntrack mark that holds it.
        public var firstEpoch: PolicyEpoch
        /// Whether the nftables tables belong to the agent alone, where the kernel can see to it. Where they do not,
        /// `NodeEvent.rulesetChanged` is to be told, and what others did is undone.
        public var ownsTables = true

        public init(
            nodeName: String, components: Set<Component> = Set(Component.allCases),
            overlay: OverlayConfiguration = OverlayConfiguration(), services: ServiceSettings = ServiceSettings(),
            denialLog: DenialLog = DenialLog(), firstEpoch: PolicyEpoch = PolicyEpoch(1)!
        ) {
            self.nodeName = nodeName
            self.components = components
            self.overlay = overlay
            self.services = services
            self.denialLog = denialLog
            self.firstEpoch = firstEpoch
        }
    }

    private let thread = KernelThread()
    private let configuration: Configuration
    private let logger: Logger
    private var services: ServiceDataplane
    private var policy: PolicyDataplane
    private var overlay: OverlayDataplane
    /// Nothing is written before the objects are known: half a cluster would tear down what the other half needs.
    private var hasObjects = false
    /// Whether the sources' whole lists came in since the last pass.
    private var hasFreshList = false
    private var needsOverlayPass = true
    private var setbacks: [Component: Setback] = [:]
    private var sourceNotes: [Note] = []
    private var revision = ""

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    /// Opens the sockets in the network namespace of the process.
    public init(_ configuration: Configuration, logger: Logger) throws(KernelError) {
        self.configuration = configuration
        self.logger = logger
        services = try ServiceDataplane(
            nodeName: configuration.nodeName, settings: configuration.services, owned: configuration.ownsTables)
        policy = try PolicyDataplane(
            nodeName: configuration.nodeName, log: configuration.denialLog, epoch: configuration.firstEpoch,
            owned: configuration.ownsTables)
        overlay = try OverlayDataplane.open(nodeName: configuration.nodeName, configuration: configuration.overlay)
    }

    /// Takes in what happened and brings the kernel up to date, in one pass for all of it.
    public func apply(_ events: [NodeEvent]) -> SyncReport {
        for event in events {
            switch event {
            case .objects(let objects, let notes, let newRevision):
                for object in objects { apply(object) }
                sourceNotes = notes
                revision = newRevision
            case .attachments(let attachments): policy.setAttachments(attachments)
            case .kernelChanged: needsOverlayPass = true
            case .addressesChanged: services.needsLocalAddresses = true
            case .rulesetChanged(let changes):
                services.heed(changes)
                policy.heed(changes)
            }
        }
        // Why there are none yet is for the source to say.
        guard hasObjects else { return SyncReport(notes: sourceNotes) }
        let report = reconcile()
        if hasFreshList {
            // Making the tables of a whole cluster took much more memory than keeping them up to date will.
            ProcessMemory.releaseUnused()
            hasFreshList = false
        }
        return report
    }

    private func apply(_ event: ObjectEvent) {
        if event == .synced { (hasObjects, hasFreshList) = (true, true) }
        services.apply(event)
        policy.apply(event)
        if overlay.apply(event) { needsOverlayPass = true }
    }

    private func reconcile() -> SyncReport {
        var report = SyncReport(revision: revision, notes: sourceNotes)
        // Policy first: a new pod is closed before a route or a service leads to it.
        attempt(.policy, &report) { () throws(KernelError) in
            try policy.commit()
        }
        attempt(.services, &report) { () throws(KernelError) in
            try services.commit()
        }
        if needsOverlayPass {
            attempt(.overlay, &report) { () throws(KernelError) in
                let changes = try overlay.reconcile()
                needsOverlayPass = false
                return changes
            }
        }
        if configuration.components.contains(.overlay) { report.overlay = overlay.state }
        report.notes += overlay.notes + services.notes + policy.notes
        report.isSynced = report.errors.isEmpty
        report.flowSweep = services.takeFlowSweep()
        if configuration.components.contains(.services) { report.elements[.services] = services.elementCount }
        if configuration.components.contains(.policy) { report.elements[.policy] = policy.elementCount }
        report.retryAfter = setbacks.values.map(\.retryAfter).min()
        if services.isIncomplete { report.retryAfter = min(report.retryAfter ?? .seconds(30), .seconds(30)) }
        return report
    }

    /// Runs one component's pass; its failure is the component's alone.
    private func attempt(
        _ component: Component, _ report: inout SyncReport, _ body: () throws(KernelError) -> Int
    ) {
        guard configuration.components.contains(component) else { return }
        let start = ContinuousClock.now
        if let setback = setbacks[component], start < setback.pauseEnd {
            report.errors.append("\(component.rawValue): \(setback.error)")
            return
        }
        do {
            let changes = try body()
            setbacks[component] = nil
            report.changes += changes
            report.passes.append(
                ComponentPass(component: component, duration: ContinuousClock.now - start, changes: changes))
            if changes > 0 {
                logger.info(
                    "Programmed the kernel",
                    metadata: [
                        "component": "\(component.rawValue)", "changes": "\(changes)", "revision": "\(revision)",
                    ])
            }
        } catch {
            setbacks[component] = Setback(error, after: setbacks[component], at: .now)
            report.errors.append("\(component.rawValue): \(error)")
            report.passes.append(
                ComponentPass(component: component, duration: ContinuousClock.now - start, error: "\(error)"))
            logger.error("The kernel refused", metadata: ["component": "\(component.rawValue)", "error": "\(error)"])
        }
    }
}

/// What a component could not do, and when it is to try again.
///
/// Each attempt reads the whole table, so that a kernel which goes on refusing must not be asked at every event.
private struct Setback {
    let error: KernelError
    let failures: Int
    /// No attempt before this, whatever happens; the first is repeated at the next event.
    let pauseEnd: ContinuousClock.Instant
    let retryAfter: Duration

    init(_ error: KernelError, after last: Setback?, at now: ContinuousClock.Instant) {
        self.error = error
        failures = (last?.failures ?? 0) + 1
        // Twice as long each time, up to 16 seconds, and never the same on all nodes of a cluster.
        retryAfter = .milliseconds(Int.random(in: 500...1000) << min(failures - 1, 4))
        pauseEnd = failures == 1 ? now : now + retryAfter
    }
}
