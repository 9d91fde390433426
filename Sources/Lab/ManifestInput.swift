import FoundationEssentials
public import KubernetesObjects
import ManifestFolder

/// Manifests as a person hands them over: files, folders, standard input.
public struct ManifestInput: Sendable {
    /// One object, and the tree it was read from, in which nothing is lost that we have no use for.
    public struct Given: Hashable, Sendable {
        public var object: KubernetesObject
        public var tree: FieldValue
        public var source: String
    }

    /// In the order they were given; none twice.
    public private(set) var objects: [Given] = []
    /// What named an object that is there but cannot be used.
    public private(set) var refused: Set<ObjectReference> = []
    public private(set) var notes: [Note] = []
    private var sources: [ObjectReference: String] = [:]

    public init() {}

    /// Reads what each path leads to: a file, all manifests of a folder, or `-` for standard input.
    public init(paths: [String]) {
        for path in paths {
            for file in files(at: path) { read(file) }
        }
    }

    private mutating func files(at path: String) -> [String] {
        if path == "-" { return ["/dev/stdin"] }
        var isFolder = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            notes.append(Note(source: path, object: nil, message: "there is no such file or folder"))
            return []
        }
        guard isFolder else { return [path] }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        let files = names.filter(ManifestSet.isManifest).sorted().map {
            "\(path.hasSuffix("/") ? path : path + "/")\($0)"
        }
        if files.isEmpty {
            notes.append(Note(source: path, object: nil, message: "holds no *.yaml, *.yml or *.json file"))
        }
        return files
    }

    private mutating func read(_ file: String) {
        let source = file == "/dev/stdin" ? "standard input" : file
        let attributes = try? FileManager.default.attributesOfItem(atPath: file)
        let size = (attributes?[.type] as? FileAttributeType) == .typeRegular ? attributes?[.size] as? UInt64 : nil
        guard (size ?? 0) <= UInt64(ManifestText.sizeLimit) else {
            notes.append(
                Note(source: source, object: nil, message: "is longer than \(ManifestText.sizeLimit >> 20) MiB"))
            return
        }
        do {
            add(Array(try Data(contentsOf: URL(filePath: file))), source: source)
        } catch {
            notes.append(Note(source: source, object: nil, message: "cannot be read"))
        }
    }

    /// Reads the documents of one file.
    public mutating func add(_ bytes: [UInt8], source: String) {
        do throws(SyntaxError) {
            for document in try ManifestText.documents(in: bytes) {
                for tree in document.items { add(tree, source: source) }
            }
        } catch {
            notes.append(Note(source: source, object: nil, field: "line \(error.line)", message: error.message))
        }
    }

    private mutating func add(_ tree: FieldValue, source: String) {
        let decoded = KubernetesObject.decode(tree, source: source)
        notes += decoded.notes
        refused.formUnion(decoded.refused)
        for object in decoded.objects {
            let reference = object.reference
            if let first = sources[reference] {
                let place = first == source ? "this file" : first
                notes.append(
                    Note(source: source, object: reference, message: "is in \(place) already; this one is not used"))
            } else {
                sources[reference] = source
                objects.append(Given(object: object, tree: tree, source: source))
            }
        }
    }

    /// Whether there is nothing in it, not even something to report.
    public var isEmpty: Bool { objects.isEmpty && notes.isEmpty }

    /// Whether anything was not taken as it was written.
    public var hasErrors: Bool { notes.contains { $0.severity == .error } }
}

extension FieldValue {
    /// The items of a list as objects of their own, or the tree itself.
    ///
    /// The items of an API server's `PodList` do not say their kind; those of kubectl's `List` do.
    fileprivate var items: [FieldValue] {
        guard let kind = self["kind"]?.string, kind.hasSuffix("List"), let items = self["items"]?.array else {
            return [self]
        }
        return items.map { item in
            guard kind != "List", item["kind"] == nil else { return item }
            var item = item
            item["kind"] = .string(String(kind.dropLast("List".count)))
            item["apiVersion"] = self["apiVersion"]
            return item
        }
    }
}
