public import KubernetesObjects

/// What a folder of manifests says: files by name in, object events and notes out.
///
/// Pure, so that every agent makes the same of the same folder: what is in force depends on the files alone, and on
/// what was read before only where a file has become unreadable.
public struct ManifestSet: Sendable {
    /// What is known of one file at one moment.
    public enum FileState: Hashable, Sendable {
        case content([UInt8])
        /// It is there but cannot be read, and why.
        case unreadable(String)
        case gone
    }

    private var files: [String: ManifestFile] = [:]
    /// The files each object is in, sorted; the first one counts.
    private var filesOfObject: [ObjectReference: [String]] = [:]
    private var contested: Set<ObjectReference> = []
    private var exclusive = ExclusiveUse()
    private var published: [ObjectReference: KubernetesObject] = [:]

    public init() {}

    /// Whether a file of that name is read at all: `*.yaml`, `*.yml` and `*.json` that are not hidden.
    public static func isManifest(_ name: String) -> Bool {
        !name.hasPrefix(".") && [".yaml", ".yml", ".json"].contains { name.hasSuffix($0) }
    }

    /// All that is wrong at the moment, by file.
    public var notes: [Note] {
        var notes = files.values.flatMap(\.notes)
        for reference in contested {
            let names = filesOfObject[reference] ?? []
            for later in names.dropFirst() {
                notes.append(
                    Note(
                        source: later, object: reference,
                        message: "is in \(names[0]) too; what stands here is not used"))
            }
        }
        notes += exclusive.notes
        return notes.sorted { ($0.source, $0.description) < ($1.source, $1.description) }
    }

    /// The files there are, readable or not.
    public var fileNames: some Collection<String> { files.keys }

    /// The objects in force.
    public var objects: some Collection<KubernetesObject> { published.values }

    /// Takes in what has become of some files, and says which objects have changed by it.
    public mutating func update(_ states: [String: FileState]) -> [ObjectEvent] {
        var touched: Set<ObjectReference> = []
        for (name, state) in states where Self.isManifest(name) {
            let before = files[name]
            let after = ManifestFile(state, name: name, before: before)
            files[name] = after
            for reference in before?.references ?? [] {
                filesOfObject[reference]?.removeAll { $0 == name }
                touched.insert(reference)
            }
            for reference in after?.references ?? [] {
                let names = filesOfObject[reference] ?? []
                let index = names.firstIndex { $0 > name } ?? names.endIndex
                filesOfObject[reference, default: []].insert(name, at: index)
                touched.insert(reference)
            }
        }
        for reference in touched { settle(reference) }
        return publish(touched.union(exclusive.takeTouched()))
    }

    /// Decides which file has the say about an object.
    private mutating func settle(_ reference: ObjectReference) {
        let names = filesOfObject[reference] ?? []
        if names.isEmpty { filesOfObject[reference] = nil }
        if names.count > 1 { contested.insert(reference) } else { contested.remove(reference) }
        guard let name = names.first, let written = files[name]?.objects[reference] else {
            exclusive.remove(reference)
            return
        }
        exclusive.set(written.object, at: ManifestPlace(file: name, index: written.index))
    }

    private mutating func publish(_ references: Set<ObjectReference>) -> [ObjectEvent] {
        var events: [ObjectEvent] = []
        for reference in references.sorted() {
            let object = exclusive[reference]
            guard object != published[reference] else { continue }
            published[reference] = object
            events.append(object.map(ObjectEvent.set) ?? .removed(reference))
        }
        return events
    }
}

/// Where an object is written. Of two that want the same thing, the one written first has it.
struct ManifestPlace: Hashable, Comparable, Sendable {
    var file: String
    var index: Int

    static func < (left: Self, right: Self) -> Bool { (left.file, left.index) < (right.file, right.index) }
}

/// What one file says.
struct ManifestFile: Sendable {
    struct Written: Sendable {
        var object: KubernetesObject
        /// How many objects of the file are before it.
        var index: Int
    }

    private(set) var objects: [ObjectReference: Written] = [:]
    private(set) var notes: [Note] = []

    var references: [ObjectReference] { Array(objects.keys) }

    /// Reads a file; nil where there is none any more.
    ///
    /// What cannot be read leaves the objects as they were: a file that is being written must not take its pods'
    /// policies away for a moment.
    init?(_ state: ManifestSet.FileState, name: String, before: ManifestFile?) {
        switch state {
        case .gone: return nil
        case .unreadable(let reason): keep(before, Note(source: name, object: nil, message: reason))
        case .content(let bytes):
            do throws(SyntaxError) {
                for document in try ManifestText.documents(in: bytes) {
                    add(KubernetesObject.decode(document, source: name), source: name, before: before)
                }
            } catch {
                self = ManifestFile()
                keep(before, Note(source: name, object: nil, field: "line \(error.line)", message: error.message))
            }
        }
    }

    private init() {}

    private mutating func keep(_ before: ManifestFile?, _ note: Note) {
        var note = note
        if let before, !before.objects.isEmpty {
            objects = before.objects
            note.message += "; its objects stay as they were"
        }
        notes = [note]
    }

    private mutating func add(_ decoded: Decoded, source: String, before: ManifestFile?) {
        let kept = decoded.refused.compactMap { before?.objects[$0]?.object }
        let keptReferences = Set(kept.map(\.reference))
        for var note in decoded.notes {
            if let reference = note.object, keptReferences.contains(reference), objects[reference] == nil {
                note.message += "; the object stays as it was"
            }
            notes.append(note)
        }
        for object in decoded.objects + kept {
            let reference = object.reference
            if objects[reference] == nil {
                objects[reference] = Written(object: object, index: objects.count)
                if let note = Self.unaddressed(object, source: source) { notes.append(note) }
            } else if !keptReferences.contains(reference) {
                notes.append(
                    Note(source: source, object: reference, message: "is in this file twice; the second is not used"))
            }
        }
    }

    /// What to say of a service without an address: an API server would have given it one, a folder cannot.
    private static func unaddressed(_ object: KubernetesObject, source: String) -> Note? {
        guard case .service(let service) = object, service.type != .externalName, !service.isHeadless,
            service.clusterIPs.isEmpty
        else { return nil }
        return Note(
            source: source, object: object.reference, field: "spec.clusterIP",
            message: "is missing; the service cannot be reached", severity: .warning)
    }
}
