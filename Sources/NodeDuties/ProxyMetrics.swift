public import NetworkAddresses

/// What `/metrics` tells: kube-proxy's metrics by their names, labels and buckets, then our own.
///
/// Both address families are programmed by one transaction, so what kube-proxy measures for each is the same for both.
public struct ProxyMetrics: Sendable {
    /// What the page says of things that others know.
    public struct Gauges: Sendable {
        /// Services of internal, and of external, policy Local that have endpoints, but none here.
        public var withoutLocalInternal: [AddressFamily: Int] = [:]
        public var withoutLocalExternal: [AddressFamily: Int] = [:]
        /// What is wrong with objects, by their kind.
        public var notes: [String: Int] = [:]
        /// Elements of sets and maps that are programmed, by component.
        public var elements: [String: Int] = [:]
        /// Bytes of transactions sent to nftables.
        public var bytesSent = 0
        public var residentBytes = 0
        public var cpuSeconds = 0.0
        public var openFiles = 0
        public var mostOpenFiles = 0
        public var virtualBytes = 0
        /// Requests to API servers that ended alike, by labels of Kubernetes' clients.
        public var requests: [(labels: [(name: String, value: String)], count: Int)] = []
        public var startTime = 0.0

        public init() {}
    }

    /// How one component's part of a pass went.
    public struct Pass: Sendable {
        public var component: String
        public var duration: Duration
        public var changes: Int
        public var failed: Bool

        public init(component: String, duration: Duration, changes: Int, failed: Bool) {
            self.component = component
            self.duration = duration
            self.changes = changes
            self.failed = failed
        }
    }

    private struct ComponentCounts: Sendable {
        var passes = Histogram(bounds: ProxyMetrics.doubling)
        var changes = 0
        var batches = 0
        var failures = 0
    }

    private let families: [AddressFamily]
    private var sync = Histogram(bounds: Self.doubling)
    private var fullSync = Histogram(bounds: Self.doubling)
    private var partialSync = Histogram(bounds: Self.doubling)
    private var programming: [AddressFamily: Histogram]
    private var flowSync = Histogram(bounds: Self.doubling)
    private var flowsDeleted = 0
    private var lastQueued = 0.0
    private var lastSynced = 0.0
    private var servicesPending = 0
    private var servicesTotal = 0
    private var endpointsPending = 0
    private var endpointsTotal = 0
    private var syncFailures = 0
    private var isWhole = false
    private var healthz: [Int: Int] = [:]
    private var livez: [Int: Int] = [:]
    private var components: [String: ComponentCounts] = [:]

    /// 1 ms to 16 s.
    private static let doubling = (0..<15).map { 0.001 * Double(1 << $0) }
    /// A quarter of a second to five minutes.
    private static let latency: [Double] =
        [0.25, 0.5] + (1...59).map(Double.init) + (0..<12).map { Double(60 + 5 * $0) }
        + (0..<7).map { Double(120 + 30 * $0) }

    public init(families: [AddressFamily]) {
        self.families = families
        programming = Dictionary(uniqueKeysWithValues: families.map { ($0, Histogram(bounds: Self.latency)) })
    }

    /// Changes of services and endpoint slices arrived.
    public mutating func queued(services: Int, endpoints: Int, at now: Moment) {
        servicesPending += services
        servicesTotal += services
        endpointsPending += endpoints
        endpointsTotal += endpoints
        lastQueued = now.seconds
    }

    /// The services' part of a pass is over.
    ///
    /// - Parameter triggers: When what led to the changes of slices happened, in nanoseconds since 1970.
    public mutating func synced(_ pass: Pass, triggers: [(family: AddressFamily, time: Int64)], at now: Moment) {
        let seconds = pass.duration.inSeconds
        guard !pass.failed else {
            syncFailures += 1
            isWhole = false
            return
        }
        sync.observe(seconds)
        // After a start or a refusal the kernel's table is read and compared as a whole.
        if isWhole { partialSync.observe(seconds) } else { fullSync.observe(seconds) }
        isWhole = true
        lastSynced = now.seconds
        servicesPending = 0
        endpointsPending = 0
        for trigger in triggers {
            programming[trigger.family]?.observe(max(0, Double(now.wall - trigger.time) / 1e9))
        }
    }

    /// A component's part of a pass is over.
    public mutating func passed(_ pass: Pass) {
        var counts = components[pass.component] ?? ComponentCounts()
        counts.passes.observe(pass.duration.inSeconds)
        counts.changes += pass.changes
        counts.batches += pass.changes > 0 ? 1 : 0
        counts.failures += pass.failed ? 1 : 0
        components[pass.component] = counts
    }

    /// Connections were looked through for some whose endpoint is gone.
    public mutating func reconciledFlows(in duration: Duration, deleted: Int) {
        flowSync.observe(duration.inSeconds)
        flowsDeleted += deleted
    }

    public mutating func answeredHealthz(_ code: Int) { healthz[code, default: 0] += 1 }
    public mutating func answeredLivez(_ code: Int) { livez[code, default: 0] += 1 }

    /// The content type of the page.
    public static var contentType: String { Exposition.contentType }

    /// The page.
    public func page(_ gauges: Gauges) -> String {
        var page = Exposition()
        writeProxy(gauges, to: &page)
        writeOwn(gauges, to: &page)
        writeProcess(gauges, to: &page)
        writeRequests(gauges, to: &page)
        return page.text
    }

    /// The page `/metrics/slis`: the answers about health, for service levels to be computed from.
    ///
    /// kube-proxy's has the start of the process only; the names are those of the components that have more.
    public static func serviceLevelPage(startTime: Double, checks: [(name: String, answer: ProxyHealth.Answer)])
        -> String
    {
        var page = Exposition()
        page.gauge(
            "kubernetes_healthcheck", "The result of a check: 1 is good",
            checks.map { ([("name", "proxy"), ("type", $0.name)], $0.answer.code == 200 ? 1 : 0) })
        page.gauge("process_start_time_seconds", "When the process began", [([], startTime)])
        return page.text
    }

    // MARK: - Parts of the page

    private func byFamily<Value>(_ value: Value) -> [(Labels, Value)] {
        families.map { ([("ip_family", Self.name($0))], value) }
    }

    private static func name(_ family: AddressFamily) -> String { family == .ipv4 ? "IPv4" : "IPv6" }

    private func writeProxy(_ gauges: Gauges, to page: inout Exposition) {
        page.counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Connections forgotten because their endpoint is gone",
            byFamily(Double(flowsDeleted)))
        page.histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds", "Time to look through the connections",
            byFamily(flowSync))
        page.histogram(
            "kubeproxy_network_programming_duration_seconds", "Time from a change of endpoints to its being programmed",
            families.compactMap { family in programming[family].map { ([("ip_family", Self.name(family))], $0) } })
        page.counter("kubeproxy_proxy_healthz_total", "Answers of /healthz", Self.byCode(healthz))
        page.counter("kubeproxy_proxy_livez_total", "Answers of /livez", Self.byCode(livez))
        page.histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", "Time of passes that compared everything",
            byFamily(fullSync))
        page.histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time of passes that programmed changes",
            byFamily(partialSync))
        page.gauge(
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changes of endpoints not programmed yet",
            [([], Double(endpointsPending))])
        page.counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of endpoints", [([], Double(endpointsTotal))])
        page.histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time of passes", byFamily(sync))
        page.gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When something to program last came",
            byFamily(lastQueued))
        page.gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When all was last programmed", byFamily(lastSynced))
        page.counter(
            "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
            "Never: nothing is left to be cleaned up later",
            byFamily(0))
        page.counter(
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Passes the kernel refused",
            byFamily(Double(syncFailures)))
        var withoutLocal: [(Labels, Double)] = []
        for (policy, counts) in [("external", gauges.withoutLocalExternal), ("internal", gauges.withoutLocalInternal)] {
            for family in families {
                withoutLocal.append(
                    (
                        [("ip_family", Self.name(family)), ("traffic_policy", policy)],
                        Double(counts[family] ?? 0)
                    ))
            }
        }
        page.gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Services of a policy Local that have endpoints, but none here", withoutLocal)
        page.gauge(
            "kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of services not programmed yet",
            [([], Double(servicesPending))])
        page.counter(
            "kubeproxy_sync_proxy_rules_service_changes_total", "Changes of services", [([], Double(servicesTotal))])
    }

    private func writeOwn(_ gauges: Gauges, to page: inout Exposition) {
        func byComponent<Value>(_ value: (ComponentCounts) -> Value) -> [(Labels, Value)] {
            components.sorted { $0.key < $1.key }.map { ([("component", $0.key)], value($0.value)) }
        }
        func sorted(_ label: String, _ values: [String: Int]) -> [(Labels, Double)] {
            values.sorted { $0.key < $1.key }.map { ([(label, $0.key)], Double($0.value)) }
        }
        page.counter(
            "fairlead_batches_total", "Transactions in which the kernel was changed",
            byComponent { Double($0.batches) })
        page.counter("fairlead_batch_bytes_total", "Size of the transactions", [([], Double(gauges.bytesSent))])
        page.counter("fairlead_changes_total", "Edits made in the kernel", byComponent { Double($0.changes) })
        page.gauge("fairlead_elements", "Elements of sets and maps", sorted("component", gauges.elements))
        page.gauge("fairlead_notes", "What is wrong with objects", sorted("kind", gauges.notes))
        page.histogram("fairlead_pass_duration_seconds", "Time of a component's part of a pass", byComponent(\.passes))
        page.counter("fairlead_pass_failures_total", "Passes the kernel refused", byComponent { Double($0.failures) })
    }

    private func writeProcess(_ gauges: Gauges, to page: inout Exposition) {
        page.counter("process_cpu_seconds_total", "Processor time used", [([], gauges.cpuSeconds)])
        page.gauge("process_max_fds", "How many files may be open", [([], Double(gauges.mostOpenFiles))])
        page.gauge("process_open_fds", "Open files", [([], Double(gauges.openFiles))])
        page.gauge("process_resident_memory_bytes", "Resident memory", [([], Double(gauges.residentBytes))])
        page.gauge("process_start_time_seconds", "When the process began", [([], gauges.startTime)])
        page.gauge("process_virtual_memory_bytes", "Address space used", [([], Double(gauges.virtualBytes))])
    }

    private func writeRequests(_ gauges: Gauges, to page: inout Exposition) {
        let samples: [(Labels, Double)] = gauges.requests.map { ($0.labels, Double($0.count)) }
        page.counter(
            "rest_client_requests_total", "Requests to API servers, by how they ended",
            samples.sorted { "\($0.0)" < "\($1.0)" })
    }

    private static func byCode(_ counts: [Int: Int]) -> [(Labels, Double)] {
        counts.sorted { $0.key < $1.key }.map { ([("code", "\($0.key)")], Double($0.value)) }
    }
}
