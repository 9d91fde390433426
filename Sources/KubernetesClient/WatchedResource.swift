public import KubernetesObjects

/// A collection of the API that is followed, with the selectors that leave out what nobody here has a use for.
public struct WatchedResource: Hashable, Sendable {
    public var kind: ObjectKind
    /// The collection's path below the server's, such as `/api/v1/services`.
    public var path: String
    public var labelSelector: String
    /// Which fields can be selected differs between versions; a server that refuses is asked without.
    public var fieldSelector: String
    /// Whether a server may lack the collection: it then counts as empty and is looked for again now and then.
    public var isOptional: Bool

    public init(
        _ kind: ObjectKind, path: String, labelSelector: String = "", fieldSelector: String = "",
        isOptional: Bool = false
    ) {
        self.kind = kind
        self.path = path
        self.labelSelector = labelSelector
        self.fieldSelector = fieldSelector
        self.isOptional = isOptional
    }

    /// What messages and permissions call it: `services`.
    public var name: String { path.split(separator: "/").last.map(String.init) ?? path }

    // The selectors of services and slices are kube-proxy's: headless services, and those another proxy cares for,
    // never reach the node.
    public static let services = WatchedResource(
        .service, path: "/api/v1/services", labelSelector: "!service.kubernetes.io/service-proxy-name",
        fieldSelector: "spec.clusterIP!=None")
    public static let endpointSlices = WatchedResource(
        .endpointSlice, path: "/apis/discovery.k8s.io/v1/endpointslices",
        labelSelector: "!service.kubernetes.io/headless")
    public static let nodes = WatchedResource(.node, path: "/api/v1/nodes")
    public static let pods = WatchedResource(.pod, path: "/api/v1/pods")
    public static let namespaces = WatchedResource(.namespace, path: "/api/v1/namespaces")
    public static let networkPolicies = WatchedResource(
        .networkPolicy, path: "/apis/networking.k8s.io/v1/networkpolicies")
    /// Kubernetes 1.33 and later.
    public static let serviceCIDRs = WatchedResource(
        .serviceCIDR, path: "/apis/networking.k8s.io/v1/servicecidrs", isOptional: true)

    public static let all = [
        services, endpointSlices, nodes, pods, namespaces, networkPolicies, serviceCIDRs,
    ]
}
