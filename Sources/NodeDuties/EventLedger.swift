public import KubernetesObjects

/// Something worth telling the people who look at an object (`kubectl describe`).
public struct ObjectNews: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable {
        case normal = "Normal"
        case warning = "Warning"
    }

    public var kind: Kind
    /// The object it is about.
    public var object: ObjectReference
    /// Its uid; for nodes, by old custom, their name.
    public var uid: String
    /// One word for programs.
    public var reason: String
    /// What was being done, in one word.
    public var action: String
    /// A sentence for people.
    public var note: String

    public init(
        _ kind: Kind, _ object: ObjectReference, uid: String = "", reason: String, action: String, note: String
    ) {
        self.kind = kind
        self.object = object
        self.uid = uid
        self.reason = reason
        self.action = action
        self.note = note
    }

    /// News of a node, as kube-proxy has them.
    public static func node(_ name: String, _ kind: Kind, reason: String, note: String = "") -> ObjectNews {
        ObjectNews(
            kind, ObjectReference(kind: .node, namespace: nil, name: name), uid: name, reason: reason,
            action: "StartKubeProxy", note: note)
    }
}

/// Decides which news become Event objects, so that no storm of them reaches the API server.
///
/// The same news are told once in ten minutes, and all news together draw on a budget that fills up slowly.
public struct EventLedger: Sendable {
    private static let repetition = Duration.seconds(600)
    private static let most = 25.0
    /// Seconds for one more.
    private static let refill = 10.0
    /// More than that is not remembered.
    private static let memory = 1000

    private let controller: String
    private let nodeName: String
    private var told: [ObjectNews: Duration] = [:]
    private var budget = most
    private var counted = Duration.zero
    private var number = 0

    /// - Parameter controller: Who says it, such as `kube-proxy`.
    public init(controller: String, nodeName: String) {
        self.controller = controller
        self.nodeName = nodeName
    }

    /// The Event (`events.k8s.io/v1`) to create, and where; nil where nothing is to be told.
    public mutating func event(for news: ObjectNews, at now: Moment) -> (path: String, body: FieldValue)? {
        if let last = told[news], now.steady - last < Self.repetition { return nil }
        budget = min(Self.most, budget + (now.steady - counted).inSeconds / Self.refill)
        counted = now.steady
        guard budget >= 1 else { return nil }
        budget -= 1
        if told.count >= Self.memory { told = told.filter { now.steady - $0.value < Self.repetition } }
        if told.count < Self.memory { told[news] = now.steady }
        number += 1
        let namespace = news.object.namespace ?? "default"
        var regarding: FieldValue = [
            "apiVersion": .string(news.object.kind.apiVersion), "kind": .string(news.object.kind.description),
            "name": .string(news.object.name),
        ]
        if let own = news.object.namespace { regarding["namespace"] = .string(own) }
        if !news.uid.isEmpty { regarding["uid"] = .string(news.uid) }
        let name = String(news.object.name.prefix(200))
        return (
            "/apis/events.k8s.io/v1/namespaces/\(namespace)/events",
            [
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": [
                    "name": .string("\(name).\(String(now.wall + Int64(number), radix: 16))"),
                    "namespace": .string(namespace),
                ],
                "eventTime": .string(RFC3339.micro(nanoseconds: now.wall)), "type": .string(news.kind.rawValue),
                "reason": .string(news.reason), "action": .string(news.action), "regarding": regarding,
                // The API server refuses longer ones.
                "note": .string(String(news.note.prefix(1000))), "reportingController": .string(controller),
                "reportingInstance": .string("\(controller)-\(nodeName)"),
            ]
        )
    }
}
