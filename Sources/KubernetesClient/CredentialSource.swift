import FoundationEssentials
import KernelInterface
import KubernetesObjects

/// What a request is made with at this moment.
struct RequestCredentials: Hashable, Sendable {
    /// What connections depend on: when it changes, new ones are made.
    struct Identity: Hashable, Sendable {
        var authorities: [UInt8]?
        var certificate: [UInt8]?
        var key: [UInt8]?
    }

    var identity = Identity()
    /// The header `Authorization`; nil for none.
    var authorization: String?
}

/// Credentials cannot be had, and why.
struct CredentialError: Error, CustomStringConvertible {
    var description: String
}

/// Reads tokens and certificates whenever a request needs them, and has plugins make them.
///
/// Files are read for every request, of which there are few: a token that was replaced is never used after.
actor CredentialSource {
    private let thread = KernelThread()
    private let access: ClusterAccess
    private var made: CredentialPlugin.Made?
    /// When `made` was; a refusal of something older than that is no reason to make another.
    private var generation = 0

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    init(_ access: ClusterAccess) { self.access = access }

    /// What a request is to be made with, and which generation of a plugin's work it is.
    func current() throws -> (credentials: RequestCredentials, generation: Int) {
        var credentials = RequestCredentials()
        if case .authorities(let material) = access.trust {
            credentials.identity.authorities = try bytes(material, "the authorities' certificates")
        }
        if let certificate = access.certificate {
            credentials.identity.certificate = try bytes(certificate.certificate, "the client certificate")
            credentials.identity.key = try bytes(certificate.key, "the client's key")
        }
        switch access.credentials {
        case .none: break
        case .token(let material):
            let text = String(decoding: try bytes(material, "the token"), as: UTF8.self)
            let token = text.split(whereSeparator: \.isWhitespace).joined()
            guard !token.isEmpty, token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
                throw CredentialError(description: "the token is empty or no token")
            }
            credentials.authorization = "Bearer \(token)"
        case .password(let user, let password):
            credentials.authorization = "Basic \(Data("\(user):\(password)".utf8).base64EncodedString())"
        case .plugin(let plugin):
            let now = Timestamp(secondsSince1970: Int64(Date().timeIntervalSince1970))
            if made == nil || made?.isStale(at: now) == true {
                made = try plugin.run()
                generation += 1
            }
            credentials.authorization = made?.token.map { "Bearer \($0)" }
            credentials.identity.certificate = made?.certificate
            credentials.identity.key = made?.key
        }
        return (credentials, generation)
    }

    /// Forgets what a plugin made, since the server refused it; several requests may be refused for the same.
    func forget(generation refused: Int) {
        if refused == generation { made = nil }
    }

    private func bytes(_ material: ClusterAccess.Material, _ what: String) throws(CredentialError) -> [UInt8] {
        do {
            return try material.bytes()
        } catch {
            throw CredentialError(description: "\(what) cannot be had: \(error)")
        }
    }
}
