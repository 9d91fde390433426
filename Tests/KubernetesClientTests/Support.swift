import KernelInterface
import KubernetesObjects
import Synchronization
import Testing

@testable import KubernetesClient

/// A folder of a test's own, removed with everything in it at the end of its life.
final class TemporaryFolder: Sendable {
    let path: String
    private let name: String

    init() throws {
        name = "fairlead-client-\(UInt64.random(in: .min ... .max))"
        path = "/tmp/\(name)"
        _ = try StateDirectory.open(path, create: true, mode: 0o700)
    }

    deinit { _ = try? StateDirectory.open("/tmp", create: false).removeSubdirectory(name) }

    /// Writes a file whole and returns its path.
    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        try StateDirectory.open(path, create: false).replace(name, Array(text.utf8), mode: 0o600)
        return "\(path)/\(name)"
    }

    func read(_ name: String) throws -> String {
        String(decoding: try StateDirectory.open(path, create: false).read(name, limit: 1 << 20) ?? [], as: UTF8.self)
    }
}

/// What a watcher has said so far.
final class Listener: Sendable {
    struct Heard: Sendable {
        var snapshot = ClusterSnapshot()
        var events: [ObjectEvent] = []
        var notes: [String] = []
        /// Every note there ever was, once for each time it came up.
        var allNotes: [String] = []
    }

    private let heard = Mutex(Heard())

    func hear(_ update: ObjectUpdate) {
        heard.withLock { heard in
            for event in update.events { heard.snapshot.apply(event) }
            heard.events += update.events
            let notes = update.notes.map(\.description)
            heard.allNotes += notes.filter { !heard.notes.contains($0) }
            heard.notes = notes
        }
    }

    var now: Heard { heard.withLock(\.self) }

    /// Waits until it has heard enough.
    func wait(
        _ what: String, for limit: Duration = .seconds(20), sourceLocation: SourceLocation = #_sourceLocation,
        until isEnough: (Heard) -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + limit
        while !isEnough(now) {
            guard ContinuousClock.now < deadline else {
                let now = now
                Issue.record(
                    "waited in vain for \(what): \(now.events.count) events, notes \(now.notes)",
                    sourceLocation: sourceLocation)
                throw CancellationError()
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    func hasService(_ name: String) -> Bool { now.hasService(name) }
}

extension Listener.Heard {
    var isSynced: Bool { snapshot.isSynced }

    func hasService(_ name: String) -> Bool {
        snapshot.services[NamespacedName(namespace: "shop", name: name)] != nil
    }
}

extension TestServer {
    /// The way to this server for somebody who knows its certificate.
    var access: ClusterAccess {
        ClusterAccess(
            server: .init(host: "127.0.0.1", port: port),
            trust: .authorities(.data(Array(certificate.certificate.utf8))))
    }

    /// Runs `body` while a watcher follows this server.
    func followed(
        _ resources: [WatchedResource] = [.services], access: ClusterAccess? = nil,
        silence: Duration = .seconds(60), usesStreams: Bool = true, counts: RequestCounts = RequestCounts(),
        _ body: (Listener) async throws -> Void
    ) async throws {
        if port == 0 { try await start() }
        let listener = Listener()
        let watcher = KubernetesWatcher(
            access ?? self.access, resources: resources, silence: silence, usesStreams: usesStreams, counts: counts
        ) { listener.hear($0) }
        let task = Task { await watcher.run() }
        do {
            try await body(listener)
        } catch {
            task.cancel()
            await task.value
            await stop()
            throw error
        }
        task.cancel()
        await task.value
        await stop()
    }
}
