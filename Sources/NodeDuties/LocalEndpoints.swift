public import KubernetesObjects
public import NetworkAddresses

/// What of services with a policy Local this node has to offer.
///
/// Load balancers ask for it at `healthCheckNodePort`, to send traffic only to nodes that have endpoints.
public struct LocalEndpoints: Sendable {
    /// A port at which this node tells a load balancer how many endpoints of a service it has.
    public struct Check: Hashable, Sendable {
        public var service: NamespacedName
        public var port: Port
        public var family: AddressFamily

        public init(service: NamespacedName, port: Port, family: AddressFamily) {
            self.service = service
            self.port = port
            self.family = family
        }
    }

    /// What is kept of a service: of those without a policy Local, nothing.
    private struct LocalService: Sendable {
        var uid: String
        var families: Set<AddressFamily>
        var isInternal: Bool
        var isExternal: Bool
        var healthCheckPort: Port?

        func checks(of key: NamespacedName) -> Set<Check> {
            guard let healthCheckPort else { return [] }
            return Set(families.map { Check(service: key, port: healthCheckPort, family: $0) })
        }
    }

    /// What is kept of a slice.
    private struct Summary: Sendable {
        var service: NamespacedName
        var family: AddressFamily
        /// Addresses here that are ready; terminating ones still serve, but attract nothing new.
        var ready: [IPAddress]
        var servesHere: Bool
        var servesAnywhere: Bool
    }

    /// The ports to listen at.
    public private(set) var checks: Set<Check> = []
    private let nodeName: String
    private var services: [NamespacedName: LocalService] = [:]
    private var slices: [NamespacedName: Summary] = [:]
    /// Few services have more than one.
    private var slicesOfService: [NamespacedName: [NamespacedName]] = [:]

    public init(nodeName: String) { self.nodeName = nodeName }

    /// Takes in an event.
    ///
    /// - Returns: Whether `checks` are others now.
    @discardableResult
    public mutating func apply(_ event: ObjectEvent) -> Bool {
        switch event {
        case .set(.service(let service)): return set(Self.local(service), for: service.key)
        case .set(.endpointSlice(let slice)):
            remove(slice: slice.key)
            add(slice)
        case .removed(let reference) where reference.kind == .service: return set(nil, for: reference.key)
        case .removed(let reference) where reference.kind == .endpointSlice: remove(slice: reference.key)
        default: break
        }
        return false
    }

    private mutating func set(_ service: LocalService?, for key: NamespacedName) -> Bool {
        let old = services[key]?.checks(of: key) ?? []
        let new = service?.checks(of: key) ?? []
        services[key] = service
        guard old != new else { return false }
        checks.subtract(old)
        checks.formUnion(new)
        return true
    }

    private static func local(_ service: Service) -> LocalService? {
        let isExternal = service.externalTrafficPolicy == .local && service.isExternallyAccessible
        let isInternal = service.internalTrafficPolicy == .local
        guard service.isProxied, isExternal || isInternal else { return nil }
        let isChecked = service.type == .loadBalancer && service.externalTrafficPolicy == .local
        return LocalService(
            uid: service.metadata.uid, families: Set(service.clusterIPs.map(\.family)), isInternal: isInternal,
            isExternal: isExternal,
            healthCheckPort: isChecked ? service.healthCheckNodePort : nil)
    }

    private mutating func add(_ slice: EndpointSlice) {
        guard let service = slice.service, !slice.isHeadless, !slice.ports.isEmpty else { return }
        let here = slice.endpoints.filter { $0.nodeName == nodeName }
        func serves(_ endpoint: Endpoint) -> Bool {
            endpoint.isReady || endpoint.isServing && endpoint.isTerminating
        }
        slices[slice.key] = Summary(
            service: service, family: slice.family, ready: here.filter(\.isReady).map(\.address),
            servesHere: here.contains(where: serves), servesAnywhere: slice.endpoints.contains(where: serves))
        slicesOfService[service, default: []].append(slice.key)
    }

    private mutating func remove(slice key: NamespacedName) {
        guard let old = slices.removeValue(forKey: key) else { return }
        slicesOfService[old.service]?.removeAll { $0 == key }
        if slicesOfService[old.service]?.isEmpty == true { slicesOfService[old.service] = nil }
    }

    /// The uid of a service with a policy Local, by which its Events are found.
    public func uid(of service: NamespacedName) -> String { services[service]?.uid ?? "" }

    /// How many addresses of that family here are ready to take a service's traffic.
    public func readyAddresses(of service: NamespacedName, _ family: AddressFamily) -> Int {
        Set(summaries(of: service, family).flatMap(\.ready)).count
    }

    /// How many services with endpoints have none here, although one of their policies wants them here.
    public func servicesWithoutLocal(_ family: AddressFamily) -> (internal: Int, external: Int) {
        var counts = (internal: 0, external: 0)
        for (key, service) in services where service.families.contains(family) {
            let summaries = summaries(of: key, family)
            guard summaries.contains(where: \.servesAnywhere), !summaries.contains(where: \.servesHere) else {
                continue
            }
            counts.internal += service.isInternal ? 1 : 0
            counts.external += service.isExternal ? 1 : 0
        }
        return counts
    }

    private func summaries(of service: NamespacedName, _ family: AddressFamily) -> [Summary] {
        (slicesOfService[service] ?? []).compactMap { slices[$0] }.filter { $0.family == family }
    }
}

extension Service {
    /// Whether anything outside of the cluster can reach it by this node.
    fileprivate var isExternallyAccessible: Bool {
        type == .loadBalancer || type == .nodePort || !externalIPs.isEmpty
    }
}

/// What a load balancer is told at a service's `healthCheckNodePort`.
public struct LoadBalancerAnswer: Hashable, Sendable {
    /// 200 where traffic may come, else 503.
    public var code: Int
    public var body: String
    /// What `X-Load-Balancing-Endpoint-Weight` says.
    public var weight: Int

    public init(service: NamespacedName, localEndpoints: Int, isProxyHealthy: Bool) {
        code = localEndpoints > 0 && isProxyHealthy ? 200 : 503
        weight = localEndpoints
        func quoted(_ text: String) -> String { FieldValue.string(text).description }
        // Broken into lines as kube-proxy does: some load balancers match on the text.
        body = """
            {
            \t"service": {
            \t\t"namespace": \(quoted(service.namespace)),
            \t\t"name": \(quoted(service.name))
            \t},
            \t"localEndpoints": \(localEndpoints),
            \t"serviceProxyHealthy": \(isProxyHealthy)
            }
            """
    }
}
