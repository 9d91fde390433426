/// Where an API server is, how it is recognised, and by what it recognises us.
public struct ClusterAccess: Hashable, Sendable {
    /// Bytes that are given where they are needed, or in a file that may change while we run.
    public enum Material: Hashable, Sendable {
        case data([UInt8])
        case file(String)
    }

    /// How the server proves that it is the one that is meant.
    public enum Trust: Hashable, Sendable {
        /// By a certificate of one of the machine's authorities.
        case system
        /// By a certificate of one of these authorities, in PEM.
        case authorities(Material)
        /// Not at all: whoever answers is believed (`insecure-skip-tls-verify`).
        case anyone
    }

    /// A client certificate and its key, in PEM.
    public struct Certificate: Hashable, Sendable {
        public var certificate: Material
        public var key: Material

        public init(certificate: Material, key: Material) {
            self.certificate = certificate
            self.key = key
        }
    }

    public enum Credentials: Hashable, Sendable {
        case none
        case token(Material)
        case password(user: String, password: String)
        case plugin(CredentialPlugin)
    }

    /// In whose name requests are made, by one who has the right to (`as` and its companions in a kubeconfig).
    public struct Impersonation: Hashable, Sendable {
        public var user: String
        public var uid = ""
        public var groups: [String] = []
        /// Further facts, by key, each with its values.
        public var extra: [String: [String]] = [:]

        public init(user: String) { self.user = user }
    }

    /// A proxy that requests go through.
    public struct Proxy: Hashable, Sendable {
        public enum Kind: Hashable, Sendable {
            /// HTTP `CONNECT`.
            case http
            case socks5
        }

        public var kind: Kind
        public var host: String
        public var port: Int

        /// Parses `http://proxy:3128` or `socks5://proxy:1080`; nil for anything else, a proxy over TLS among it.
        public init?(_ url: String) {
            let kinds: [(String, Kind, Int)] = [
                ("http://", .http, 80), ("socks5://", .socks5, 1080), ("socks5h://", .socks5, 1080),
            ]
            guard let (scheme, kind, port) = kinds.first(where: { url.lowercased().hasPrefix($0.0) }),
                let server = Server("http://" + url.dropFirst(scheme.count)), server.path.isEmpty
            else { return nil }
            self.kind = kind
            host = server.host
            self.port = server.hasPort ? server.port : port
        }
    }

    public struct Server: Hashable, Sendable, CustomStringConvertible {
        public var isSecure: Bool
        public var host: String
        public var port: Int
        /// Whether the URL said the port.
        var hasPort = true
        /// What comes before `/api`, as behind some proxies: `/k8s/clusters/c-1`, or nothing.
        public var path: String

        /// Parses `https://kubernetes.example:6443/path`; nil for anything that is no such URL.
        public init?(_ url: String) {
            let scheme = ["https://", "http://"].first { url.lowercased().hasPrefix($0) }
            guard let scheme, url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
            isSecure = scheme == "https://"
            let rest = url.dropFirst(scheme.count)
            let authority = rest.prefix { $0 != "/" }
            path = String(rest.dropFirst(authority.count))
            while path.hasSuffix("/") { path.removeLast() }
            guard !authority.contains(where: { "@?#".contains($0) }), !path.contains(where: { "?#".contains($0) })
            else { return nil }
            var portText: Substring?
            if authority.hasPrefix("[") {
                guard let end = authority.firstIndex(of: "]") else { return nil }
                host = String(authority[authority.index(after: authority.startIndex)..<end])
                let after = authority[authority.index(after: end)...]
                guard after.isEmpty || after.hasPrefix(":") else { return nil }
                portText = after.isEmpty ? nil : after.dropFirst()
            } else {
                let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                host = String(parts[0])
                portText = parts.count > 1 ? parts[1] : nil
            }
            guard !host.isEmpty else { return nil }
            port = isSecure ? 443 : 80
            hasPort = portText != nil
            if let portText {
                guard let number = UInt16(portText), number > 0 else { return nil }
                port = Int(number)
            }
        }

        public init(isSecure: Bool = true, host: String, port: Int) {
            self.isSecure = isSecure
            self.host = host
            self.port = port
            path = ""
        }

        /// The host and the port, with a host of another name where one is given.
        func authority(host other: String? = nil) -> String {
            let name = other ?? host
            return "\(name.contains(":") ? "[\(name)]" : name):\(port)"
        }

        /// The URL, with a host of another name where one is given.
        func url(host other: String? = nil) -> String {
            "\(isSecure ? "https" : "http")://\(authority(host: other))\(path)"
        }

        public var description: String { url() }
    }

    public var server: Server
    public var trust: Trust
    /// The name the server's certificate must be for, where that is not the host; one for its address is right too.
    public var serverName: String?
    public var certificate: Certificate?
    public var credentials: Credentials
    /// Nil for oneself.
    public var impersonation: Impersonation?
    /// Nil for the direct way.
    public var proxy: Proxy?

    public init(
        server: Server, trust: Trust = .system, serverName: String? = nil, certificate: Certificate? = nil,
        credentials: Credentials = .none
    ) {
        self.server = server
        self.trust = trust
        self.serverName = serverName
        self.certificate = certificate
        self.credentials = credentials
    }
}

/// A program that makes credentials, as `users[].user.exec` of a kubeconfig names it.
public struct CredentialPlugin: Hashable, Sendable {
    public var apiVersion: String
    /// A path, or a name to look for in `PATH`.
    public var command: String
    public var arguments: [String]
    public var environment: [String: String]
    /// What to tell a person who lacks the program.
    public var installHint: String
    /// What of the cluster it is told, as JSON; nil where it does not want to know.
    public var cluster: String?

    public init(
        apiVersion: String = "client.authentication.k8s.io/v1", command: String, arguments: [String] = [],
        environment: [String: String] = [:], installHint: String = "", cluster: String? = nil
    ) {
        self.apiVersion = apiVersion
        self.command = command
        self.arguments = arguments
        self.environment = environment
        self.installHint = installHint
        self.cluster = cluster
    }
}

/// Why no API server can be reached with what was configured.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The file, or the environment variable, at fault.
    public var file: String
    /// The context in use; empty where none has been found yet.
    public var context: String
    /// The path of the field, such as `users[0].user.tokenFile`; empty for the file as a whole.
    public var field: String
    public var message: String

    public init(file: String, context: String = "", field: String = "", message: String) {
        self.file = file
        self.context = context
        self.field = field
        self.message = message
    }

    /// `admin.conf: context "blue": users[0].user.token: is missing`.
    public var description: String {
        [file, context.isEmpty ? "" : "context \"\(context)\"", field, message].filter { !$0.isEmpty }
            .joined(separator: ": ")
    }
}
