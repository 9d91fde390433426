/// The kinds of objects Fairlead has a use for, and any other by its name.
public enum ObjectKind: Hashable, Sendable {
    case namespace
    case pod
    case service
    case endpointSlice
    case node
    case networkPolicy
    case serviceCIDR
    case deployment
    case statefulSet
    case daemonSet
    case replicaSet
    case other(String)

    /// Every kind that is not `other`.
    public static let known: [ObjectKind] = [
        .namespace, .pod, .service, .endpointSlice, .node, .networkPolicy, .serviceCIDR, .deployment, .statefulSet,
        .daemonSet, .replicaSet,
    ]

    /// The kind a manifest's `kind` names.
    public init(_ name: String) {
        self = Self.known.first { $0.description == name } ?? .other(name)
    }

    /// Whether objects of this kind live outside namespaces.
    ///
    /// Of kinds we do not know it is not known either; they are taken as namespaced, which only shows in messages.
    public var isClusterScoped: Bool {
        switch self {
        case .namespace, .node, .serviceCIDR: true
        case .pod, .service, .endpointSlice, .networkPolicy, .deployment, .statefulSet, .daemonSet, .replicaSet,
            .other:
            false
        }
    }
}

extension ObjectKind: CustomStringConvertible {
    public var description: String {
        switch self {
        case .namespace: "Namespace"
        case .pod: "Pod"
        case .service: "Service"
        case .endpointSlice: "EndpointSlice"
        case .node: "Node"
        case .networkPolicy: "NetworkPolicy"
        case .serviceCIDR: "ServiceCIDR"
        case .deployment: "Deployment"
        case .statefulSet: "StatefulSet"
        case .daemonSet: "DaemonSet"
        case .replicaSet: "ReplicaSet"
        case .other(let name): name
        }
    }
}

/// What names an object among those of its kind; the namespace is empty for cluster-scoped kinds.
public struct NamespacedName: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var namespace: String
    public var name: String

    public init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    /// `shop/web`, or `node-a` outside namespaces.
    public var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }

    public static func < (left: Self, right: Self) -> Bool {
        (left.namespace, left.name) < (right.namespace, right.name)
    }
}

/// What names an object in the cluster, printed as `NetworkPolicy shop/allow-web`.
public struct ObjectReference: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var kind: ObjectKind
    /// Nil for cluster-scoped kinds.
    public var namespace: String?
    public var name: String

    public init(kind: ObjectKind, namespace: String?, name: String) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
    }

    public init(_ kind: ObjectKind, _ key: NamespacedName) {
        self.init(kind: kind, namespace: key.namespace.isEmpty ? nil : key.namespace, name: key.name)
    }

    public var key: NamespacedName { NamespacedName(namespace: namespace ?? "", name: name) }

    public var description: String { "\(kind) \(key)" }

    public static func < (left: Self, right: Self) -> Bool {
        (left.kind.description, left.key) < (right.kind.description, right.key)
    }
}
