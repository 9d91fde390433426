public import KernelInterface
public import KubernetesObjects
import SystemPackage

/// What a folder has to say since it was last asked.
public struct ManifestUpdate: Hashable, Sendable {
    public var events: [ObjectEvent]
    /// All that is wrong at the moment, not only what is new.
    public var notes: [Note]
    /// What the file `.revision` said when all that was written before it had been read; nil where there is none.
    ///
    /// Whoever writes many files can write it last, and know from an agent's report which state the agent has.
    public var revision: String?

    public init(events: [ObjectEvent], notes: [Note], revision: String? = nil) {
        self.events = events
        self.notes = notes
        self.revision = revision
    }
}

/// Follows a folder of manifests, and says what it says as the events an API server would send.
///
/// Synchronous, for a thread of its own. All deciding is `ManifestSet`'s and `EndpointDerivation`'s.
public struct ManifestWatcher: ~Copyable {
    /// How long more changes are waited for after one: a writer of many files is one change, not many.
    private static let quiet = Duration.milliseconds(5)
    private static let settling = Duration.milliseconds(20)
    /// How often a folder that has gone is looked for.
    private static let reopening = Duration.milliseconds(200)
    private static let revisionFile = ".revision"

    public let path: String
    private var watch: DirectoryWatch
    private var directory: StateDirectory
    private var set = ManifestSet()
    private var derivation = EndpointDerivation()
    private var revision: String?
    /// Whether there is a newer revision than the one that was read, which nothing will tell of any more.
    private var isRevisionPending = false
    /// Whether the folder was read as a whole, so that it is enough to take in what changes.
    private var isScanned = false
    private var isLost = false

    private init(path: String, watch: consuming DirectoryWatch, directory: consuming StateDirectory) {
        self.path = path
        self.watch = watch
        self.directory = directory
    }

    public static func open(_ path: String) throws(KernelError) -> ManifestWatcher {
        // The watch first: what changes while the folder is read is then told afterwards.
        let watch = try DirectoryWatch.open(path)
        return ManifestWatcher(path: path, watch: watch, directory: try StateDirectory.open(path, create: false))
    }

    /// To wait on together with other things (`poll`); another one once the folder was replaced.
    public var fileDescriptor: Int32 { watch.fileDescriptor }

    /// What has changed, after waiting for it; nil where the timeout passes before.
    ///
    /// The first call reads the folder as it is and ends its events with `synced`.
    ///
    /// - Parameter timeout: Nil waits for ever.
    public mutating func next(timeout: Duration? = nil) throws(KernelError) -> ManifestUpdate? {
        do throws(KernelError) {
            guard !isScanned else { return try changes(timeout: timeout) }
            var first = update(try scan())
            first.events.append(.synced)
            isScanned = true
            return first
        } catch {
            // What was told and not taken in is told no more; the next call has to look for itself.
            isScanned = false
            throw error
        }
    }

    private mutating func changes(timeout: Duration?) throws(KernelError) -> ManifestUpdate? {
        let deadline = timeout.map { ContinuousClock.now + $0 }
        while true {
            let remaining = deadline.map { max($0 - .now, .zero) }
            if isLost {
                if let found = try reopen() { return update(found) }
                _ = try watch.next(timeout: min(remaining ?? Self.reopening, Self.reopening))
            } else {
                let before = revision
                let changes = try settledChanges(timeout: remaining)
                if changes.isGone {
                    isLost = true
                    if let found = try reopen() { return update(found) }
                    return update([:])
                }
                let states = try states(after: changes)
                if !states.isEmpty || revision != before { return update(states) }
            }
            if let deadline, ContinuousClock.now >= deadline { return nil }
        }
    }

    /// The first changes, and those that follow at once.
    private mutating func settledChanges(timeout: Duration?) throws(KernelError) -> DirectoryChanges {
        var changes = try watch.next(timeout: isRevisionPending ? .zero : timeout)
        let deadline = ContinuousClock.now + Self.settling
        while !changes.isEmpty, !changes.isGone, ContinuousClock.now < deadline {
            let more = try watch.next(timeout: Self.quiet)
            guard !more.isEmpty else { break }
            changes.add(more)
        }
        if isRevisionPending || changes.names.contains(Self.revisionFile) {
            readRevision()
            // What was written before the revision that was read is told by now, and so is taken in with it.
            let more = try watch.next(timeout: .zero)
            changes.add(more)
            isRevisionPending = more.names.contains(Self.revisionFile)
        }
        return changes
    }

    private mutating func states(
        after changes: DirectoryChanges
    ) throws(KernelError) -> [String: ManifestSet.FileState] {
        // Where files are links into `..data`, as the kubelet mounts ConfigMaps, only that name changes.
        guard changes.isComplete, !changes.names.contains("..data") else { return try scan() }
        var states: [String: ManifestSet.FileState] = [:]
        for name in changes.names where ManifestSet.isManifest(name) { states[name] = read(name) }
        return states
    }

    /// All files as they are, and those that are no more.
    private mutating func scan() throws(KernelError) -> [String: ManifestSet.FileState] {
        // Before the files, which are then at least as new.
        readRevision()
        var states: [String: ManifestSet.FileState] = [:]
        for name in set.fileNames { states[name] = .gone }
        for name in try directory.entries() where ManifestSet.isManifest(name) { states[name] = read(name) }
        return states
    }

    private func read(_ name: String) -> ManifestSet.FileState {
        do throws(KernelError) {
            let bytes = try directory.read(name, limit: ManifestText.sizeLimit, followingLinks: true)
            return bytes.map(ManifestSet.FileState.content) ?? .gone
        } catch {
            let isTooLong = error.errno == .fileTooLarge
            return .unreadable(
                isTooLong ? "is longer than \(ManifestText.sizeLimit >> 20) MiB" : "cannot be read: \(error.errno)")
        }
    }

    private mutating func readRevision() {
        let bytes = try? directory.read(Self.revisionFile, limit: 64)
        revision = (bytes ?? nil).flatMap { String(validating: $0.prefix { $0 > 0x20 && $0 < 0x7f }, as: UTF8.self) }
    }

    /// The files of the folder that has taken the place of one that is gone; nil while there is none.
    private mutating func reopen() throws(KernelError) -> [String: ManifestSet.FileState]? {
        do {
            watch = try DirectoryWatch.open(path)
            directory = try StateDirectory.open(path, create: false)
        } catch where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
            return nil
        }
        isLost = false
        return try scan()
    }

    private mutating func update(_ states: [String: ManifestSet.FileState]) -> ManifestUpdate {
        var events = set.update(states)
        events += derivation.apply(events)
        var notes = set.notes
        if isLost {
            notes.append(Note(source: path, object: nil, message: "the folder is gone; its objects stay as they were"))
        }
        return ManifestUpdate(events: events, notes: notes, revision: revision)
    }
}

extension DirectoryChanges {
    fileprivate mutating func add(_ more: DirectoryChanges) {
        names = Set(names + more.names).sorted()
        isComplete = isComplete && more.isComplete
        isGone = isGone || more.isGone
    }
}
