import KubernetesObjects
import Testing

@testable import KubernetesClient

/// A reflector and a model of a server, joined by a network that fails as a seed says.
struct Simulation {
    enum Exchange {
        case none
        case waiting(Duration)
        case refreshing
        case unanswered(ObjectRequest)
        /// A watch that has sent the changes up to a version; nil where the initial ones are still to come.
        case watching(upTo: Int?)
    }

    static let path = WatchedResource.services.path

    var server = ServerModel(paths: [path])
    var reflector: Reflector
    var exchange = Exchange.none
    var random: SeededGenerator
    var now = Duration.zero
    /// What the announcements add up to.
    var mirror: [ObjectReference: KubernetesObject] = [:]
    var lists = 0
    var complaints: [String] = []
    let reader = MessageReader(kind: .service, source: "test")

    init(seed: UInt64, usesStreams: Bool = true) {
        random = SeededGenerator(state: seed)
        reflector = Reflector(.services, source: "test", seed: seed, usesStreams: usesStreams)
    }

    mutating func tell(_ event: Reflector.Event) {
        for action in reflector.received(event, at: now) {
            switch action {
            case .announce(let events): for event in events { take(event) }
            case .request(let request):
                if request.verb == .list, request["continue"] == nil { lists += 1 }
                exchange = .unanswered(request)
            case .wait(let duration): exchange = .waiting(duration)
            case .refreshCredentials: exchange = .refreshing
            }
        }
    }

    private mutating func take(_ event: ObjectEvent) {
        switch event {
        case .set(let object):
            if mirror[object.reference] == object { complaints.append("\(object.reference) was said twice") }
            mirror[object.reference] = object
        case .removed(let reference):
            if mirror.removeValue(forKey: reference) == nil { complaints.append("\(reference) was not there") }
        case .synced: complaints.append("a reflector does not know of the others")
        }
    }

    /// One step of the exchange as it goes where nothing fails.
    mutating func step() throws {
        now += .milliseconds(10)
        switch exchange {
        case .none, .refreshing: tell(.ready)
        case .waiting(let duration):
            now += duration
            tell(.ready)
        case .unanswered(let request): try answer(request)
        case .watching(let version): try sendChanges(after: version)
        }
    }

    private mutating func answer(_ request: ObjectRequest) throws {
        if request.verb == .list {
            let limit = request["limit"].flatMap(Int.init)
            switch server.page(Self.path, limit: limit.map { min($0, 3) }, token: request["continue"] ?? "") {
            case .expired: tell(.refused(ServerStatus(code: 410, reason: "Expired"), retryAfter: nil))
            case .items(let items, let version, let token):
                tell(.opened)
                let text = ServerModel.list(kind: "Service", apiVersion: "v1", items, version: version, token: token)
                var splitter = ListSplitter()
                for item in try splitter.items(in: text.utf8) { tell(.items([try reader.item(item)])) }
                tell(.pageEnded(try reader.end(splitter.envelope)))
            }
        } else if request["sendInitialEvents"] != nil {
            guard server.hasStreams else {
                return tell(.refused(ServerStatus(code: 422, reason: "Invalid"), retryAfter: nil))
            }
            tell(.opened)
            exchange = .watching(upTo: nil)
        } else {
            let version = try #require(Int(request["resourceVersion"] ?? ""))
            guard version >= server.compacted || Bool.random(using: &random) else {
                return tell(.refused(ServerStatus(code: 410, reason: "Expired"), retryAfter: nil))
            }
            tell(.opened)
            exchange = .watching(upTo: version)
        }
    }

    private mutating func sendChanges(after version: Int?) throws {
        guard let version else {
            var lines = (server.objects[Self.path] ?? [:]).values.map { ServerModel.event("ADDED", $0) }
            lines.append(ServerModel.bookmark(kind: "Service", version: server.version, endsInitialEvents: true))
            exchange = .watching(upTo: server.version)
            return try send(lines)
        }
        guard let changes = server.changes(Self.path, after: version) else {
            return try send([ServerModel.event("ERROR", ServerModel.status(410, "Expired", "too old"))])
        }
        exchange = .watching(upTo: server.version)
        var lines = changes.map { ServerModel.event($0.type, $0.tree) }
        if Bool.random(using: &random) {
            lines.append(ServerModel.bookmark(kind: "Service", version: server.version))
        }
        try send(lines)
    }

    private mutating func send(_ lines: [String]) throws {
        var splitter = LineSplitter()
        let changes = try splitter.lines(in: lines.joined().utf8).map { try reader.change($0) }
        tell(.changes(changes))
    }

    /// Something a network or a server does to whoever asks it.
    mutating func fail() throws {
        now += .seconds(Int64.random(in: 0...20, using: &random))
        switch exchange {
        case .none, .waiting, .refreshing: try step()
        case .unanswered:
            let code = [401, 403, 429, 500, 503, 504].randomElement(using: &random)!
            switch Int.random(in: 0..<3, using: &random) {
            case 0: tell(.failed("connection refused"))
            case 1:
                tell(.refused(ServerStatus(code: code), retryAfter: code == 429 ? .seconds(3) : nil))
            default:
                // Cut off after the first bytes.
                tell(.opened)
                tell(.failed("connection reset"))
            }
        case .watching(nil):
            // Half of what there is, and the end.
            let half = (server.objects[Self.path] ?? [:]).values.prefix(2).map { ServerModel.event("ADDED", $0) }
            try send(half)
            tell(.failed("connection reset"))
        case .watching:
            let ends: [Reflector.Event] = [.closed, .failed("the server has fallen silent"), .garbled("no JSON")]
            tell(ends.randomElement(using: &random)!)
        }
    }

    /// A change to the server's objects.
    mutating func change() {
        let name = "web-\(Int.random(in: 0..<12, using: &random))"
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<6:
            server.set(Self.path, service(name, port: Int.random(in: 1...65535, using: &random)))
        case 6..<9: server.remove(Self.path, "shop/\(name)")
        default: server.compact()
        }
    }

    var isAtRest: Bool {
        if case .watching(let version) = exchange { version == server.version } else { false }
    }

    /// What the server's objects amount to.
    var truth: [ObjectReference: KubernetesObject] {
        var truth: [ObjectReference: KubernetesObject] = [:]
        for tree in (server.objects[Self.path] ?? [:]).values {
            for object in KubernetesObject.decode(tree, source: "").objects { truth[object.reference] = object }
        }
        return truth
    }
}
