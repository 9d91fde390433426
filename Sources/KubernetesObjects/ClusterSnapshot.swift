/// What a source of objects has to say: the API server and a folder of manifests say it alike.
public enum ObjectEvent: Hashable, Sendable {
    /// The object is new or has changed.
    case set(KubernetesObject)
    case removed(ObjectReference)
    /// Everything that was there at the start has been said.
    ///
    /// Nothing may be written to the kernel before: a half-known cluster looks like one with half its services gone.
    case synced
}

/// All objects that are known, by kind and name.
public struct ClusterSnapshot: Hashable, Sendable {
    public private(set) var namespaces: [String: Namespace] = [:]
    public private(set) var pods: [NamespacedName: Pod] = [:]
    public private(set) var services: [NamespacedName: Service] = [:]
    public private(set) var endpointSlices: [NamespacedName: EndpointSlice] = [:]
    public private(set) var nodes: [String: Node] = [:]
    public private(set) var networkPolicies: [NamespacedName: NetworkPolicy] = [:]
    public private(set) var serviceCIDRs: [String: ServiceCIDR] = [:]
    /// By reference, since a Deployment and a StatefulSet may have the same name.
    public private(set) var workloads: [ObjectReference: Workload] = [:]
    public private(set) var isSynced = false

    public init() {}

    public init(_ objects: some Sequence<KubernetesObject>) {
        for object in objects { apply(.set(object)) }
    }

    public mutating func apply(_ event: ObjectEvent) {
        switch event {
        case .set(let object): set(object)
        case .removed(let reference): remove(reference)
        case .synced: isSynced = true
        }
    }

    private mutating func set(_ object: KubernetesObject) {
        switch object {
        case .namespace(let namespace): namespaces[namespace.name] = namespace
        case .pod(let pod): pods[pod.key] = pod
        case .service(let service): services[service.key] = service
        case .endpointSlice(let slice): endpointSlices[slice.key] = slice
        case .node(let node): nodes[node.name] = node
        case .networkPolicy(let policy): networkPolicies[policy.key] = policy
        case .serviceCIDR(let cidr): serviceCIDRs[cidr.metadata.name] = cidr
        case .workload(let workload): workloads[object.reference] = workload
        }
    }

    private mutating func remove(_ reference: ObjectReference) {
        switch reference.kind {
        case .namespace: namespaces[reference.name] = nil
        case .pod: pods[reference.key] = nil
        case .service: services[reference.key] = nil
        case .endpointSlice: endpointSlices[reference.key] = nil
        case .node: nodes[reference.name] = nil
        case .networkPolicy: networkPolicies[reference.key] = nil
        case .serviceCIDR: serviceCIDRs[reference.name] = nil
        case .deployment, .statefulSet, .daemonSet, .replicaSet: workloads[reference] = nil
        case .other: break
        }
    }

    /// The object of that name, where it is known.
    public subscript(_ reference: ObjectReference) -> KubernetesObject? {
        switch reference.kind {
        case .namespace: namespaces[reference.name].map(KubernetesObject.namespace)
        case .pod: pods[reference.key].map(KubernetesObject.pod)
        case .service: services[reference.key].map(KubernetesObject.service)
        case .endpointSlice: endpointSlices[reference.key].map(KubernetesObject.endpointSlice)
        case .node: nodes[reference.name].map(KubernetesObject.node)
        case .networkPolicy: networkPolicies[reference.key].map(KubernetesObject.networkPolicy)
        case .serviceCIDR: serviceCIDRs[reference.name].map(KubernetesObject.serviceCIDR)
        case .deployment, .statefulSet, .daemonSet, .replicaSet: workloads[reference].map(KubernetesObject.workload)
        case .other: nil
        }
    }
}
