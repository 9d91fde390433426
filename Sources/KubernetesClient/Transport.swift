import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOSSL

/// Carries requests to an API server, over TLS wherever the server speaks it.
///
/// Each request under way has a connection of its own (HTTP/1.1), although API servers speak HTTP/2 too: on one shared
/// connection a half-open one would hold up all watches until the kernel gave it up, a quarter of an hour later, and
/// a large list would hold up the events of the others.
actor Transport {
    /// How long to wait for what.
    struct Patience: Sendable {
        var connection = Duration.seconds(10)
        var answer = Duration.seconds(60)
        /// A server sends a watch its first bookmark within two minutes and then one about every minute; one that says
        /// nothing for longer may be gone.
        var silence = Duration.seconds(150)
    }

    /// A client that ends when nobody uses it any more, with the connections it keeps.
    final class Connections: Sendable {
        let client: HTTPClient

        init(_ configuration: HTTPClient.Configuration) {
            client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        }

        deinit { client.shutdown { _ in } }
    }

    /// An answer whose body has not been read.
    struct Answer: Sendable {
        var code: Int
        var retryAfter: Duration?
        var body: HTTPClientResponse.Body
        /// Of the credentials it was asked with.
        var generation: Int
        var connections: Connections
    }

    private let access: ClusterAccess
    private let credentials: CredentialSource
    let patience: Patience
    private let userAgent: String
    private let counts: RequestCounts
    private var connections: (identity: RequestCredentials.Identity, client: Connections)?

    init(_ access: ClusterAccess, patience: Patience, userAgent: String, counts: RequestCounts) {
        self.access = access
        self.patience = patience
        self.userAgent = userAgent
        self.counts = counts
        credentials = CredentialSource(access)
    }

    /// The answer's beginning.
    func answer(to request: ObjectRequest) async throws -> Answer {
        let (message, connections, generation) = try await message(to: request.target)
        let response = try await send(message, by: connections, patience: patience.answer)
        // Seconds; the other form, a date, no API server uses.
        let seconds = response.headers.first(name: "Retry-After").flatMap(Int.init)
        return Answer(
            code: Int(response.status.code), retryAfter: seconds.map { .seconds(max(0, min($0, 86400))) },
            body: response.body, generation: generation, connections: connections)
    }

    /// Sends a request, and counts what comes of it.
    func send(
        _ message: HTTPClientRequest, by connections: Connections, patience: Duration
    ) async throws -> HTTPClientResponse {
        var kind = RequestCounts.Kind(
            method: message.method.rawValue, host: access.server.authority(), code: "<error>")
        defer { counts.count(kind) }
        let response = try await connections.client.execute(message, timeout: TimeAmount(patience))
        kind.code = "\(response.status.code)"
        return response
    }

    /// A request to be filled in, the connections to send it by, and the number of the credentials in it.
    ///
    /// - Parameter target: The path and the query.
    func message(to target: String) async throws -> (HTTPClientRequest, Connections, generation: Int) {
        let (now, generation) = try await credentials.current()
        let connections = try connections(for: now.identity)
        var message = HTTPClientRequest(url: access.server.url(host: access.serverName) + target)
        message.headers.add(name: "Accept", value: "application/json")
        message.headers.add(name: "User-Agent", value: userAgent)
        if let authorization = now.authorization { message.headers.add(name: "Authorization", value: authorization) }
        if let impersonation = access.impersonation { message.headers.add(contentsOf: HTTPHeaders(impersonation)) }
        return (message, connections, generation)
    }

    /// Has credentials made anew where a plugin makes them.
    func refresh(_ generation: Int) async { await credentials.forget(generation: generation) }

    private func connections(for identity: RequestCredentials.Identity) throws -> Connections {
        if let connections, connections.identity == identity { return connections.client }
        let made = Connections(try configuration(identity))
        connections = (identity, made)
        return made
    }

    private func configuration(_ identity: RequestCredentials.Identity) throws -> HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration(
            tlsConfiguration: access.server.isSecure ? try tls(identity) : nil,
            // A token goes to the server it is for, not to where that one points.
            redirectConfiguration: .disallow,
            timeout: .init(connect: TimeAmount(patience.connection), read: TimeAmount(patience.silence)),
            connectionPool: .init(idleTimeout: .seconds(30), concurrentHTTP1ConnectionsPerHostSoftLimit: 32))
        configuration.httpVersion = .http1Only
        // When to try again is the reflector's to say.
        configuration.connectionPool.retryConnectionEstablishment = false
        switch access.proxy?.kind {
        case nil: break
        case .http: configuration.proxy = .server(host: access.proxy!.host, port: access.proxy!.port)
        case .socks5: configuration.proxy = .socksServer(host: access.proxy!.host, port: access.proxy!.port)
        }
        if let name = access.serverName { configuration.dnsOverride = [name: access.server.host] }
        return configuration
    }

    private func tls(_ identity: RequestCredentials.Identity) throws -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        switch access.trust {
        case .system: break
        case .anyone: configuration.certificateVerification = .none
        case .authorities:
            configuration.trustRoots = .certificates(
                try certificates(identity.authorities ?? [], "the authorities' certificates"))
        }
        if let chain = identity.certificate, let key = identity.key {
            configuration.certificateChain = try certificates(chain, "the client certificate")
                .map { .certificate($0) }
            do {
                configuration.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: key, format: .pem))
            } catch {
                throw CredentialError(description: "the client's key is no key in PEM")
            }
        }
        return configuration
    }

    private func certificates(_ pem: [UInt8], _ what: String) throws(CredentialError) -> [NIOSSLCertificate] {
        do {
            let certificates = try NIOSSLCertificate.fromPEMBytes(pem)
            guard !certificates.isEmpty else { throw CredentialError(description: "") }
            return certificates
        } catch {
            throw CredentialError(description: "\(what) is not in PEM")
        }
    }
}

extension HTTPHeaders {
    /// `Impersonate-User` and its companions.
    fileprivate init(_ impersonation: ClusterAccess.Impersonation) {
        self.init()
        add(name: "Impersonate-User", value: impersonation.user)
        if !impersonation.uid.isEmpty { add(name: "Impersonate-Uid", value: impersonation.uid) }
        for group in impersonation.groups { add(name: "Impersonate-Group", value: group) }
        for (key, values) in impersonation.extra.sorted(by: { $0.key < $1.key }) {
            // Keys are paths like `example.org/scopes`; a header's name is escaped as in a URL.
            for value in values { add(name: "Impersonate-Extra-\(ObjectRequest.escaped(key))", value: value) }
        }
    }
}
