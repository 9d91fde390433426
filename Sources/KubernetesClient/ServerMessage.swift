import KubernetesObjects

/// One object as the server says it, with what it says of its version.
struct VersionedObject: Hashable, Sendable {
    var name: NamespacedName
    var version: String
    /// Nil where the object cannot be used, or is of no use.
    var object: KubernetesObject?
    /// Whether it cannot be used, so that an earlier state of it stays in force.
    var isRefused = false
    var notes: [Note] = []
}

/// What a `Status` says: the server's way of refusing.
struct ServerStatus: Hashable, Sendable {
    var code: Int
    /// One word for programs: `Expired`, `Forbidden`.
    var reason: String
    /// A sentence for people.
    var message: String

    init(code: Int, reason: String = "", message: String = "") {
        self.code = code
        self.reason = reason
        self.message = message
    }

    /// Reads the body of an answer; one that is no Status is described by its code alone.
    ///
    /// - Parameter code: The answer's own; nil for an ERROR event, of which only the body has one.
    init(code: Int?, body: FieldValue?) {
        self.init(code: code ?? 0)
        guard let body, body["kind"]?.string == "Status" else { return }
        if code == nil, case .integer(let number) = body["code"] { self.code = number }
        reason = body["reason"]?.string ?? ""
        message = body["message"]?.string ?? ""
    }
}

/// One event of a watch.
enum WatchChange: Hashable, Sendable {
    case changed(VersionedObject)
    case removed(NamespacedName, version: String)
    /// Nothing happened up to this version.
    case bookmark(version: String, endsInitialEvents: Bool)
    case refused(ServerStatus)
}

/// The end of a page of a list.
struct PageEnd: Hashable, Sendable {
    var version: String
    /// What to ask the next page with; empty after the last one.
    var token: String
}

/// What the server sent is not what a watch or a list looks like.
struct Gibberish: Error, CustomStringConvertible {
    var description: String
}

/// Reads the server's messages about one resource.
struct MessageReader: Sendable {
    let kind: ObjectKind
    /// The server, as notes name it.
    let source: String

    func change(_ line: [UInt8]) throws(Gibberish) -> WatchChange {
        let tree = try tree(line, "an event of the watch")
        guard let type = tree["type"]?.string, let body = tree["object"] else {
            throw Gibberish(description: "an event of the watch has no type and object")
        }
        switch type {
        case "ADDED", "MODIFIED": return .changed(try object(body))
        case "DELETED":
            guard let name = name(body) else {
                throw Gibberish(description: "an event of the watch removes an object without a name")
            }
            return .removed(name, version: version(body))
        case "BOOKMARK":
            let version = version(body)
            // To go on from nowhere would lose what was removed meanwhile.
            guard !version.isEmpty else { throw Gibberish(description: "a bookmark has no version") }
            let annotation = body["metadata"]?["annotations"]?["k8s.io/initial-events-end"]?.string
            return .bookmark(version: version, endsInitialEvents: annotation == "true")
        case "ERROR": return .refused(ServerStatus(code: nil, body: body))
        default: throw Gibberish(description: "an event of the watch is of an unknown type")
        }
    }

    func item(_ bytes: [UInt8]) throws(Gibberish) -> VersionedObject {
        try object(try tree(bytes, "an item of the list"))
    }

    func end(_ envelope: [UInt8]) throws(Gibberish) -> PageEnd {
        let tree = try tree(envelope, "the list")
        guard tree["kind"]?.string == "\(kind)List", let metadata = tree["metadata"] else {
            throw Gibberish(description: "the list is no \(kind)List")
        }
        // An API server always says what the list holds; to believe one that does not would be to remove everything.
        guard let items = tree["items"] else { throw Gibberish(description: "the list has no items") }
        guard items == .null || items.array == [] else {
            throw Gibberish(description: "the list holds something else than objects")
        }
        guard let version = metadata["resourceVersion"]?.string, !version.isEmpty else {
            throw Gibberish(description: "the list has no version")
        }
        return PageEnd(version: version, token: metadata["continue"]?.string ?? "")
    }

    private func tree(_ bytes: [UInt8], _ what: String) throws(Gibberish) -> FieldValue {
        do {
            return try FieldValue(json: bytes)
        } catch {
            throw Gibberish(description: "\(what) is no JSON: \(error.message)")
        }
    }

    private func object(_ tree: FieldValue) throws(Gibberish) -> VersionedObject {
        guard let name = name(tree) else { throw Gibberish(description: "an object has no name") }
        guard tree["kind"] == nil || tree["kind"]?.string == "\(kind)" else {
            throw Gibberish(description: "an object is no \(kind)")
        }
        var tree = tree
        // The items of a list do not say what they are.
        if tree["kind"] == nil { tree["kind"] = .string("\(kind)") }
        if tree["apiVersion"] == nil { tree["apiVersion"] = .string(kind.apiVersion) }
        let decoded = KubernetesObject.decode(tree, source: source)
        let object = decoded.objects.first { $0.kind == kind }
        // What cannot be used and can say no more than that is kept in force by the name it has.
        let isRefused = object == nil && (!decoded.refused.isEmpty || decoded.notes.contains { $0.severity == .error })
        return VersionedObject(
            name: name, version: version(tree), object: object, isRefused: isRefused, notes: decoded.notes)
    }

    private func name(_ tree: FieldValue) -> NamespacedName? {
        guard let metadata = tree["metadata"], let name = metadata["name"]?.string, !name.isEmpty else { return nil }
        let namespace = kind.isClusterScoped ? "" : metadata["namespace"]?.string ?? "default"
        return NamespacedName(namespace: namespace, name: name)
    }

    private func version(_ tree: FieldValue) -> String { tree["metadata"]?["resourceVersion"]?.string ?? "" }
}
