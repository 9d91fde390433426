import FoundationEssentials
import KernelInterface
import KubernetesClient
import KubernetesObjects
import NetworkAddresses
import NodeDuties
import Reconciliation
import Synchronization

/// What the node's HTTP pages tell: fed by what goes into the reconciler and what comes out of it.
final class DutyState: Sendable {
    private struct State {
        var health: ProxyHealth
        var metrics: ProxyMetrics
        var local: LocalEndpoints
        var node: Node?
        /// Nothing is overdue before the objects are known as a whole.
        var isListed = false
        /// Times of what led to changes of endpoints that are not programmed yet, in nanoseconds since 1970.
        var triggers: [(family: AddressFamily, time: Int64)] = []
        var hasServiceChanges = false
        var notes: [String: Int] = [:]
        var elements: [String: Int] = [:]
        var nodeNames: Set<String> = []
    }

    private let state: Mutex<State>
    private let nodeName: String
    private let families: [AddressFamily]
    private let components: Set<Component>
    private let start: Moment
    private let requests: RequestCounts

    /// Whether the host has IPv6 switched on.
    var hasIPv6: Bool { families.contains(.ipv6) }

    /// - Parameter limit: How long a change may wait before the node counts as unhealthy.
    init(nodeName: String, components: Set<Component>, limit: Duration, requests: RequestCounts) {
        self.requests = requests
        self.nodeName = nodeName
        self.components = components
        families = Self.familiesOfThisHost
        start = .now
        state = Mutex(
            State(
                health: ProxyHealth(families: families, limit: limit), metrics: ProxyMetrics(families: families),
                local: LocalEndpoints(nodeName: nodeName)))
    }

    private static var familiesOfThisHost: [AddressFamily] {
        let isOff = try? KernelSetting.read(["net", "ipv6", "conf", "all", "disable_ipv6"])
        return isOff == "0" ? [.ipv4, .ipv6] : [.ipv4]
    }

    // MARK: - What happens

    /// Takes in what the reconciler is about to be told.
    ///
    /// - Returns: Whether load balancers are to be answered at other places now: other ports, or other addresses.
    func taken(_ events: [NodeEvent]) -> Bool {
        let now = Moment.now
        return state.withLock { state in
            var (services, endpoints, others) = (0, 0, 0)
            let addresses = state.node?.internalIPs
            var movesPorts = events.contains { if case .addressesChanged = $0 { true } else { false } }
            for case .objects(let objects, _, _) in events {
                for event in objects {
                    if state.local.apply(event) { movesPorts = true }
                    switch event {
                    case .synced: state.isListed = true
                    case .set(.service), .removed(ObjectReference.of(.service)): services += 1
                    case .set(.endpointSlice(let slice)):
                        endpoints += 1
                        // What happened before this process began is not its delay.
                        if let trigger = slice.lastTrigger?.nanosecondsSince1970, trigger >= start.wall {
                            state.triggers.append((slice.family, trigger))
                        }
                    case .removed(ObjectReference.of(.endpointSlice)): endpoints += 1
                    case .set(.node(let node)):
                        state.nodeNames.insert(node.name)
                        if node.name == nodeName { state.node = node }
                        others += 1
                    case .removed(ObjectReference.of(.node)):
                        if case .removed(let reference) = event {
                            state.nodeNames.remove(reference.name)
                            if reference.name == nodeName { state.node = nil }
                        }
                        others += 1
                    default: others += 1
                    }
                }
            }
            state.health.setNode(state.node)
            if services + endpoints > 0 { state.metrics.queued(services: services, endpoints: endpoints, at: now) }
            if services + endpoints + others > 0 { state.hasServiceChanges = true }
            if state.isListed { state.health.queued(at: now) }
            return movesPorts || state.node?.internalIPs != addresses
        }
    }

    /// Takes in what came of it.
    func reported(_ report: SyncReport) {
        let now = Moment.now
        state.withLock { state in
            for pass in report.passes {
                let figures = ProxyMetrics.Pass(
                    component: pass.component.rawValue, duration: pass.duration, changes: pass.changes,
                    failed: pass.error != nil)
                state.metrics.passed(figures)
                guard pass.component == .services, state.hasServiceChanges || pass.changes > 0 || figures.failed else {
                    continue
                }
                state.metrics.synced(figures, triggers: state.triggers, at: now)
                if !figures.failed {
                    state.triggers = []
                    state.hasServiceChanges = false
                }
            }
            if isProgrammed(report) { state.health.updated(at: now) }
            if let sweep = report.flowSweep {
                state.metrics.reconciledFlows(in: sweep.duration, deleted: sweep.forgotten)
            }
            for (component, count) in report.elements { state.elements[component.rawValue] = count }
            state.notes = [:]
            for note in report.notes { state.notes[note.object?.kind.description ?? "none", default: 0] += 1 }
        }
    }

    /// Whether what a proxy stands for is in the kernel; where there is no proxy, everything else counts.
    private func isProgrammed(_ report: SyncReport) -> Bool {
        guard components.contains(.services) else { return report.isSynced }
        return report.passes.contains { $0.component == .services && $0.error == nil }
    }

    // MARK: - What is told

    /// Whether this is the one node that tells the cluster of what is wrong with an object, which all nodes notice.
    func speaks(of object: ObjectReference) -> Bool {
        func lot(_ node: String) -> UInt64 { StableHash(node, object.description).value }
        return state.withLock { state in
            let own = lot(nodeName)
            return state.nodeNames.contains(nodeName) && state.nodeNames.allSatisfy { lot($0) >= own }
        }
    }

    var healthz: ProxyHealth.Answer {
        state.withLock { state in
            let answer = state.health.healthz(at: .now)
            state.metrics.answeredHealthz(answer.code)
            return answer
        }
    }

    var livez: ProxyHealth.Answer {
        state.withLock { state in
            let answer = state.health.livez(at: .now)
            state.metrics.answeredLivez(answer.code)
            return answer
        }
    }

    var readyz: ProxyHealth.Answer { state.withLock { $0.health.readyz(at: .now) } }

    /// Whether anything has been programmed since the start.
    var isProgrammed: Bool { state.withLock(\.health.isProgrammed) }

    /// This node's object, as it is known.
    var node: Node? { state.withLock(\.node) }

    /// The ports at which load balancers ask for services' endpoints.
    var checks: Set<LocalEndpoints.Check> { state.withLock { $0.local.checks } }

    func uid(of service: NamespacedName) -> String { state.withLock { $0.local.uid(of: service) } }

    func answer(to check: LocalEndpoints.Check) -> LoadBalancerAnswer {
        state.withLock { state in
            LoadBalancerAnswer(
                service: check.service, localEndpoints: state.local.readyAddresses(of: check.service, check.family),
                isProxyHealthy: state.health.isHealthy(at: .now))
        }
    }

    /// When the process began, as text, and for how many seconds it has been running.
    var uptime: (started: String, seconds: Int) {
        (
            RFC3339.text(nanoseconds: start.wall / 1_000_000_000 * 1_000_000_000),
            Int((Moment.now.steady - start.steady).components.seconds)
        )
    }

    /// The page of what service levels are computed from.
    var serviceLevel: String {
        state.withLock { state in
            let now = Moment.now
            return ProxyMetrics.serviceLevelPage(
                startTime: start.seconds,
                checks: [
                    ("healthz", state.health.healthz(at: now)), ("livez", state.health.livez(at: now)),
                    ("readyz", state.health.readyz(at: now)),
                ])
        }
    }

    /// The page of metrics.
    var metrics: String {
        var gauges = ProxyMetrics.Gauges()
        gauges.startTime = start.seconds
        if let figures = try? ProcessFigures.current() {
            gauges.residentBytes = figures.residentBytes
            gauges.cpuSeconds = figures.processorTime.inSeconds
            gauges.openFiles = figures.openFiles
            gauges.mostOpenFiles = figures.mostOpenFiles
            gauges.virtualBytes = figures.virtualBytes
        }
        gauges.requests = requests.current.map { kind, count in
            (labels: [("code", kind.code), ("host", kind.host), ("method", kind.method)], count: count)
        }
        return state.withLock { state in
            for family in families {
                let counts = state.local.servicesWithoutLocal(family)
                gauges.withoutLocalInternal[family] = counts.internal
                gauges.withoutLocalExternal[family] = counts.external
            }
            gauges.notes = state.notes
            gauges.elements = state.elements
            gauges.bytesSent = NftablesSocket.bytesSent
            return state.metrics.page(gauges)
        }
    }
}

extension Moment {
    static var now: Moment {
        Moment(wall: Int64(Date().timeIntervalSince1970 * 1e9), steady: ContinuousClock.now - processStart)
    }

    private static let processStart = ContinuousClock.now
}

extension ObjectReference {
    /// Matches references of a kind.
    fileprivate struct Pattern { var kind: ObjectKind }

    fileprivate static func of(_ kind: ObjectKind) -> Pattern { Pattern(kind: kind) }

    fileprivate static func ~= (pattern: Pattern, reference: ObjectReference) -> Bool { reference.kind == pattern.kind }
}
