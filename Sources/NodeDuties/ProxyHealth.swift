public import KubernetesObjects
public import NetworkAddresses

/// Whether the node keeps up with the cluster's changes, as load balancers and kubelets ask for it.
///
/// Meanings, fields and codes are kube-proxy's. One difference: a node that has never been programmed is unhealthy
/// once its first change is overdue; kube-proxy would go on calling it healthy.
public struct ProxyHealth: Sendable {
    /// What the answer to a question about health is.
    public struct Answer: Hashable, Sendable {
        /// 200 or 503.
        public var code: Int
        /// JSON.
        public var body: String
    }

    /// The taint by which the cluster's autoscaler announces a node's end.
    public static let deletionTaint = "ToBeDeletedByClusterAutoscaler"

    private let families: [AddressFamily]
    private let limit: Duration
    private var lastUpdated: Moment?
    private var oldestPending: Duration?
    private var node: Node?

    /// - Parameter families: The address families there are on this node.
    /// - Parameter limit: How long a change may wait to be programmed: twice the period of synchronisation.
    public init(families: [AddressFamily], limit: Duration) {
        self.families = families
        self.limit = limit
    }

    /// There is something to program.
    public mutating func queued(at now: Moment) {
        if oldestPending == nil { oldestPending = now.steady }
    }

    /// All of it has been programmed.
    public mutating func updated(at now: Moment) {
        oldestPending = nil
        lastUpdated = now
    }

    /// What is known of this node's object; nil where there is none.
    public mutating func setNode(_ node: Node?) { self.node = node }

    /// Whether anything has ever been programmed.
    public var isProgrammed: Bool { lastUpdated != nil }

    public func isHealthy(at now: Moment) -> Bool {
        guard let oldestPending else { return true }
        return now.steady - oldestPending < limit
    }

    /// Whether new traffic should come to this node: it is known and nobody is about to remove it.
    public var isNodeEligible: Bool {
        guard let node else { return false }
        return node.metadata.deletionTimestamp == nil && !node.taints.contains { $0.key == Self.deletionTaint }
    }

    /// The answer of `/healthz`: whether traffic should come here.
    public func healthz(at now: Moment) -> Answer {
        answer(at: now, isGood: isHealthy(at: now) && isNodeEligible, nodeEligible: isNodeEligible)
    }

    /// The answer of `/livez`: whether the process does its work, whatever becomes of the node.
    public func livez(at now: Moment) -> Answer { answer(at: now, isGood: isHealthy(at: now), nodeEligible: nil) }

    /// The answer of `/readyz`, which kube-proxy has not: whether this node's services work already.
    public func readyz(at now: Moment) -> Answer {
        if !isProgrammed { return Answer(code: 503, body: "not ready: services have not been programmed yet\n") }
        if !isHealthy(at: now) { return Answer(code: 503, body: "not ready: changes have been waiting for too long\n") }
        return Answer(code: 200, body: "ok\n")
    }

    private func answer(at now: Moment, isGood: Bool, nodeEligible: Bool?) -> Answer {
        let never = "0001-01-01T00:00:00Z"
        let updated = lastUpdated.map { RFC3339.text(nanoseconds: $0.wall) } ?? never
        let isHealthy = isHealthy(at: now)
        var body: FieldValue = [
            // Asked in good times, it is always just up to date; programs have come to rely on that.
            "lastUpdated": .string(isGood ? RFC3339.text(nanoseconds: now.wall) : updated),
            "currentTime": .string(RFC3339.text(nanoseconds: now.wall)),
        ]
        if let nodeEligible { body["nodeEligible"] = .bool(nodeEligible) }
        body["healthy"] = .bool(isHealthy)
        if isProgrammed || !isHealthy {
            body["status"] = .object(
                FieldObject(
                    families.map { family in
                        .init(
                            key: family == .ipv4 ? "IPv4" : "IPv6",
                            value: ["lastUpdated": .string(updated), "healthy": .bool(isHealthy)])
                    }))
        }
        return Answer(code: isGood ? 200 : 503, body: body.description)
    }
}

/// Times as Go's JSON has them.
public enum RFC3339 {
    /// `2026-01-31T12:00:00.5Z`, without trailing zeros.
    public static func text(nanoseconds: Int64) -> String {
        let (whole, fraction) = parts(nanoseconds, 1_000_000_000)
        let text = Timestamp(secondsSince1970: whole).description
        guard fraction > 0 else { return text }
        var digits = String(fraction + 1_000_000_000).dropFirst()
        while digits.hasSuffix("0") { digits.removeLast() }
        return "\(text.dropLast()).\(digits)Z"
    }

    /// `2026-01-31T12:00:00.500000Z`, as the type MicroTime wants it.
    static func micro(nanoseconds: Int64) -> String {
        let (whole, fraction) = parts(nanoseconds, 1_000_000_000)
        let digits = String(fraction / 1000 + 1_000_000).dropFirst()
        return "\(Timestamp(secondsSince1970: whole).description.dropLast()).\(digits)Z"
    }

    private static func parts(_ value: Int64, _ unit: Int64) -> (Int64, Int64) {
        let rest = value % unit
        return rest < 0 ? (value / unit - 1, rest + unit) : (value / unit, rest)
    }
}
