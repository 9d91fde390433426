public import KubernetesObjects

/// What an API server has to say since it was last heard.
public struct ObjectUpdate: Hashable, Sendable {
    public var events: [ObjectEvent]
    /// All that is wrong at the moment, not only what is new.
    public var notes: [Note]

    public init(events: [ObjectEvent] = [], notes: [Note] = []) {
        self.events = events
        self.notes = notes
    }
}

/// Joins what the reflectors of several resources say into one stream, `synced` only once all have listed.
struct ObjectFeed: Sendable {
    private var unlisted: Set<WatchedResource>
    private var notes: [WatchedResource: [Note]] = [:]
    private var isSynced = false

    init(_ resources: [WatchedResource]) { unlisted = Set(resources) }

    /// What is to be passed on; nil where nothing has changed.
    mutating func update(
        of resource: WatchedResource, events: [ObjectEvent], notes newNotes: [Note]?, isListed: Bool
    ) -> ObjectUpdate? {
        var events = events
        if isListed { unlisted.remove(resource) }
        if unlisted.isEmpty, !isSynced {
            isSynced = true
            events.append(.synced)
        }
        if let newNotes { notes[resource] = newNotes }
        guard !events.isEmpty || newNotes != nil else { return nil }
        return ObjectUpdate(
            events: events, notes: notes.sorted { $0.key.path < $1.key.path }.flatMap(\.value))
    }
}
