internal import KubernetesObjects
internal import Nftables

/// What the comments that our tables carry in the kernel say.
enum RuleComment: Hashable {
    /// `np:shop/allow-front:in:0.1`: rule 0, peer 1; the peer is absent where the rule names none.
    case admits(NamespacedName, NetworkPolicy.Direction, rule: Int, peer: Int?)
    /// `deny:in:shop/a,shop/b`: these isolate the pod. Cut short where there are too many to name.
    case isolates(NetworkPolicy.Direction, [NamespacedName], isComplete: Bool)
    /// `closed:unknown local address`.
    case closed(String)
    /// `invalid:part of no connection`.
    case invalid(String)
    /// `judged:…`, `related:…`: an established connection needs no new decision.
    case established
    /// `self:…`: never policed.
    case own
    /// `svc shop/api:http`.
    case service(NamespacedName, port: String)
    /// `pod shop/api-1`.
    case pod(NamespacedName)
    case other(String)

    init(_ text: String) {
        self = Self.parse(text) ?? .other(text)
    }

    private static func parse(_ text: String) -> RuleComment? {
        if let rest = text.dropping("svc ") {
            guard let colon = rest.lastIndex(of: ":"), let key = NamespacedName(path: rest[..<colon]) else {
                return nil
            }
            return .service(key, port: String(rest[rest.index(after: colon)...]))
        }
        if let rest = text.dropping("pod ") { return NamespacedName(path: rest).map(RuleComment.pod) }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        switch parts.first {
        case "np": return admission(parts)
        case "deny":
            guard parts.count == 3, let direction = NetworkPolicy.Direction(word: parts[1]) else { return nil }
            // A list that fills its comment was cut, within a name or behind one.
            let isComplete = text.utf8.count < longestComment
            let names = parts[2].split(separator: ",")
            return .isolates(
                direction, (isComplete ? names[...] : names.dropLast()).compactMap { NamespacedName(path: $0) },
                isComplete: isComplete)
        case "closed": return .closed(parts.dropFirst().joined(separator: ":"))
        case "invalid": return .invalid(parts.dropFirst().joined(separator: ":"))
        case "judged", "related": return .established
        case "self": return .own
        default: return nil
        }
    }

    private static func admission(_ parts: [Substring]) -> RuleComment? {
        guard parts.count == 4, let key = NamespacedName(path: parts[1]),
            let direction = NetworkPolicy.Direction(word: parts[2])
        else { return nil }
        let position = parts[3].split(separator: ".")
        guard position.count == 2, let rule = Int(position[0]) else { return nil }
        return .admits(key, direction, rule: rule, peer: Int(position[1]))
    }
}

extension NetworkPolicy.Direction {
    fileprivate init?(word: Substring) {
        switch word {
        case "in": self = .ingress
        case "out": self = .egress
        default: return nil
        }
    }

    var word: String { self == .ingress ? "ingress" : "egress" }

    /// The field of a rule that lists its peers.
    var peerField: String { self == .ingress ? "from" : "to" }

    /// `ingress[0].from[1]`.
    func path(rule: Int, peer: Int?) -> String {
        "\(word)[\(rule)]" + (peer.map { ".\(peerField)[\($0)]" } ?? "")
    }
}

extension NamespacedName {
    /// Reads `namespace/name`.
    init?(path: some StringProtocol) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        self.init(namespace: String(parts[0]), name: String(parts[1]))
    }
}

extension StringProtocol {
    fileprivate func dropping(_ prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}
