import KubernetesObjects

/// What these tests assume of a Kubernetes API server; nothing else about one is assumed anywhere here.
///
/// 1. There is one version for all resources; every change takes the next one. Versions are text.
/// 2. A list is of one moment and says its version. With `limit` it comes in pages, in the order of names, all of the
///    first page's moment; `continue` asks for the next. A continuation of a compacted moment is refused: 410 Expired.
/// 3. A watch from a version sends every later change of its resource, in order, each once; from a compacted version
///    it sends one ERROR with a Status of code 410, or is refused with 410 at once.
/// 4. A watch with `sendInitialEvents` sends ADDED for everything there is, then a BOOKMARK with the annotation
///    `k8s.io/initial-events-end`, then changes. A server that has no streaming lists refuses it with 422, one whose
///    etcd is too old for them (before 3.5.13) with 500.
/// 5. BOOKMARKs say a version up to which there is nothing more to say; they may come at any time or never.
/// 6. A DELETED event holds the object's last state, with the version of the deletion.
/// 7. Items of a list do not say their kind; objects of events do.
/// 8. An unknown collection is 404; a missing right 403, with a Status that names user, verb and resource; no or bad
///    credentials 401; too many requests 429 with Retry-After in seconds. A field selector that a version lacks is 400.
/// 9. The server may end a watch whenever it likes, and a list may be cut off anywhere by the network.
///
/// The agent was run against kube-apiserver 1.36.2 with etcd 3.6.13, and for the refusal in 4 with etcd 3.5.1; 1, 6, 9 and
/// the expired page of 2 are the API's documentation, and were not looked at one by one. Seen besides: after a restart
/// it takes up a watch whose version its new cache knows and answers others with an ERROR of 410, as in 3; the body of a
/// 429 is plain text and no Status; and it serves the pages of a compacted moment from a snapshot while it has one, so
/// that 410 for a page is rarer there than here.
struct ServerModel: Sendable {
    struct Change: Sendable {
        var version: Int
        var path: String
        var type: String
        var tree: FieldValue
    }

    private(set) var version = 100
    private(set) var objects: [String: [String: FieldValue]] = [:]
    private var history: [Change] = []
    /// Changes up to this version are forgotten.
    private(set) var compacted = 0
    /// The rest of the lists that were begun.
    private var continuations: [String: (version: Int, rest: [FieldValue])] = [:]
    /// What collections there are; others are 404.
    var paths: Set<String>
    var hasStreams = true

    init(paths: Set<String>) { self.paths = paths }

    mutating func set(_ path: String, _ tree: FieldValue) {
        let key = Self.key(tree)
        version += 1
        let tree = Self.versioned(tree, version)
        let type = objects[path]?[key] == nil ? "ADDED" : "MODIFIED"
        objects[path, default: [:]][key] = tree
        history.append(Change(version: version, path: path, type: type, tree: tree))
    }

    mutating func remove(_ path: String, _ key: String) {
        guard let tree = objects[path]?.removeValue(forKey: key) else { return }
        version += 1
        history.append(
            Change(version: version, path: path, type: "DELETED", tree: Self.versioned(tree, version)))
    }

    /// Forgets all changes so far.
    mutating func compact() {
        compacted = version
        history = []
    }

    enum Page: Sendable {
        case items([FieldValue], version: Int, token: String)
        case expired
    }

    mutating func page(_ path: String, limit: Int?, token: String) -> Page {
        var rest: [FieldValue]
        let moment: Int
        if token.isEmpty {
            rest = (objects[path] ?? [:]).sorted { $0.key < $1.key }.map(\.value)
            moment = version
        } else {
            guard let continuation = continuations[token], continuation.version >= compacted else { return .expired }
            (moment, rest) = continuation
        }
        guard let limit, rest.count > limit else { return .items(rest, version: moment, token: "") }
        let next = "page-\(continuations.count)"
        continuations[next] = (moment, Array(rest.dropFirst(limit)))
        return .items(Array(rest.prefix(limit)), version: moment, token: next)
    }

    /// The changes after a version; nil where they are forgotten.
    func changes(_ path: String, after version: Int) -> [Change]? {
        version < compacted ? nil : history.filter { $0.path == path && $0.version > version }
    }

    static func key(_ tree: FieldValue) -> String {
        "\(tree["metadata"]?["namespace"]?.string ?? "")/\(tree["metadata"]?["name"]?.string ?? "")"
    }

    private static func versioned(_ tree: FieldValue, _ version: Int) -> FieldValue {
        var tree = tree
        tree["metadata"]?["resourceVersion"] = .string("\(version)")
        return tree
    }
}

// MARK: - What goes over the wire

extension ServerModel {
    static func list(kind: String, apiVersion: String, _ items: [FieldValue], version: Int, token: String) -> String {
        var metadata: FieldValue = ["resourceVersion": .string("\(version)")]
        if !token.isEmpty { metadata["continue"] = .string(token) }
        let bare = items.map { item in
            var item = item
            item["kind"] = nil
            item["apiVersion"] = nil
            return item
        }
        let list: FieldValue = [
            "kind": .string("\(kind)List"), "apiVersion": .string(apiVersion), "metadata": metadata,
            "items": .array(bare),
        ]
        return list.description
    }

    static func event(_ type: String, _ tree: FieldValue) -> String {
        let event: FieldValue = ["type": .string(type), "object": tree]
        return event.description + "\n"
    }

    static func bookmark(kind: String, version: Int, endsInitialEvents: Bool = false) -> String {
        var metadata: FieldValue = ["resourceVersion": .string("\(version)")]
        if endsInitialEvents { metadata["annotations"] = ["k8s.io/initial-events-end": "true"] }
        return event("BOOKMARK", ["kind": .string(kind), "metadata": metadata])
    }

    static func status(_ code: Int, _ reason: String, _ message: String = "") -> FieldValue {
        [
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": .integer(code),
            "reason": .string(reason), "message": .string(message),
        ]
    }
}

// MARK: - Objects

func service(_ name: String, _ address: String = "10.96.0.10", port: Int = 80) -> FieldValue {
    [
        "kind": "Service", "apiVersion": "v1", "metadata": ["name": .string(name), "namespace": "shop"],
        "spec": [
            "clusterIP": .string(address), "clusterIPs": [.string(address)], "type": "ClusterIP",
            "ports": [["port": .integer(port), "protocol": "TCP", "targetPort": 8080]],
        ],
    ]
}

func endpointSlice(_ name: String, of service: String, _ addresses: [String]) -> FieldValue {
    [
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": [
            "name": .string(name), "namespace": "shop", "labels": ["kubernetes.io/service-name": .string(service)],
        ],
        "addressType": "IPv4",
        "endpoints": .array(addresses.map { ["addresses": [.string($0)], "conditions": ["ready": true]] }),
        "ports": [["name": "", "port": 8080, "protocol": "TCP"]],
    ]
}

func node(_ name: String) -> FieldValue {
    ["kind": "Node", "apiVersion": "v1", "metadata": ["name": .string(name)]]
}
