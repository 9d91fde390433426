import ArgumentParser
import KubernetesObjects
import NetworkAddresses

/// One end of a connection as a person names it, with or without a port.
///
/// `pod/web-0`, `svc/api:http`, `node/node-1:30080`, `deploy/web` for its first pod, each also with a namespace in
/// front (`pay/svc/api:80`); `svc/api.pay:80` as in DNS; or an address, `10.96.0.10:80`, `[fd00::1]:80`.
struct TraceEnd: Hashable {
    enum Subject: Hashable {
        case object(ObjectKind, NamespacedName)
        case address(IPAddress)
    }

    var subject: Subject
    /// A number or a port's name.
    var port: String?

    init(_ text: String, namespace: String) throws {
        let (name, port) = try Self.split(text)
        self.port = port
        if let address = IPAddress(name) {
            subject = .address(address)
            return
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (1...3).contains(parts.count), !parts.contains("") else {
            throw ValidationError(
                "\"\(text)\" names neither an object nor an address: "
                    + "write pod/web-0, svc/api:80, pay/svc/api:80 or 10.96.0.10:80"
            )
        }
        let kind = parts.count == 1 ? .pod : try ObjectArgument.kind(parts[parts.count - 2])
        var key = NamespacedName(namespace: parts.count == 3 ? parts[0] : namespace, name: parts[parts.count - 1])
        // A service's name has no dots, so this is its DNS name.
        if kind == .service, parts.count < 3, let dot = key.name.firstIndex(of: ".") {
            let labels = key.name[key.name.index(after: dot)...].split(separator: ".")
            key = NamespacedName(namespace: labels.first.map(String.init) ?? namespace, name: String(key.name[..<dot]))
        }
        if kind.isClusterScoped { key.namespace = "" }
        subject = .object(kind, key)
    }

    /// Takes the port off: what follows the last colon, unless that is part of an IPv6 address.
    private static func split(_ text: String) throws -> (name: String, port: String?) {
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else {
                throw ValidationError("\"\(text)\" has no closing bracket")
            }
            let rest = text[text.index(after: end)...]
            let name = String(text[text.index(after: text.startIndex)..<end])
            if rest.isEmpty { return (name, nil) }
            guard rest.first == ":", rest.count > 1 else {
                throw ValidationError("\"\(rest)\" behind \"[\(name)]\" is no port: write [\(name)]:80")
            }
            return (name, String(rest.dropFirst()))
        }
        guard IPAddress(text) == nil, let colon = text.lastIndex(of: ":") else { return (text, nil) }
        let port = String(text[text.index(after: colon)...])
        guard !port.isEmpty else { throw ValidationError("\"\(text)\" ends in a colon without a port") }
        return (String(text[..<colon]), port)
    }
}
