internal import KubernetesObjects
internal import ServiceRules

/// The objects that describe the node and the cluster's address ranges.
struct NodeFacts {
    private var own: Node?
    private var serviceCIDRs: [String: ServiceCIDR] = [:]
    private let name: String

    init(name: String) { self.name = name }

    /// Takes in an event; true when it was about something the service table depends on.
    mutating func apply(_ event: ObjectEvent) -> Bool {
        switch event {
        case .set(.node(let node)) where node.name == name: own = node
        case .set(.serviceCIDR(let cidr)): serviceCIDRs[cidr.metadata.name] = cidr
        case .removed(let reference) where reference.kind == .node && reference.name == name: own = nil
        case .removed(let reference) where reference.kind == .serviceCIDR: serviceCIDRs[reference.name] = nil
        default: return false
        }
        return true
    }

    /// Writes what the objects say into a context.
    func update(_ context: inout NodeContext) {
        context.zone = own?.zone
        context.addresses = own?.internalIPs ?? []
        context.podCIDRs = own?.podCIDRs ?? []
        context.serviceCIDRs = Set(serviceCIDRs.values.flatMap(\.cidrs)).sorted()
    }
}
