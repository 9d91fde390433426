internal import KubernetesObjects

/// The groups that are in use, found by what a pod must have to be in them.
///
/// Each group is filed under one thing it asks for, so that a pod's groups are looked for among those that ask for a
/// label it has, and not among all.
struct GroupIndex: Sendable {
    private enum Anchor: Hashable {
        case podLabel(String, String)
        case podLabelIn(namespace: String, String, String)
        case namespaceLabel(String, String)
        case namespace(String)
        case anywhere
    }

    private var filed: [Anchor: Set<Int>] = [:]

    mutating func insert(_ id: Int, _ group: PeerGroup) {
        for anchor in Self.anchors(of: group) { filed[anchor, default: []].insert(id) }
    }

    mutating func remove(_ id: Int, _ group: PeerGroup) {
        for anchor in Self.anchors(of: group) {
            filed[anchor]?.remove(id)
            if filed[anchor]?.isEmpty == true { filed[anchor] = nil }
        }
    }

    /// The groups that such a pod may be in; no other holds it.
    func candidates(_ namespace: Namespace, _ labels: [String: String]) -> Set<Int> {
        guard !filed.isEmpty else { return [] }
        var found = filed[.anywhere] ?? []
        func look(under anchor: Anchor) {
            if let ids = filed[anchor] { found.formUnion(ids) }
        }
        look(under: .namespace(namespace.name))
        for (key, value) in namespace.labels { look(under: .namespaceLabel(key, value)) }
        for (key, value) in labels {
            look(under: .podLabel(key, value))
            look(under: .podLabelIn(namespace: namespace.name, key, value))
        }
        return found
    }

    /// One requirement of the group, in each of the ways that it can be met.
    private static func anchors(of group: PeerGroup) -> [Anchor] {
        let label = group.pods.requirements.first { $0.operator == .in }
        switch group.scope {
        case .namespace(let name):
            return label?.values.map { .podLabelIn(namespace: name, label!.key, $0) } ?? [.namespace(name)]
        case .namespaces(let selector):
            if let label { return label.values.map { .podLabel(label.key, $0) } }
            let other = selector.requirements.first { $0.operator == .in }
            return other?.values.map { .namespaceLabel(other!.key, $0) } ?? [.anywhere]
        }
    }
}
