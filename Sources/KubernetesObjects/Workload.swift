/// A Deployment, StatefulSet, DaemonSet or ReplicaSet: so many pods after one pattern.
public struct Workload: Hashable, Sendable {
    public enum Kind: Hashable, Sendable, CaseIterable {
        case deployment, statefulSet, daemonSet, replicaSet

        public var objectKind: ObjectKind {
            switch self {
            case .deployment: .deployment
            case .statefulSet: .statefulSet
            case .daemonSet: .daemonSet
            case .replicaSet: .replicaSet
            }
        }
    }

    public var kind: Kind
    public var metadata: ObjectMetadata
    /// How many pods; of no meaning for a DaemonSet, which has one on each node.
    public var replicas: Int
    public var selector: LabelSelector
    public var template: PodTemplate
    /// The first number of a StatefulSet's pods.
    public var firstOrdinal: Int

    public init(
        kind: Kind,
        metadata: ObjectMetadata,
        replicas: Int = 1,
        selector: LabelSelector,
        template: PodTemplate,
        firstOrdinal: Int = 0
    ) {
        self.kind = kind
        self.metadata = metadata
        self.replicas = replicas
        self.selector = selector
        self.template = template
        self.firstOrdinal = firstOrdinal
    }

    public var key: NamespacedName { metadata.key }
}

/// The pattern of a workload's pods.
public struct PodTemplate: Hashable, Sendable {
    public var labels: [String: String]
    public var spec: PodSpec
    /// The template as it was written, from which whole pods can be made.
    public var tree: FieldValue

    public init(labels: [String: String], spec: PodSpec, tree: FieldValue = [:]) {
        self.labels = labels
        self.spec = spec
        self.tree = tree
    }
}

// MARK: - Reading

extension Workload {
    init(_ kind: Kind, reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        let spec = try root["spec"]
        let selector = try spec["selector"]
        self.init(
            kind: kind, metadata: metadata, selector: try selector.read(), template: try spec["template"].read())
        guard !self.selector.isEmpty else { throw selector.error("is empty") }
        guard self.selector.matches(template.labels) else {
            throw try spec["template"]["metadata"]["labels"].error("are not matched by spec.selector")
        }
        // More pods than any cluster holds are a typing error, and would be made one by one.
        replicas = try spec["replicas"].readCount(upTo: 100_000) ?? 1
        firstOrdinal = try spec["ordinals"]["start"].readCount(upTo: 1_000_000) ?? 0
    }
}

extension FieldReader {
    fileprivate func readCount(upTo limit: Int) throws(FieldError) -> Int? {
        guard let count = try readIfPresent(as: Int.self) else { return nil }
        guard (0...limit).contains(count) else { throw error("\(count) is not within 0 to \(limit)") }
        return count
    }
}

extension PodTemplate: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        let labels: [String: String]? = try field["metadata"]["labels"].readIfPresent()
        self.init(labels: labels ?? [:], spec: try field["spec"].read(), tree: field.value)
    }
}
