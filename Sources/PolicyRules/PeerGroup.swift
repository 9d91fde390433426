internal import KubernetesObjects
internal import NetworkAddresses

/// The pods that a rule names as peers, by namespace and by labels; where the rule names a port by its name, only those
/// that expose it.
struct PeerGroup: Hashable, Sendable {
    enum Scope: Hashable, Sendable {
        case namespace(String)
        case namespaces(LabelSelector)
    }

    var scope: Scope
    var pods: LabelSelector
    var port: NamedPort?

    /// Every pod there is; addresses outside the cluster are none.
    static let allPods = PeerGroup(scope: .namespaces(.everything), pods: .everything)

    func exposing(_ port: NamedPort) -> PeerGroup { PeerGroup(scope: scope, pods: pods, port: port) }

    func covers(_ namespace: Namespace) -> Bool {
        switch scope {
        case .namespace(let name): name == namespace.name
        case .namespaces(let selector): selector.matches(namespace.labels)
        }
    }

    /// Whether a pod of that namespace and with those labels is chosen, whatever ports it exposes.
    func matches(_ namespace: Namespace, _ labels: [String: String]) -> Bool {
        covers(namespace) && pods.matches(labels)
    }

    /// What the group's number is made of: one text for one group, the same in every process.
    ///
    /// - Parameter number: the port as which the members expose the named one.
    func text(exposedAs number: Port?) -> String {
        let scope =
            switch self.scope {
            case .namespace(let name): "in \(name)"
            case .namespaces(let selector): "in any of \(selector)"
            }
        let exposing = if let port, let number { "|\(port)=\(number)" } else { "" }
        return "\(scope)|\(pods)\(exposing)"
    }
}

/// A container port by the name and the protocol that a policy gives for it.
struct NamedPort: Hashable, Comparable, Sendable, CustomStringConvertible {
    var name: String
    var `protocol`: TransportProtocol

    var description: String { "\(name)/\(`protocol`)" }

    static func < (left: Self, right: Self) -> Bool {
        (left.protocol, left.name) < (right.protocol, right.name)
    }
}
