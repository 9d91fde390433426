import KubernetesObjects

/// Follows one resource of an API server: lists it, watches it, and knows what to do when either goes wrong.
///
/// Pure: what happened goes in, what to do comes out. The time and the seed of its delays are given, so a test can play
/// a week of faults in a moment. What was learnt is kept through every failure; a new list is compared with it, so that
/// what vanished meanwhile is removed and what did not change is not said again.
struct Reflector: Sendable {
    enum Event: Sendable {
        /// It may begin; or the wait is over; or the credentials were read again.
        case ready
        /// The server answered the request with 200.
        case opened
        case items([VersionedObject])
        case pageEnded(PageEnd)
        case changes([WatchChange])
        /// The answer ended as it should.
        case closed
        case refused(ServerStatus, retryAfter: Duration?)
        /// No answer, an answer that was cut off, or silence; and why.
        case failed(String)
        /// An answer that makes no sense, and why.
        case garbled(String)
    }

    enum Action: Hashable, Sendable {
        /// These changes are to be passed on.
        case announce([ObjectEvent])
        /// Whatever request is under way is given up for this one.
        case request(ObjectRequest)
        /// No request for so long; then `ready`.
        case wait(Duration)
        /// Tokens and certificates are to be read, or made, anew; then `ready`.
        case refreshCredentials
    }

    /// A list under way, by pages or by a stream.
    struct Listing: Sendable {
        var isStream: Bool
        var limit: Int? = ObjectRequest.pageSize
        /// What the next page is asked for with.
        var token = ""
        var seen: Set<NamespacedName> = []
    }

    enum Phase: Sendable {
        case listing(Listing)
        case watching
    }

    /// Why there is no news at the moment.
    struct Trouble: Sendable {
        var note: Note
        /// Whether any answer ends it; else it takes news, since what was answered was the trouble.
        var endsWithAnswer: Bool
    }

    /// A watch that lived this long was no failure, however it ended.
    static let healthyLifetime = Duration.seconds(10)
    /// After so many watches that brought nothing but nonsense, what the server says at this version cannot be followed.
    static let fruitlessLimit = 3
    /// How long an API that a server lacks is not looked for again: an upgrade brings it.
    static let absenceCheck = Duration.seconds(300)

    let resource: WatchedResource
    let source: String
    /// The version of each object that is known, to tell what a new list changes.
    private(set) var known: [NamespacedName: String] = [:]
    /// Whether everything that was there has been announced once.
    private(set) var isListed = false
    private(set) var phase: Phase
    private(set) var version = ""

    private var backoff: Backoff
    private var usesStreams: Bool
    private var selectsFields = true
    private var hasRefreshed = false
    private var openedAt: Duration?
    private var brokenStreams = 0
    private var fruitlessWatches = 0
    private var trouble: Trouble?
    private var objectNotes: [NamespacedName: [Note]] = [:]
    private var haveNotesChanged = false

    /// - Parameter source: The server, as notes name it.
    /// - Parameter seed: Two reflectors of the same seed wait alike.
    init(_ resource: WatchedResource, source: String, seed: UInt64, usesStreams: Bool = true) {
        self.resource = resource
        self.source = source
        self.usesStreams = usesStreams
        phase = .listing(Listing(isStream: usesStreams))
        backoff = Backoff(seed: seed)
    }

    /// Takes in what happened, `now` counted from any fixed moment.
    mutating func received(_ event: Event, at now: Duration) -> [Action] {
        switch event {
        case .ready: return [request()]
        case .opened:
            openedAt = now
            hasRefreshed = false
            if trouble?.endsWithAnswer == true { setTrouble(nil) }
            return []
        case .items(let items): return announcement(items.compactMap { take($0) })
        case .pageEnded(let end): return pageEnded(end)
        case .changes(let changes): return take(changes, at: now)
        case .closed: return ended(at: now)
        case .failed(let reason):
            fail("cannot \(verb) \(resource.name): \(reason)", endsWithAnswer: true)
            return ended(at: now)
        case .garbled(let reason):
            fail("cannot \(verb) \(resource.name): \(reason)", endsWithAnswer: false)
            return answeredNonsense(at: now)
        case .refused(let status, let retryAfter): return refused(status, retryAfter: retryAfter, at: now)
        }
    }

    /// All that is wrong at the moment, where that has changed since it was last asked.
    mutating func takeNotes() -> [Note]? {
        guard haveNotesChanged else { return nil }
        haveNotesChanged = false
        return (trouble.map { [$0.note] } ?? []) + objectNotes.sorted { $0.key < $1.key }.flatMap(\.value)
    }
}

// MARK: - Objects

extension Reflector {
    /// What an object's state changes; nil where it was known.
    private mutating func take(_ object: VersionedObject) -> ObjectEvent? {
        if case .listing(var listing) = phase {
            // Two references to one set would have every insertion copy it.
            phase = .watching
            listing.seen.insert(object.name)
            phase = .listing(listing)
        }
        if objectNotes[object.name] ?? [] != object.notes {
            objectNotes[object.name] = object.notes.isEmpty ? nil : object.notes
            haveNotesChanged = true
        }
        if object.isRefused { return nil }
        guard let usable = object.object else { return forget(object.name) }
        guard known[object.name] != object.version || object.version.isEmpty else { return nil }
        known[object.name] = object.version
        return .set(usable)
    }

    private mutating func forget(_ name: NamespacedName) -> ObjectEvent? {
        known.removeValue(forKey: name).map { _ in .removed(ObjectReference(resource.kind, name)) }
    }

    private mutating func remove(_ name: NamespacedName) -> ObjectEvent? {
        if case .listing(var listing) = phase {
            listing.seen.remove(name)
            phase = .listing(listing)
        }
        if objectNotes.removeValue(forKey: name) != nil { haveNotesChanged = true }
        return forget(name)
    }

    private func announcement(_ events: [ObjectEvent]) -> [Action] { events.isEmpty ? [] : [.announce(events)] }

    private mutating func pageEnded(_ end: PageEnd) -> [Action] {
        guard case .listing(var listing) = phase else { return [] }
        if !end.token.isEmpty {
            listing.token = end.token
            phase = .listing(listing)
            return [request()]
        }
        let events = listed(at: end.version)
        return announcement(events) + [request()]
    }

    /// Everything has been said: what was known and not said again is gone.
    private mutating func listed(at newVersion: String) -> [ObjectEvent] {
        guard case .listing(let listing) = phase else { return [] }
        let gone = Set(known.keys).union(objectNotes.keys).subtracting(listing.seen).sorted()
        let events = gone.compactMap { remove($0) }
        phase = .watching
        version = newVersion
        isListed = true
        brokenStreams = 0
        fruitlessWatches = 0
        setTrouble(nil)
        return events
    }

    private mutating func take(_ changes: [WatchChange], at now: Duration) -> [Action] {
        var events: [ObjectEvent] = []
        for change in changes {
            switch change {
            case .changed(let object):
                if let event = take(object) { events.append(event) }
                moveOn(to: object.version)
            case .removed(let name, let version):
                if let event = remove(name) { events.append(event) }
                moveOn(to: version)
            case .bookmark(let version, let endsInitialEvents):
                if case .listing = phase {
                    if endsInitialEvents { events += listed(at: version) }
                } else {
                    moveOn(to: version)
                }
            case .refused(let status):
                return announcement(events) + refused(status, retryAfter: nil, at: now)
            }
        }
        return announcement(events)
    }

    private mutating func moveOn(to newVersion: String) {
        guard case .watching = phase, !newVersion.isEmpty else { return }
        version = newVersion
        fruitlessWatches = 0
        setTrouble(nil)
    }

    private mutating func setTrouble(_ new: Trouble?) {
        if trouble?.note != new?.note { haveNotesChanged = true }
        trouble = new
    }
}

// MARK: - Requests and failures

extension Reflector {
    private mutating func request() -> Action {
        openedAt = nil
        // Not all of a cluster's watches may end in one moment, so none lasts as long as another.
        let lifetime = Int(backoff.draw(from: 300, upTo: 600))
        switch phase {
        case .watching:
            return .request(.watch(resource, selectsFields: selectsFields, from: version, lifetime: lifetime))
        case .listing(var listing):
            // A stream begins at its beginning every time; a list goes on with the page it was at.
            listing.isStream = listing.isStream && usesStreams
            if listing.isStream || listing.token.isEmpty { listing.seen = [] }
            phase = .listing(listing)
            return .request(
                listing.isStream
                    ? .stream(resource, selectsFields: selectsFields, lifetime: lifetime)
                    : .list(resource, selectsFields: selectsFields, limit: listing.limit, continuing: listing.token))
        }
    }

    /// The request is over; waits and tries again from where it was.
    private mutating func ended(at now: Duration) -> [Action] {
        if let openedAt, now - openedAt >= Self.healthyLifetime { backoff.reset() }
        if case .listing(let listing) = phase, listing.isStream, openedAt != nil {
            brokenStreams += 1
            if brokenStreams >= 2 { usesStreams = false }
        }
        return [.wait(backoff.next())]
    }

    /// What was answered is of no use. If that stays so, a list may lead past it.
    private mutating func answeredNonsense(at now: Duration) -> [Action] {
        if case .watching = phase {
            fruitlessWatches += 1
            if fruitlessWatches >= Self.fruitlessLimit { phase = .listing(Listing(isStream: usesStreams)) }
        }
        return ended(at: now)
    }

    private mutating func refused(_ status: ServerStatus, retryAfter: Duration?, at now: Duration) -> [Action] {
        if status.isExpiry { return expired() }
        let verb = verb
        switch status.code {
        case 401 where !hasRefreshed:
            hasRefreshed = true
            return [.refreshCredentials]
        // After the wait they are read again.
        case 401: hasRefreshed = false
        case 404 where resource.isOptional:
            let note = Note(
                source: source, object: nil, message: "the server has no \(resource.name); they count as none",
                severity: .warning)
            setTrouble(Trouble(note: note, endsWithAnswer: true))
            isListed = true
            return [.wait(backoff.draw(from: Self.absenceCheck, upTo: Self.absenceCheck * 2))]
        // An etcd before 3.5.13 cannot say how far it is; its API server then fails to stream, with 500.
        case 500:
            if let action = withoutStream() { return [action] }
        case 400, 405, 406, 415, 422:
            if let action = withLess(afterCode: status.code) { return [action] }
            // A version that another server gave, before the cluster was restored: only a new list helps.
            if case .watching = phase { phase = .listing(Listing(isStream: usesStreams)) }
        default: break
        }
        let ability = status.code == 403 ? "may not" : "cannot"
        // Within a watch that was answered, as an ERROR, an answer alone says nothing.
        fail("\(ability) \(verb) \(resource.name): \(status.description)", endsWithAnswer: openedAt == nil)
        return openedAt == nil ? [.wait(pause(retryAfter))] : answeredNonsense(at: now)
    }

    /// The wait the server asked for, and some more, so that those it asked together do not come together.
    private mutating func pause(_ retryAfter: Duration?) -> Duration {
        let delay = backoff.next()
        guard let retryAfter else { return delay }
        let asked = min(retryAfter, Self.absenceCheck)
        return asked + backoff.draw(from: .zero, upTo: max(delay, asked / 2))
    }

    /// What cannot be asked of every server is left out, one thing at a time.
    private mutating func withLess(afterCode code: Int) -> Action? {
        guard case .listing(let listing) = phase else { return nil }
        let canDropFields = selectsFields && !resource.fieldSelector.isEmpty
        if canDropFields && (code == 400 || !listing.isStream) {
            selectsFields = false
            return request()
        }
        return withoutStream()
    }

    /// A list instead of the stream that was refused; nil where it was none.
    private mutating func withoutStream() -> Action? {
        guard case .listing(let listing) = phase, listing.isStream else { return nil }
        usesStreams = false
        return request()
    }

    /// The server no longer knows the version or the page that was asked for.
    private mutating func expired() -> [Action] {
        var listing = Listing(isStream: usesStreams)
        // Pages that expire before the last one would do so again: then all in one.
        if case .listing(let before) = phase, !before.token.isEmpty { listing.limit = nil }
        phase = .listing(listing)
        // Every agent of a cluster may be told so in one moment.
        let delay = backoff.next()
        return [.wait(backoff.draw(from: delay, upTo: delay + .seconds(2)))]
    }

    private mutating func fail(_ message: String, endsWithAnswer: Bool) {
        setTrouble(
            Trouble(note: Note(source: source, object: nil, message: message), endsWithAnswer: endsWithAnswer))
    }

    private var verb: String {
        if case .listing(let listing) = phase, !listing.isStream { return "list" }
        return "watch"
    }
}

extension ServerStatus {
    /// Whether a version or a page is too old to go on from.
    var isExpiry: Bool { code == 410 || reason == "Expired" || reason == "Gone" }
}

extension ServerStatus: CustomStringConvertible {
    /// `403 Forbidden: services is forbidden: User "x" cannot list …`, with nothing in it that is not printable.
    var description: String {
        let words = [reason, message].filter { !$0.isEmpty }.joined(separator: ": ")
        let printable = words.unicodeScalars.prefix(300).map { scalar in
            scalar.properties.generalCategory == .control ? " " : String(scalar)
        }
        return printable.isEmpty ? "\(code)" : "\(code) \(printable.joined())"
    }
}
