import KubernetesObjects
import Testing

@testable import KubernetesClient

/// A watcher beside a server that does what real ones do on bad days.
@Suite struct WatchingTests {
    static let services = WatchedResource.services.path

    @Test func `everything is listed, and synced is said once, after the last resource`() async throws {
        let server = TestServer()
        server.change { model in
            model.set(Self.services, service("web"))
            model.set(WatchedResource.endpointSlices.path, endpointSlice("web-1", of: "web", ["10.244.1.5"]))
            model.set(WatchedResource.nodes.path, node("node-1"))
        }
        try await server.followed(WatchedResource.all) { listener in
            try await listener.wait("synced") { $0.isSynced }
            let heard = listener.now
            #expect(heard.events.last == .synced)
            #expect(heard.events.count == 4)
            #expect(heard.snapshot.endpointSlices.count == 1)
            #expect(heard.notes == [])
        }
    }

    @Test func `services and slices that are not ours are not asked for`() async throws {
        let server = TestServer()
        try await server.followed([.services, .endpointSlices], usesStreams: false) { listener in
            try await listener.wait("synced") { $0.isSynced }
            let services = try #require(server.requests(.list, .services).first)
            #expect(services.query["labelSelector"] == "!service.kubernetes.io/service-proxy-name")
            #expect(services.query["fieldSelector"] == "spec.clusterIP!=None")
            #expect(services.query["limit"] == "500")
            let slices = try #require(server.requests(.list, .endpointSlices).first)
            #expect(slices.query["labelSelector"] == "!service.kubernetes.io/headless")
        }
    }

    @Test func `a server without streaming lists is asked for pages`() async throws {
        let server = TestServer()
        server.change { model in
            model.hasStreams = false
            for number in 0..<1100 { model.set(Self.services, service("web-\(number)")) }
        }
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            #expect(listener.now.snapshot.services.count == 1100)
            #expect(server.requests(.list, .services).count == 3)
            server.change { $0.set(Self.services, service("late")) }
            try await listener.wait("a change after the pages") { $0.hasService("late") }
        }
    }

    @Test func `a server that cannot select by that field is asked without`() async throws {
        let server = TestServer()
        server.change { $0.set(Self.services, service("web")) }
        server.order(.status(400), .watch, .services)
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced && $0.hasService("web") }
            let requests = server.requests(.watch, .services)
            #expect(requests.map { $0.query["fieldSelector"] != nil } == [true, false])
            #expect(server.requests(.list, .services).isEmpty)
        }
    }

    @Test func `requests are counted by how they ended`() async throws {
        let server = TestServer()
        server.order(.status(400), .watch, .services)
        let counts = RequestCounts()
        try await server.followed(counts: counts) { listener in
            try await listener.wait("synced") { $0.isSynced }
            let host = "127.0.0.1:\(server.port)"
            #expect(counts.current[.init(method: "GET", host: host, code: "400")] == 1)
            #expect(counts.current[.init(method: "GET", host: host, code: "200"), default: 0] > 0)
        }
        let nobody = ClusterAccess(server: .init(isSecure: false, host: "127.0.0.1", port: server.port))
        let lost = RequestCounts()
        _ = await ObjectWriter(nobody, counts: lost).create(.object(FieldObject([])), in: "/x")
        #expect(lost.current == [.init(method: "POST", host: "127.0.0.1:\(server.port)", code: "<error>"): 1])
    }

    @Test func `changes arrive as they happen`() async throws {
        let server = TestServer()
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            server.change { $0.set(Self.services, service("web", port: 80)) }
            try await listener.wait("the service") { $0.hasService("web") }
            server.change { $0.set(Self.services, service("web", port: 81)) }
            try await listener.wait("its change") { $0.events.count == 3 }
            server.change { $0.remove(Self.services, "shop/web") }
            try await listener.wait("its end") { !$0.hasService("web") }
            #expect(listener.now.events.last == .removed(.init(kind: .service, namespace: "shop", name: "web")))
        }
    }

    @Test func `what vanished while the server was down and forgot is removed, and nothing else is said`() async throws
    {
        let server = TestServer()
        server.change { model in
            for name in ["kept", "lost", "changed"] { model.set(Self.services, service(name)) }
        }
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            let before = listener.now.events.count
            await server.stop()
            try await listener.wait("a note") { !$0.notes.isEmpty }
            #expect(listener.now.notes[0].contains("cannot watch services"))
            server.change { model in
                model.remove(Self.services, "shop/lost")
                model.set(Self.services, service("changed", port: 81))
                model.compact()
            }
            try await server.start()
            try await listener.wait("the new list") { !$0.hasService("lost") && $0.events.count == before + 2 }
            try await listener.wait("no notes") { $0.notes.isEmpty }
            #expect(listener.now.hasService("kept"))
        }
    }

    @Test func `a restart that forgets nothing costs no list`() async throws {
        let server = TestServer()
        server.change { $0.set(Self.services, service("web")) }
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            await server.stop()
            server.change { $0.remove(Self.services, "shop/web") }
            try await server.start()
            try await listener.wait("the removal") { !$0.hasService("web") }
            let beginnings = server.requests(.watch, .services).filter { $0.query["sendInitialEvents"] != nil }
            #expect(beginnings.count == 1)
            #expect(server.requests(.list, .services).isEmpty)
        }
    }

    @Test(arguments: ["127.0.0.1", "localhost"])
    func `a server that is down is said to be, and waited for`(host: String) async throws {
        let server = TestServer()
        try await server.start()
        await server.stop()
        var access = server.access
        access.server.host = host
        try await server.followed(access: access) { listener in
            try await listener.wait("a note") { !$0.notes.isEmpty }
            #expect(
                listener.now.notes
                    == ["https://\(host):\(server.port): cannot watch services: Connection refused"])
            try await server.start()
            try await listener.wait("synced") { $0.isSynced && $0.notes.isEmpty }
        }
    }

    @Test(arguments: [TestServer.Fault.Effect.status(429, retryAfter: 1), .busy(retryAfter: "1")])
    func `too many requests: as long as the server asked, and no sooner`(refusal: TestServer.Fault.Effect) async throws
    {
        let server = TestServer()
        server.order(refusal, .watch, .services)
        let start = ContinuousClock.now
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            #expect(ContinuousClock.now - start >= .seconds(1))
            #expect(server.requests(.watch, .services).count == 2)
            #expect(listener.now.allNotes.count == 1 && listener.now.allNotes[0].contains("cannot watch services: 429"))
            #expect(listener.now.notes == [])
        }
    }

    @Test(arguments: ["", "soon", "-5", "1.5", "99999999999999999999", "Wed, 21 Oct 2015 07:28:00 GMT"])
    func `a time to come again that is none is as good as none`(text: String) async throws {
        let server = TestServer()
        server.order(.busy(retryAfter: text), .watch, .services)
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced && $0.notes.isEmpty }
            #expect(server.requests(.watch, .services).count == 2)
        }
    }

    @Test func `errors of the server are tried again`() async throws {
        let server = TestServer()
        server.order(.status(503), .watch, .services)
        server.order(.end, .watch, .services)
        // A stream that fails like this may never succeed: a list is tried, and that fails too.
        server.order(.status(500), .watch, .services)
        server.order(.status(500), .list, .services)
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced && $0.notes.isEmpty }
            #expect(listener.now.allNotes.count == 2)
        }
    }

    @Test func `a missing right is named, and its end noticed`() async throws {
        let server = TestServer()
        server.with { $0.forbidden = [Self.services] }
        try await server.followed([.services, .nodes]) { listener in
            try await listener.wait("a note") { !$0.notes.isEmpty }
            #expect(listener.now.notes[0].contains("may not watch services: 403 Forbidden: User \"test\""))
            #expect(!listener.now.isSynced)
            server.with { $0.forbidden = [] }
            try await listener.wait("synced") { $0.isSynced && $0.notes.isEmpty }
        }
    }

    @Test func `an API that the server lacks counts as empty`() async throws {
        let server = TestServer(paths: [.services])
        try await server.followed([.services, .serviceCIDRs]) { listener in
            try await listener.wait("synced") { $0.isSynced && !$0.notes.isEmpty }
            #expect(listener.now.notes.count == 1)
            #expect(listener.now.notes[0].hasSuffix("the server has no servicecidrs; they count as none"))
        }
    }

    @Test func `a watch cut off within an event goes on where it was`() async throws {
        let server = TestServer()
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            server.say("{\"type\":\"ADDED\",\"object\":{\"kind\":\"Serv", to: .services)
            await server.stop()
            try await server.start()
            server.change { $0.set(Self.services, service("web")) }
            try await listener.wait("the next change") { $0.hasService("web") }
        }
    }

    @Test func `a watch that says nothing at all is given up`() async throws {
        let server = TestServer()
        server.change { $0.set(Self.services, service("web")) }
        try await server.followed(silence: .milliseconds(300)) { listener in
            try await listener.wait("synced") { $0.isSynced }
            server.order(.silence, .watch, .services, times: 2)
            try await listener.wait("a note") { $0.notes.contains { $0.hasSuffix("the server has fallen silent") } }
            server.change { $0.remove(Self.services, "shop/web") }
            try await listener.wait("the change") { !$0.hasService("web") }
        }
    }

    @Test(arguments: [
        "hello\n", "{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\",\"object\":{}}\n", "\u{0}\u{1}\u{2}\n", "[[[[[[[\n",
        "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}}\n",
    ])
    func `a watch that sends garbage is noted once and taken up again`(garbage: String) async throws {
        let server = TestServer()
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced }
            for _ in 0..<2 {
                let requests = server.requests(.watch, .services).count
                server.say(garbage, to: .services)
                while server.requests(.watch, .services).count == requests {
                    try await Task.sleep(for: .milliseconds(5))
                }
            }
            server.change { $0.set(Self.services, service("web")) }
            try await listener.wait("the next change") { $0.hasService("web") && $0.notes.isEmpty }
            #expect(listener.now.allNotes.count == 1)
        }
    }

    @Test func `an object nobody can use is noted, and the others are not harmed`() async throws {
        let server = TestServer()
        var bad = service("bad")
        bad["spec"]?["ports"] = [["port": 70000]]
        server.change { [bad] model in
            model.set(Self.services, bad)
            model.set(Self.services, service("good"))
        }
        try await server.followed { listener in
            try await listener.wait("synced") { $0.isSynced && $0.hasService("good") }
            #expect(listener.now.notes.contains { $0.contains("Service shop/bad: spec.ports[0].port") })
            server.change { $0.remove(Self.services, "shop/bad") }
            try await listener.wait("no notes") { $0.notes.isEmpty }
        }
    }
}
