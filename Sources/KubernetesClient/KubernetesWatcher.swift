import AsyncHTTPClient
import KubernetesObjects
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization
import SystemPackage

/// Follows an API server, and says what it says as a folder of manifests would.
///
/// All deciding is `Reflector`'s, one for each resource; this carries its requests out.
public final class KubernetesWatcher: Sendable {
    public typealias Delivery = @Sendable (ObjectUpdate) -> Void

    private let transport: Transport
    private let resources: [WatchedResource]
    private let source: String
    private let usesStreams: Bool
    private let feed: Mutex<ObjectFeed>
    private let deliver: Delivery

    /// - Parameter silence: After so long without a byte a watch is taken for dead.
    /// - Parameter usesStreams: Whether to ask for streaming lists first; else lists come by pages.
    /// - Parameter counts: Where its requests are counted.
    /// - Parameter deliver: Called for each update, in order, never twice at once.
    public init(
        _ access: ClusterAccess, resources: [WatchedResource] = WatchedResource.all,
        silence: Duration = .seconds(150), usesStreams: Bool = true, userAgent: String = "fairlead-agent",
        counts: RequestCounts = RequestCounts(), deliver: @escaping Delivery
    ) {
        var patience = Transport.Patience()
        patience.silence = silence
        transport = Transport(access, patience: patience, userAgent: userAgent, counts: counts)
        source = access.server.description
        self.resources = resources
        self.usesStreams = usesStreams
        self.deliver = deliver
        feed = Mutex(ObjectFeed(resources))
    }

    /// Follows until the task is cancelled.
    ///
    /// No failure of the server ends it.
    public func run() async {
        await withTaskGroup { group in
            for resource in resources { group.addTask { await self.follow(resource) } }
        }
    }

    private func follow(_ resource: WatchedResource) async {
        let seed = UInt64.random(in: .min ... .max)
        let reflector = Reflector(resource, source: source, seed: seed, usesStreams: usesStreams)
        var following = Following(
            reflector: reflector, reader: MessageReader(kind: resource.kind, source: source))
        var step = tell(&following, .ready)
        while !Task.isCancelled, let next = step {
            switch next {
            case .announce: step = nil
            case .wait(let duration):
                try? await Task.sleep(for: duration)
                step = tell(&following, .ready)
            case .refreshCredentials:
                await transport.refresh(following.generation)
                step = tell(&following, .ready)
            case .request(let request): step = await carryOut(request, &following)
            }
        }
    }

    /// What one resource's task knows.
    private struct Following {
        var reflector: Reflector
        let reader: MessageReader
        var generation = 0
    }

    /// Tells the reflector what happened, passes on what it announces, and returns what it wants done, if anything.
    private func tell(_ following: inout Following, _ event: Reflector.Event) -> Reflector.Action? {
        let now = ContinuousClock.now - Self.origin
        var events: [ObjectEvent] = []
        var step: Reflector.Action?
        for action in following.reflector.received(event, at: now) {
            if case .announce(let more) = action { events += more } else { step = action }
        }
        let notes = following.reflector.takeNotes()
        let (resource, isListed) = (following.reflector.resource, following.reflector.isListed)
        feed.withLock { feed in
            // Within the lock, so that updates are delivered in the order they are made.
            if let update = feed.update(of: resource, events: events, notes: notes, isListed: isListed) {
                deliver(update)
            }
        }
        return step
    }

    private static let origin = ContinuousClock.now

    /// Makes a request and tells what comes of it, until the reflector wants something else.
    private func carryOut(_ request: ObjectRequest, _ following: inout Following) async -> Reflector.Action? {
        do {
            let answer = try await transport.answer(to: request)
            following.generation = answer.generation
            guard answer.code == 200 else {
                // One that is too long for a Status is none.
                let body = try? await answer.body.collect(upTo: 1 << 16)
                let tree = body.flatMap { try? FieldValue(json: Array($0.readableBytesView)) }
                let status = ServerStatus(code: answer.code, body: tree)
                return tell(&following, .refused(status, retryAfter: answer.retryAfter))
            }
            _ = tell(&following, .opened)
            switch request.verb {
            case .list: return try await readList(answer.body, &following)
            case .watch: return try await readWatch(answer.body, &following)
            }
        } catch {
            if Task.isCancelled { return nil }
            let reason = Self.description(of: error)
            let isGarbled = error is Gibberish || error is ObjectTooLong
            return tell(&following, isGarbled ? .garbled(reason) : .failed(reason))
        }
    }

    private func readWatch(
        _ body: HTTPClientResponse.Body, _ following: inout Following
    ) async throws -> Reflector.Action? {
        var splitter = LineSplitter()
        for try await chunk in body {
            var changes: [WatchChange] = []
            // What came before something that makes no sense is told first.
            var problem: (any Error)?
            do {
                for line in try splitter.lines(in: chunk.readableBytesView) {
                    changes.append(try following.reader.change(line))
                }
            } catch {
                problem = error
            }
            if !changes.isEmpty, let step = tell(&following, .changes(changes)) { return step }
            if let problem { throw problem }
        }
        return tell(&following, .closed)
    }

    private func readList(
        _ body: HTTPClientResponse.Body, _ following: inout Following
    ) async throws -> Reflector.Action? {
        var splitter = ListSplitter()
        for try await chunk in body {
            var items: [VersionedObject] = []
            for item in try splitter.items(in: chunk.readableBytesView) {
                items.append(try following.reader.item(item))
            }
            if !items.isEmpty { _ = tell(&following, .items(items)) }
        }
        return tell(&following, .pageEnded(try following.reader.end(splitter.envelope)))
    }

    private static func description(of error: any Error) -> String {
        switch error {
        case let error as HTTPClientError where error == .readTimeout: "the server has fallen silent"
        case let error as HTTPClientError: error.shortDescription
        case let error as CredentialError: error.description
        case let error as Gibberish: error.description
        case let error as IOError: Errno(rawValue: error.errnoCode).description
        // Every address the name has was tried; the first one's failure stands for all.
        case let error as NIOConnectionError:
            if let first = error.connectionErrors.first {
                description(of: first.error)
            } else {
                "\(error.host) has no address that can be found"
            }
        case NIOSSLError.handshakeFailed(let cause): "the TLS handshake failed: \(String("\(cause)".prefix(300)))"
        case is HTTPParserError: "the answer is no HTTP: \(error)"
        case is ObjectTooLong: "an object is longer than \(ObjectTooLong.limit >> 20) MiB"
        default: String("\(error)".prefix(300))
        }
    }
}
