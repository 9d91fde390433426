/// An object of any kind Fairlead has a use for.
public enum KubernetesObject: Hashable, Sendable {
    case namespace(Namespace)
    case pod(Pod)
    case service(Service)
    case endpointSlice(EndpointSlice)
    case node(Node)
    case networkPolicy(NetworkPolicy)
    case serviceCIDR(ServiceCIDR)
    case workload(Workload)

    public var kind: ObjectKind {
        switch self {
        case .namespace: .namespace
        case .pod: .pod
        case .service: .service
        case .endpointSlice: .endpointSlice
        case .node: .node
        case .networkPolicy: .networkPolicy
        case .serviceCIDR: .serviceCIDR
        case .workload(let workload): workload.kind.objectKind
        }
    }

    public var metadata: ObjectMetadata {
        switch self {
        case .namespace(let namespace): namespace.metadata
        case .pod(let pod): pod.metadata
        case .service(let service): service.metadata
        case .endpointSlice(let slice): slice.metadata
        case .node(let node): node.metadata
        case .networkPolicy(let policy): policy.metadata
        case .serviceCIDR(let cidr): cidr.metadata
        case .workload(let workload): workload.metadata
        }
    }

    public var reference: ObjectReference { ObjectReference(kind, metadata.key) }
}

/// What was found in one tree: usually one object, several in a list, none in one that cannot be used.
public struct Decoded: Hashable, Sendable {
    public var objects: [KubernetesObject]
    /// Objects that are there but cannot be used; whoever holds an earlier state of them may keep it.
    public var refused: [ObjectReference]
    public var notes: [Note]

    public init(objects: [KubernetesObject] = [], refused: [ObjectReference] = [], notes: [Note] = []) {
        self.objects = objects
        self.refused = refused
        self.notes = notes
    }
}

extension KubernetesObject {
    /// Reads the object, or the objects of a list, out of a tree.
    ///
    /// `source` names the file or stream in notes. Nothing is thrown: what cannot be used is noted, and the rest goes
    /// on.
    public static func decode(_ tree: FieldValue, source: String) -> Decoded {
        var decoded = Decoded()
        guard let kind = tree["kind"]?.string, kind.hasSuffix("List") else {
            decoded.add(tree, at: .root, kind: nil, version: nil, source: source)
            return decoded
        }
        let list = FieldReader(tree, problems: FieldProblems())
        do {
            // The items of an API server's PodList do not say their kind; those of kubectl's List do.
            let itemKind = kind == "List" ? nil : String(kind.dropLast("List".count))
            let version = kind == "List" ? nil : tree["apiVersion"]?.string
            for item in try list["items"].elements() {
                decoded.add(item.value, at: item.path, kind: itemKind, version: version, source: source)
            }
        } catch {
            decoded.notes.append(Note(source: source, object: nil, field: error.field, message: error.message))
        }
        return decoded
    }

    /// The objects' trees in a tree: the items of a list, each with the kind and version the list gives it.
    ///
    /// For those who write objects back, which must keep what is not read of them.
    public static func trees(in tree: FieldValue) -> [FieldValue] {
        guard let kind = tree["kind"]?.string, kind.hasSuffix("List"), let items = tree["items"]?.array else {
            return [tree]
        }
        guard kind != "List" else { return items }
        return items.map { item in
            var item = item
            if item["kind"] == nil { item["kind"] = .string(String(kind.dropLast("List".count))) }
            if item["apiVersion"] == nil { item["apiVersion"] = tree["apiVersion"] }
            return item
        }
    }
}

extension Decoded {
    /// How many fields of one object are named: a slice may have a thousand endpoints, all wrong in the same way.
    private static let mostProblems = 8

    /// Adds what is made of one object's tree, which stands at `position`.
    fileprivate mutating func add(
        _ tree: FieldValue, at position: FieldPath, kind: String?, version: String?, source: String
    ) {
        let problems = FieldProblems()
        var reference: ObjectReference?
        do throws(FieldError) {
            let header = FieldReader(tree, path: position, problems: problems)
            guard !header.isAbsent else { throw header.error("is empty") }
            let kind = ObjectKind(try header["kind"].read(default: kind))
            if case .other(let name) = kind {
                reference = header.reference(of: kind)
                notes.append(
                    Note(
                        source: source, object: reference, field: "\(try header["kind"].path)",
                        message: "kind \(FieldValue.quoted(name)) is not used", severity: .warning))
                return
            }
            let key = try ObjectMetadata.key(reading: header["metadata"], of: kind)
            reference = ObjectReference(kind, key)
            let version = try header["apiVersion"].read(default: version)
            guard version == kind.apiVersion else {
                throw try header["apiVersion"].error("\(FieldValue.quoted(version)) is not \(kind.apiVersion)")
            }
            if let repeated = tree.repeatedKey(below: .root) {
                throw FieldError(field: repeated, message: "is given twice")
            }
            let root = FieldReader(tree, problems: problems)
            if let object = try KubernetesObject(reading: root, kind: kind) {
                objects.append(object)
            } else {
                notes.append(
                    Note(
                        source: source, object: reference, field: "addressType",
                        message: "FQDN is not used: nothing is sent to host names", severity: .warning))
            }
            notes += problems.found.prefix(Self.mostProblems).map { problem in
                Note(source: source, object: reference, field: problem.field, message: problem.message)
            }
            if problems.found.count > Self.mostProblems {
                let rest = problems.found.count - Self.mostProblems
                notes.append(
                    Note(source: source, object: reference, message: "\(rest) more fields like these are passed over"))
            }
        } catch {
            if let reference { refused.append(reference) }
            notes.append(Note(source: source, object: reference, field: error.field, message: error.message))
        }
    }
}

extension FieldReader {
    /// What names the object of a kind that is not used, as far as it can be read.
    fileprivate func reference(of kind: ObjectKind) -> ObjectReference? {
        // A kind is a word; anything else is not repeated into messages as if it were one.
        guard kind.description.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber) }) else { return nil }
        do {
            return ObjectReference(kind, try ObjectMetadata.key(reading: self["metadata"], of: kind))
        } catch {
            return nil
        }
    }
}

extension ObjectKind {
    /// The version of the API whose objects of this kind are read.
    public var apiVersion: String {
        switch self {
        case .namespace, .pod, .service, .node: "v1"
        case .endpointSlice: "discovery.k8s.io/v1"
        case .networkPolicy, .serviceCIDR: "networking.k8s.io/v1"
        case .deployment, .statefulSet, .daemonSet, .replicaSet: "apps/v1"
        case .other: ""
        }
    }
}

extension KubernetesObject {
    /// Nil for an object that is right but of no use here.
    fileprivate init?(reading root: FieldReader, kind: ObjectKind) throws(FieldError) {
        let metadata = try ObjectMetadata(reading: root["metadata"], of: kind)
        switch kind {
        case .namespace: self = .namespace(Namespace(metadata: metadata))
        case .pod: self = .pod(try Pod(reading: root, metadata: metadata))
        case .service: self = .service(try Service(reading: root, metadata: metadata))
        case .endpointSlice:
            guard let slice = try EndpointSlice(reading: root, metadata: metadata) else { return nil }
            self = .endpointSlice(slice)
        case .node: self = .node(try Node(reading: root, metadata: metadata))
        case .networkPolicy: self = .networkPolicy(try NetworkPolicy(reading: root, metadata: metadata))
        case .serviceCIDR: self = .serviceCIDR(try ServiceCIDR(reading: root, metadata: metadata))
        case .deployment: self = .workload(try Workload(.deployment, reading: root, metadata: metadata))
        case .statefulSet: self = .workload(try Workload(.statefulSet, reading: root, metadata: metadata))
        case .daemonSet: self = .workload(try Workload(.daemonSet, reading: root, metadata: metadata))
        case .replicaSet: self = .workload(try Workload(.replicaSet, reading: root, metadata: metadata))
        case .other: return nil
        }
    }
}

extension FieldValue {
    /// The way to a key that some map of the tree holds twice.
    ///
    /// Programs disagree on which of the two counts, so neither does.
    fileprivate func repeatedKey(below path: FieldPath) -> FieldPath? {
        switch self {
        case .null, .bool, .integer, .double, .string: return nil
        case .array(let elements):
            for (index, element) in elements.enumerated() {
                if let found = element.repeatedKey(below: .index(path, index)) { return found }
            }
            return nil
        case .object(let object):
            if let key = object.repeatedKey { return .key(path, key) }
            for entry in object.entries {
                if let found = entry.value.repeatedKey(below: .key(path, entry.key)) { return found }
            }
            return nil
        }
    }
}
