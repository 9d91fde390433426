import Glibc
import KernelInterface
import KubernetesObjects
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

@testable import KubernetesClient

/// An API server for tests: a `ServerModel` over TLS, with faults to order.
final class TestServer: Sendable {
    /// What happens to the next request it fits, instead of an answer.
    struct Fault: Sendable {
        enum Effect: Sendable {
            case status(Int, retryAfter: Int? = nil)
            /// 429 as a real server says it whose queues are full: a line of text, no Status, and when to come again.
            case busy(retryAfter: String)
            /// This text as the body of a 200, and then the end of the connection in the middle of the answer.
            case cut(String)
            /// The beginning of a 200, and then nothing for ever.
            case silence
            /// A 200 with an empty body.
            case end
        }

        var path: String
        var verb: ObjectRequest.Verb
        var effect: Effect
    }

    struct Request: Sendable {
        var path: String
        var verb: ObjectRequest.Verb
        var query: [String: String]
        var authorization: String?
        /// Headers whose names begin with `Impersonate-`, as they came.
        var impersonation: [String] = []
    }

    fileprivate struct Watch {
        var channel: any Channel
        var path: String
        var sentUpTo: Int
    }

    struct State {
        var model: ServerModel
        var faults: [Fault] = []
        var requests: [Request] = []
        /// What was to be created, with the path of its collection.
        var created: [(path: String, object: FieldValue)] = []
        fileprivate var watches: [ObjectIdentifier: Watch] = [:]
        var acceptedTokens: Set<String>?
        fileprivate var connections: [ObjectIdentifier: any Channel] = [:]
        fileprivate var listener: (any Channel)?
        var port = 0
        fileprivate var reservation: CInt = -1
        fileprivate var socket: CInt = -1
        /// The collections nobody has a right to.
        var forbidden: Set<String> = []
    }

    static let kinds: [String: ObjectKind] = Dictionary(
        uniqueKeysWithValues: WatchedResource.all.map { ($0.path, $0.kind) })

    private let state: Mutex<State>
    let certificate: TestCertificate
    private let asksForCertificate: Bool
    /// Where it listens.
    private let address: UInt32

    /// - Parameter address: One of the loopback network's, in the host's byte order.
    /// - Parameter port: 0 for one that is free.
    init(
        paths: [WatchedResource] = WatchedResource.all, certificate: TestCertificate = .here,
        asksForCertificate: Bool = false, address: UInt32 = 0x7f00_0001, port: Int = 0
    ) {
        self.certificate = certificate
        self.address = address
        state = Mutex(State(model: ServerModel(paths: Set(paths.map(\.path))), port: port))
        self.asksForCertificate = asksForCertificate
    }

    deinit { close(with { $0.reservation }) }

    func with<Result>(_ body: (inout sending State) -> sending Result) -> Result { state.withLock(body) }

    var port: Int { with { $0.port } }

    /// Changes objects, and sends what watches are to hear of it.
    func change(_ body: @Sendable (inout ServerModel) -> Void) {
        with { state in
            body(&state.model)
            for (id, var watch) in state.watches {
                guard let changes = state.model.changes(watch.path, after: watch.sentUpTo) else {
                    Self.write(ServerModel.event("ERROR", ServerModel.status(410, "Expired")), to: watch.channel)
                    Self.end(watch.channel)
                    state.watches[id] = nil
                    continue
                }
                for change in changes { Self.write(ServerModel.event(change.type, change.tree), to: watch.channel) }
                watch.sentUpTo = state.model.version
                state.watches[id] = watch
            }
        }
    }

    /// Sends this text to every watch of a resource.
    func say(_ text: String, to resource: WatchedResource) {
        with { state in
            for watch in state.watches.values where watch.path == resource.path { Self.write(text, to: watch.channel) }
        }
    }

    func order(_ effect: Fault.Effect, _ verb: ObjectRequest.Verb, _ resource: WatchedResource, times: Int = 1) {
        with { $0.faults += Array(repeating: Fault(path: resource.path, verb: verb, effect: effect), count: times) }
    }

    func requests(_ verb: ObjectRequest.Verb, _ resource: WatchedResource) -> [Request] {
        with { $0.requests.filter { $0.path == resource.path && $0.verb == verb } }
    }

    // MARK: Listening

    /// Begins to listen, on the port it had before if it had one.
    func start() async throws { try await start(on: openListener()) }

    /// Begins to listen in another network namespace.
    func start(in namespace: borrowing NetworkNamespace) async throws {
        // The sockets are made here, since the event loop's threads are in the namespace of the process.
        let listener = try namespace.withEntered { () throws(KernelError) in openListener() }
        try await start(on: listener)
    }

    private func start(on socket: CInt) async throws {
        let context = try NIOSSLContext(configuration: try tls())
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(NIOSSLServerHandler(context: context))
                    try pipeline.configureHTTPServerPipeline()
                    try pipeline.addHandler(RequestHandler(server: self))
                }
            }
            .withBoundSocket(socket).get()
        with { state in
            state.listener = listener
            state.socket = socket
        }
    }

    /// Ends as a process does: all connections at once.
    func stop() async {
        let (listener, socket) = with { state in
            defer { state.listener = nil }
            return (state.listener, state.socket)
        }
        if let listener {
            // A child that is just being started by another test may have the socket open still.
            shutdown(socket, Int32(SHUT_RDWR))
            try? await listener.close()
        }
        while true {
            let channels = with { Array($0.connections.values) }
            if channels.isEmpty { return }
            for channel in channels { try? await channel.close() }
        }
    }

    /// A socket bound to this server's port, which a second one holds from the first time on.
    ///
    /// Without that the kernel could give the port away while the server is down, to a connection of another test.
    private func openListener() -> CInt {
        with { state in
            if state.reservation < 0 {
                let (reservation, port) = boundSocket(port: state.port)
                state.reservation = reservation
                state.port = port
            }
            return boundSocket(port: state.port).descriptor
        }
    }

    private func boundSocket(port: Int) -> (descriptor: CInt, port: Int) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var yes: Int32 = 1
        // Only a port that is ours already may be shared.
        if port != 0 { setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, 4) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = self.address.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 ? getsockname(descriptor, pointer, &length) : -1
            }
        }
        precondition(status == 0, "cannot bind: \(errno)")
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
        return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
    }

    private func tls() throws -> TLSConfiguration {
        let certificates = try NIOSSLCertificate.fromPEMBytes(Array(certificate.certificate.utf8))
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: certificates.map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(certificate.key.utf8), format: .pem)))
        if asksForCertificate {
            configuration.certificateVerification = .noHostnameVerification
            configuration.trustRoots = .certificates(certificates)
        }
        return configuration
    }

    // MARK: Answering

    fileprivate func connected(_ channel: any Channel) {
        with { $0.connections[ObjectIdentifier(channel)] = channel }
    }

    fileprivate func disconnected(_ channel: any Channel) {
        with { state in
            state.connections[ObjectIdentifier(channel)] = nil
            state.watches[ObjectIdentifier(channel)] = nil
        }
    }

    fileprivate func answer(_ head: HTTPRequestHead, on channel: any Channel) {
        let (path, query) = Self.parts(of: head.uri)
        let verb: ObjectRequest.Verb = query["watch"] == nil ? .list : .watch
        let authorization = head.headers.first(name: "Authorization")
        with { state in
            let impersonation = head.headers.filter { $0.name.hasPrefix("Impersonate-") }.map { "\($0.name): \($0.value)" }
            state.requests.append(
                Request(
                    path: path, verb: verb, query: query, authorization: authorization, impersonation: impersonation))
            if let tokens = state.acceptedTokens, !tokens.contains(where: { authorization == "Bearer \($0)" }) {
                return Self.refuse(401, "Unauthorized", on: channel)
            }
            if let index = state.faults.firstIndex(where: { $0.path == path && $0.verb == verb }) {
                switch state.faults.remove(at: index).effect {
                case .status(let code, let retryAfter):
                    return Self.refuse(code, "Ordered", retryAfter: retryAfter, on: channel)
                case .busy(let retryAfter):
                    let text = "Too many requests, please try again later.\n"
                    return Self.refuse(429, body: text, type: "text/plain", retryAfter: retryAfter, on: channel)
                case .cut(let text):
                    Self.begin(on: channel)
                    Self.write(text, to: channel)
                    return channel.eventLoop.execute { channel.close(promise: nil) }
                case .silence: return Self.begin(on: channel)
                case .end:
                    Self.begin(on: channel)
                    return Self.end(channel)
                }
            }
            guard state.model.paths.contains(path), let kind = Self.kinds[path] else {
                return Self.refuse(404, "NotFound", on: channel)
            }
            guard !state.forbidden.contains(path) else {
                return Self.refuse(403, "Forbidden", "User \"test\" cannot \(verb) that", on: channel)
            }
            if verb == .list {
                Self.list(path, kind, query, &state, on: channel)
            } else {
                Self.watch(path, kind, query, &state, on: channel)
            }
        }
    }

    fileprivate func create(_ head: HTTPRequestHead, _ body: [UInt8], on channel: any Channel) {
        guard let object = try? FieldValue(json: body) else { return Self.refuse(400, "BadRequest", on: channel) }
        with { $0.created.append((head.uri, object)) }
        Self.send(.head(HTTPResponseHead(version: .http1_1, status: .created, headers: ["Content-Length": "2"])), to: channel)
        Self.write("{}", to: channel)
        Self.end(channel)
    }

    private static func list(
        _ path: String, _ kind: ObjectKind, _ query: [String: String], _ state: inout State, on channel: any Channel
    ) {
        switch state.model.page(path, limit: query["limit"].flatMap(Int.init), token: query["continue"] ?? "") {
        case .expired: refuse(410, "Expired", on: channel)
        case .items(let items, let version, let token):
            begin(on: channel)
            write(
                ServerModel.list(
                    kind: "\(kind)", apiVersion: kind.apiVersion, items, version: version, token: token),
                to: channel)
            end(channel)
        }
    }

    private static func watch(
        _ path: String, _ kind: ObjectKind, _ query: [String: String], _ state: inout State, on channel: any Channel
    ) {
        let after: Int
        if query["sendInitialEvents"] == "true" {
            guard state.model.hasStreams else { return refuse(422, "Invalid", on: channel) }
            begin(on: channel)
            for tree in (state.model.objects[path] ?? [:]).values {
                write(ServerModel.event("ADDED", tree), to: channel)
            }
            let version = state.model.version
            write(ServerModel.bookmark(kind: "\(kind)", version: version, endsInitialEvents: true), to: channel)
            after = version
        } else {
            after = Int(query["resourceVersion"] ?? "") ?? 0
            begin(on: channel)
            guard let changes = state.model.changes(path, after: after) else {
                write(ServerModel.event("ERROR", ServerModel.status(410, "Expired")), to: channel)
                return end(channel)
            }
            for change in changes { write(ServerModel.event(change.type, change.tree), to: channel) }
        }
        state.watches[ObjectIdentifier(channel)] = Watch(channel: channel, path: path, sentUpTo: state.model.version)
    }

    private static func refuse(
        _ code: Int, _ reason: String, _ message: String = "", retryAfter: Int? = nil, on channel: any Channel
    ) {
        let body = ServerModel.status(code, reason, message).description
        refuse(code, body: body, type: "application/json", retryAfter: retryAfter.map(String.init), on: channel)
    }

    private static func refuse(_ code: Int, body: String, type: String, retryAfter: String?, on channel: any Channel) {
        var head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: code))
        head.headers.add(name: "Content-Type", value: type)
        head.headers.add(name: "Content-Length", value: String(body.utf8.count))
        if let retryAfter { head.headers.add(name: "Retry-After", value: retryAfter) }
        send(.head(head), to: channel)
        write(body, to: channel)
        end(channel)
    }

    private static func begin(on channel: any Channel) {
        let head = HTTPResponseHead(
            version: .http1_1, status: .ok,
            headers: ["Transfer-Encoding": "chunked", "Content-Type": "application/json"])
        send(.head(head), to: channel)
    }

    /// In a turn of the event loop's own: where a write fails at once, the loop tells us, and the lock is taken.
    private static func send(_ part: HTTPServerResponsePart, to channel: any Channel) {
        channel.eventLoop.execute { channel.writeAndFlush(part, promise: nil) }
    }

    private static func write(_ text: String, to channel: any Channel) {
        send(.body(.byteBuffer(ByteBuffer(string: text))), to: channel)
    }

    private static func end(_ channel: any Channel) {
        send(.end(nil), to: channel)
    }

    private static func parts(of uri: String) -> (path: String, query: [String: String]) {
        let parts = uri.split(separator: "?", maxSplits: 1)
        var query: [String: String] = [:]
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            var bytes: [UInt8] = []
            var rest = sides[1].utf8[...]
            while let byte = rest.popFirst() {
                let isEscape = byte == UInt8(ascii: "%")
                bytes.append(isEscape ? UInt8(Substring(rest.prefix(2)), radix: 16)! : byte)
                if isEscape { rest = rest.dropFirst(2) }
            }
            query[String(sides[0])] = String(decoding: bytes, as: UTF8.self)
        }
        return (String(parts[0]), query)
    }
}

// Sendable: called on its channel's event loop only.
private final class RequestHandler: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let server: TestServer
    /// An object that is being sent.
    private var creation: (head: HTTPRequestHead, body: [UInt8])?

    init(server: TestServer) { self.server = server }

    func channelActive(context: ChannelHandlerContext) {
        server.connected(context.channel)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        server.disconnected(context.channel)
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head) where head.method == .POST: creation = (head, [])
        case .head(let head): server.answer(head, on: context.channel)
        case .body(let bytes): creation?.body += bytes.readableBytesView
        case .end:
            if let creation { server.create(creation.head, creation.body, on: context.channel) }
            creation = nil
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
