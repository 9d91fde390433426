import KubernetesObjects
import Testing

@testable import KubernetesClient

/// One reflector, told what happens, asked what it does.
@Suite struct ReflectorTests {
    /// A reflector, by default of nodes, which nobody selects among.
    struct Played {
        var reflector: Reflector
        var now = Duration.zero

        init(_ resource: WatchedResource = .nodes, usesStreams: Bool = true) {
            reflector = Reflector(resource, source: "server", seed: 1, usesStreams: usesStreams)
            _ = reflector.received(.ready, at: now)
        }

        mutating func tell(_ event: Reflector.Event, after delay: Duration = .zero) -> [Reflector.Action] {
            now += delay
            return reflector.received(event, at: now)
        }

        mutating func refuse(_ code: Int, retryAfter: Duration? = nil) -> [Reflector.Action] {
            tell(.refused(ServerStatus(code: code), retryAfter: retryAfter))
        }

        /// Listed without objects at version 7, and watching.
        static func watching(_ resource: WatchedResource = .nodes) -> Played {
            var played = Played(resource, usesStreams: false)
            _ = played.tell(.opened)
            _ = played.tell(.pageEnded(PageEnd(version: "7", token: "")))
            _ = played.tell(.opened)
            return played
        }
    }

    private func request(_ actions: [Reflector.Action]) -> ObjectRequest? {
        if case .request(let request) = actions.last { request } else { nil }
    }

    private func wait(_ actions: [Reflector.Action]) -> Duration? {
        if case .wait(let duration) = actions.last { duration } else { nil }
    }

    @Test(arguments: [422, 500]) func `a stream that is refused becomes pages at once`(code: Int) throws {
        var played = Played()
        let next = try #require(request(played.refuse(code)))
        #expect(next.target == "/api/v1/nodes?limit=500")
    }

    @Test func `selectors are escaped`() {
        var played = Played(.services, usesStreams: false)
        let target = request(played.tell(.ready))?.target
        #expect(
            target == "/api/v1/services?limit=500&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name"
                + "&fieldSelector=spec.clusterIP%21%3DNone")
    }

    @Test func `credentials are refreshed once, and then there is a wait`() {
        var played = Played()
        #expect(played.refuse(401) == [.refreshCredentials])
        #expect(request(played.tell(.ready)) != nil)
        #expect(wait(played.refuse(401)) != nil)
        #expect(played.reflector.takeNotes()?.map(\.description) == ["server: cannot watch nodes: 401"])
        // The next attempt may refresh them again.
        #expect(request(played.tell(.ready)) != nil)
        #expect(played.refuse(401) == [.refreshCredentials])
    }

    @Test(arguments: [429, 503])
    func `the server's own wait is honoured, and spread`(code: Int) throws {
        var waits: Set<Duration> = []
        for seed in 0..<100 as Range<UInt64> {
            var reflector = Reflector(.nodes, source: "server", seed: seed)
            _ = reflector.received(.ready, at: .zero)
            let actions = reflector.received(
                .refused(ServerStatus(code: code), retryAfter: .seconds(20)), at: .zero)
            waits.insert(try #require(wait(actions)))
        }
        #expect(waits.allSatisfy { (.seconds(20)...(.seconds(30))).contains($0) })
        #expect(waits.count > 50)
    }

    @Test func `a server that asks to wait for ever is asked again all the same`() throws {
        var played = Played()
        #expect(try #require(wait(played.refuse(429, retryAfter: .seconds(86400)))) <= .seconds(450))
    }

    @Test func `waits grow up to half a minute`() throws {
        var played = Played()
        var waits: [Duration] = []
        for _ in 0..<40 {
            waits.append(try #require(wait(played.tell(.failed("connection refused")))))
            _ = played.tell(.ready)
        }
        #expect(waits.allSatisfy { (Backoff.least...Backoff.most).contains($0) })
        #expect(waits.prefix(2).allSatisfy { $0 < .seconds(2) })
        #expect(waits.suffix(20).contains { $0 > .seconds(10) })
    }

    @Test func `a watch lives five to ten minutes, and its end costs no more than a moment`() throws {
        var played = Played.watching()
        var lifetimes: Set<String> = []
        for _ in 0..<50 {
            #expect(try #require(wait(played.tell(.closed, after: .seconds(300)))) <= .milliseconds(600))
            let watch = try #require(request(played.tell(.ready)))
            #expect(watch["resourceVersion"] == "7")
            let lifetime = try #require(watch["timeoutSeconds"])
            #expect((300...600).contains(try #require(Int(lifetime))))
            lifetimes.insert(lifetime)
            _ = played.tell(.opened)
        }
        #expect(lifetimes.count > 25)
        #expect(played.reflector.takeNotes() ?? [] == [])
    }

    @Test func `bookmarks move the version on`() throws {
        var played = Played.watching()
        _ = played.tell(.changes([.bookmark(version: "9", endsInitialEvents: false)]))
        _ = played.tell(.failed("connection reset"))
        #expect(request(played.tell(.ready))?["resourceVersion"] == "9")
    }

    @Test func `an expired version leads to a list, after a wait`() throws {
        var played = Played.watching()
        let gone = ServerStatus(code: 410, reason: "Expired")
        #expect(wait(played.tell(.changes([.refused(gone)]))) != nil)
        #expect(request(played.tell(.ready))?.verb == .list)
    }

    @Test func `pages that expired are asked for in one`() throws {
        var played = Played(usesStreams: false)
        _ = played.tell(.opened)
        let second = try #require(request(played.tell(.pageEnded(PageEnd(version: "7", token: "more")))))
        #expect(second.target == "/api/v1/nodes?limit=500&continue=more")
        #expect(wait(played.refuse(410)) != nil)
        #expect(request(played.tell(.ready))?.target == "/api/v1/nodes")
    }

    @Test func `a watch that is garbled again and again at one version leads to a list`() {
        var played = Played.watching()
        var watches = 1
        while watches < 10 {
            _ = played.tell(.garbled("no JSON"))
            guard request(played.tell(.ready))?.verb == .watch else { break }
            _ = played.tell(.opened)
            watches += 1
        }
        #expect(watches == Reflector.fruitlessLimit)
        #expect(played.reflector.takeNotes()?.count == 1)
    }

    @Test func `an error within a watch is told, and the watch taken up where it was`() {
        var played = Played.watching()
        let status = ServerStatus(code: 500, reason: "InternalError", message: "etcd \u{1b}[31m")
        #expect(wait(played.tell(.changes([.refused(status)]))) != nil)
        #expect(
            played.reflector.takeNotes()?.map(\.description)
                == ["server: cannot watch nodes: 500 InternalError: etcd  [31m"])
        #expect(request(played.tell(.ready))?["resourceVersion"] == "7")
    }

    @Test func `a server that is down is never a reason to list`() {
        var played = Played.watching()
        for round in 0..<100 {
            // As behind a balancer that answers for a server and then loses it.
            if round % 2 == 0 { _ = played.tell(.opened) }
            _ = played.tell(.failed("connection reset"))
            #expect(request(played.tell(.ready))?.verb == .watch)
        }
    }

    @Test func `two streams that break off are enough`() {
        var played = Played()
        for _ in 0..<2 {
            _ = played.tell(.opened)
            _ = played.tell(.failed("connection reset"))
            _ = played.tell(.ready)
        }
        _ = played.tell(.opened)
        #expect(request(played.tell(.pageEnded(PageEnd(version: "1", token: "x"))))?.verb == .list)
    }

    @Test func `an object that became unusable stays as it was, with a note, until a list lacks it`() throws {
        var played = Played.watching()
        let usable = VersionedObject(
            name: .init(namespace: "", name: "n1"), version: "8",
            object: .node(Node(metadata: ObjectMetadata(name: "n1", namespace: ""))))
        #expect(played.tell(.changes([.changed(usable)])).count == 1)
        var refused = usable
        refused.version = "9"
        refused.object = nil
        refused.isRefused = true
        refused.notes = [Note(object: nil, message: "bad")]
        #expect(played.tell(.changes([.changed(refused)])) == [])
        #expect(played.reflector.takeNotes()?.count == 1)
        _ = played.refuse(410)
        _ = played.tell(.ready)
        _ = played.tell(.opened)
        let actions = played.tell(.pageEnded(PageEnd(version: "20", token: "")))
        let reference = ObjectReference(kind: .node, namespace: nil, name: "n1")
        #expect(actions.first == .announce([.removed(reference)]))
        #expect(played.reflector.takeNotes() == [])
    }
}
