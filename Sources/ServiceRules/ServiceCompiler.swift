public import KubernetesObjects
public import Nftables

/// Follows services and their slices, and says which contributions to the service table changed.
///
/// An event touches its service and no other; the node's own change touches those that depend on the node.
public struct ServiceCompiler: Sendable {
    public private(set) var node: NodeContext
    private var services: [NamespacedName: Service] = [:]
    private var slices: [NamespacedName: [NamespacedName: EndpointSlice]] = [:]
    /// Which service a slice was last seen to belong to: its label may change, and a removal brings no label.
    private var serviceOfSlice: [NamespacedName: NamespacedName] = [:]
    private var dirty: Set<NamespacedName> = []

    public init(node: NodeContext) { self.node = node }

    /// Takes in an event; those about other kinds change nothing here.
    public mutating func apply(_ event: ObjectEvent) {
        switch event {
        case .set(.service(let service)):
            services[service.key] = service
            dirty.insert(service.key)
        case .set(.endpointSlice(let slice)): set(slice, for: slice.key)
        case .removed(let reference) where reference.kind == .service:
            services[reference.key] = nil
            dirty.insert(reference.key)
        case .removed(let reference) where reference.kind == .endpointSlice: set(nil, for: reference.key)
        default: break
        }
    }

    private mutating func set(_ slice: EndpointSlice?, for key: NamespacedName) {
        if let old = serviceOfSlice[key], old != slice?.service {
            slices[old]?[key] = nil
            if slices[old]?.isEmpty == true { slices[old] = nil }
            dirty.insert(old)
        }
        serviceOfSlice[key] = slice?.service
        guard let slice, let service = slice.service else { return }
        slices[service, default: [:]][key] = slice
        dirty.insert(service)
    }

    /// Takes in what changed about the node.
    public mutating func setNode(_ node: NodeContext) {
        guard node != self.node else { return }
        let old = self.node
        self.node = node
        if old.name != node.name {
            dirty.formUnion(services.keys)
        } else if old.addresses != node.addresses {
            // Only node ports are reached at the node's addresses.
            dirty.formUnion(services.values.filter { $0.ports.contains { $0.nodePort != nil } }.map(\.key))
        }
    }

    /// The contributions that may have changed since the last call; nil for a service that is gone.
    public mutating func takeContributions() -> [(service: NamespacedName, contribution: Contribution?)] {
        defer { dirty = [] }
        return dirty.sorted().map { key in
            guard let service = services[key] else { return (key, nil) }
            return (key, rules(for: service, slices: slices[key].map { Array($0.values) } ?? [], on: node))
        }
    }
}
