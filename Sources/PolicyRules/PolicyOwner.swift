public import KubernetesObjects
public import NetworkAddresses

/// What contributes to the policy table: a pod, or a container that is attached to the network without being one.
public enum PolicyOwner: Hashable, Comparable, Sendable, CustomStringConvertible {
    case pod(NamespacedName)
    case container(String)

    /// As elements of the table name it.
    public var description: String {
        switch self {
        case .pod(let key): "pod \(key)"
        case .container(let id): "container \(id)"
        }
    }
}

/// Addresses that the CNI plugin has given to a container of this node.
public struct LocalAttachment: Hashable, Sendable {
    public var containerID: String
    /// Nil for a container that the runtime told of no pod: its addresses are known, and no policy is about them.
    public var pod: NamespacedName?
    public var addresses: [IPAddress]

    public init(containerID: String, pod: NamespacedName? = nil, addresses: [IPAddress]) {
        self.containerID = containerID
        self.pod = pod
        self.addresses = addresses
    }

    /// Made of the names that a runtime gives; empty ones are none.
    public init(containerID: String, podNamespace: String, podName: String, addresses: [IPAddress]) {
        let isPod = !podNamespace.isEmpty && !podName.isEmpty
        self.init(
            containerID: containerID, pod: isPod ? NamespacedName(namespace: podNamespace, name: podName) : nil,
            addresses: addresses)
    }

    var owner: PolicyOwner { pod.map(PolicyOwner.pod) ?? .container(containerID) }
}

/// What policies need to know of a pod.
struct PodFacts: Hashable, Sendable {
    var labels: [String: String]
    var exposed: [ExposedPort]
    var addresses: [IPAddress]
    var isOnThisNode: Bool
    var isTerminating: Bool
    var created: Timestamp?
    var standing: Standing

    enum Standing: Hashable, Sendable {
        /// Has addresses of its own: policies choose it and name it as a peer.
        case own
        /// Has its node's addresses, so policies cannot tell it from its node.
        case host
        /// Has given its addresses back.
        case ended
    }

    struct ExposedPort: Hashable, Sendable {
        var name: NamedPort
        var number: Port
    }

    init(_ pod: Pod, node: String) {
        labels = pod.metadata.labels
        exposed = pod.spec.containers.flatMap(\.ports).compactMap { port in
            port.name.map { ExposedPort(name: NamedPort(name: $0, protocol: port.protocol), number: port.number) }
        }
        isOnThisNode = pod.spec.nodeName == node
        isTerminating = pod.isTerminating
        created = pod.metadata.creationTimestamp
        standing = pod.hasEnded ? .ended : pod.spec.isHostNetwork ? .host : .own
        addresses = standing == .own ? pod.addresses : []
        // In order, so that the same addresses told in another order are the same facts.
        if zip(addresses, addresses.dropFirst()).contains(where: { $0 >= $1 }) { addresses = Set(addresses).sorted() }
    }
}

extension [PodFacts.ExposedPort] {
    func number(of port: NamedPort) -> Port? { first { $0.name == port }?.number }
}
