public import KubernetesObjects
import NetworkAddresses

/// Makes the endpoint slices of services that select pods, as a cluster's controller does.
///
/// Incremental: an event costs the services it touches, and what comes out is what a fresh start would give.
public struct EndpointDerivation: Sendable {
    private var pods: [NamespacedName: Pod] = [:]
    private var services: [NamespacedName: Service] = [:]
    private var nodes: [String: Node] = [:]
    /// Slices someone has written; their names are taken.
    private var written: Set<NamespacedName> = []
    private var derived: [NamespacedName: [EndpointSlice]] = [:]

    /// Pods by each of their labels, and services by one label that they require.
    private var podsByLabel: [Label: Set<NamespacedName>] = [:]
    private var servicesByLabel: [Label: Set<NamespacedName>] = [:]
    private var podsByNode: [String: Set<NamespacedName>] = [:]

    private struct Label: Hashable {
        var namespace: String
        var key: String
        var value: String
    }

    public init() {}

    /// The events about derived slices that follow from events about other objects.
    public mutating func apply(_ events: [ObjectEvent]) -> [ObjectEvent] {
        var touched: Set<NamespacedName> = []
        for event in events {
            switch event {
            case .set(.pod(let pod)): replace(pod.key, with: pod, touching: &touched)
            case .set(.service(let service)): replace(service.key, with: service, touching: &touched)
            case .set(.node(let node)): replace(node.name, with: node, touching: &touched)
            case .set(.endpointSlice(let slice)):
                written.insert(slice.key)
                touch(servicesNaming: slice.key, &touched)
            case .removed(let reference):
                switch reference.kind {
                case .pod: replace(reference.key, with: nil as Pod?, touching: &touched)
                case .service: replace(reference.key, with: nil as Service?, touching: &touched)
                case .node: replace(reference.name, with: nil, touching: &touched)
                case .endpointSlice:
                    written.remove(reference.key)
                    touch(servicesNaming: reference.key, &touched)
                default: break
                }
            case .set, .synced: break
            }
        }
        return touched.sorted().flatMap { derive($0) }
    }

    // MARK: What an event touches

    private mutating func replace(_ key: NamespacedName, with pod: Pod?, touching touched: inout Set<NamespacedName>) {
        let before = pods[key]
        guard before != pod else { return }
        pods[key] = pod
        if let before {
            touch(servicesSelecting: before, &touched)
            for label in Self.labels(of: before) { podsByLabel.drop(key, at: label) }
            if let node = before.spec.nodeName { podsByNode.drop(key, at: node) }
        }
        if let pod {
            touch(servicesSelecting: pod, &touched)
            for label in Self.labels(of: pod) { podsByLabel[label, default: []].insert(key) }
            if let node = pod.spec.nodeName { podsByNode[node, default: []].insert(key) }
        }
    }

    private mutating func replace(
        _ key: NamespacedName, with service: Service?, touching touched: inout Set<NamespacedName>
    ) {
        let before = services[key]
        guard before != service else { return }
        services[key] = service
        if let label = before.flatMap(Self.requiredLabel) { servicesByLabel.drop(key, at: label) }
        if let label = service.flatMap(Self.requiredLabel) { servicesByLabel[label, default: []].insert(key) }
        touched.insert(key)
    }

    private mutating func replace(_ name: String, with node: Node?, touching touched: inout Set<NamespacedName>) {
        let before = nodes[name]
        nodes[name] = node
        guard before?.zone != node?.zone || before?.internalIPs != node?.internalIPs else { return }
        for key in podsByNode[name] ?? [] {
            if let pod = pods[key] { touch(servicesSelecting: pod, &touched) }
        }
    }

    private func touch(servicesSelecting pod: Pod, _ touched: inout Set<NamespacedName>) {
        for label in Self.labels(of: pod) {
            for key in servicesByLabel[label] ?? []
            where services[key].map({ Self.selects($0, pod) }) ?? false { touched.insert(key) }
        }
    }

    /// Touches the services that may want a slice of that name: `web-ipv4` or `web-ipv4-2`.
    private func touch(servicesNaming slice: NamespacedName, _ touched: inout Set<NamespacedName>) {
        for family in AddressFamily.allCases {
            guard let suffix = slice.name.lastRange(of: Self.suffix(of: family)) else { continue }
            touched.insert(NamespacedName(namespace: slice.namespace, name: String(slice.name[..<suffix.lowerBound])))
        }
    }

    private static func labels(of pod: Pod) -> [Label] {
        pod.metadata.labels.map { Label(namespace: pod.metadata.namespace, key: $0.key, value: $0.value) }
    }

    private static func requiredLabel(of service: Service) -> Label? {
        service.selector.min { $0.key < $1.key }
            .map { Label(namespace: service.metadata.namespace, key: $0.key, value: $0.value) }
    }

    private static func selects(_ service: Service, _ pod: Pod) -> Bool {
        service.metadata.namespace == pod.metadata.namespace
            && service.selector.allSatisfy { pod.metadata.labels[$0.key] == $0.value }
    }

    private static func suffix(of family: AddressFamily) -> String { family == .ipv4 ? "-ipv4" : "-ipv6" }

    // MARK: Slices of one service

    private mutating func derive(_ key: NamespacedName) -> [ObjectEvent] {
        let before = derived[key] ?? []
        let after = services[key].map { slices(of: $0) } ?? []
        derived[key] = after.isEmpty ? nil : after
        let names = Set(after.map(\.key))
        // A name that someone has begun to use is not removed by us.
        let gone = before.map(\.key).filter { !names.contains($0) && !written.contains($0) }
        let changed = after.filter { !before.contains($0) }
        return gone.map { .removed(ObjectReference(.endpointSlice, $0)) } + changed.map { .set(.endpointSlice($0)) }
    }

    private func slices(of service: Service) -> [EndpointSlice] {
        guard service.isProxied, let label = Self.requiredLabel(of: service) else { return [] }
        let selected = (podsByLabel[label] ?? []).sorted().compactMap { pods[$0] }
            .filter { Self.selects(service, $0) && !$0.hasEnded }
        return AddressFamily.allCases.filter { service.clusterIP(of: $0) != nil }
            .flatMap { slices(of: service, family: $0, pods: selected) }
    }

    /// One slice for each set of port numbers: pods may have different numbers under one port name.
    private func slices(of service: Service, family: AddressFamily, pods: [Pod]) -> [EndpointSlice] {
        var endpoints: [[EndpointPort]: [Endpoint]] = [:]
        for pod in pods {
            let ports = service.ports.compactMap { Self.endpointPort($0, of: pod) }
            guard !ports.isEmpty, let endpoint = endpoint(of: pod, family: family, service: service) else { continue }
            endpoints[ports, default: []].append(endpoint)
        }
        var names = Self.names(for: service, family: family, excluding: written)
        return endpoints.sorted { $0.key.lexicographicallyPrecedes($1.key, by: <) }
            .map { ports, endpoints in
                EndpointSlice(
                    metadata: ObjectMetadata(
                        name: names.next() ?? "", namespace: service.metadata.namespace,
                        labels: [
                            EndpointSlice.serviceNameLabel: service.metadata.name,
                            "endpointslice.kubernetes.io/managed-by": "fairlead",
                        ]),
                    family: family, endpoints: endpoints, ports: ports)
            }
    }

    private static func endpointPort(_ port: ServicePort, of pod: Pod) -> EndpointPort? {
        let number: Port? =
            switch port.target {
            case .number(let number): number
            case .name(let name): pod.spec.port(named: name, protocol: port.protocol)
            }
        return number.map { EndpointPort(name: port.name, protocol: port.protocol, number: $0) }
    }

    private func endpoint(of pod: Pod, family: AddressFamily, service: Service) -> Endpoint? {
        let node = pod.spec.nodeName.flatMap { nodes[$0] }
        var addresses = pod.addresses
        // A pod in its node's network has the node's addresses, whether its status says so or not.
        if pod.spec.isHostNetwork, addresses.isEmpty { addresses = node?.internalIPs ?? [] }
        guard let address = addresses.first(where: { $0.family == family }) else { return nil }
        return Endpoint(
            address: address,
            isReady: service.publishesNotReadyAddresses || pod.isReady && !pod.isTerminating,
            isServing: pod.isReady,
            isTerminating: pod.isTerminating,
            nodeName: pod.spec.nodeName,
            zone: node?.zone,
            pod: pod.key)
    }

    /// `web-ipv4`, `web-ipv4-2`, `web-ipv4-3`, … without the names that are taken.
    private static func names(
        for service: Service, family: AddressFamily, excluding taken: Set<NamespacedName>
    ) -> some IteratorProtocol<String> {
        let first = service.metadata.name + suffix(of: family)
        let namespace = service.metadata.namespace
        return (1...).lazy.map { $0 == 1 ? first : "\(first)-\($0)" }
            .filter { !taken.contains(NamespacedName(namespace: namespace, name: $0)) }.makeIterator()
    }
}

extension EndpointPort {
    /// Slices are told apart by their ports, so these put them in an order that does not depend on the pods'.
    fileprivate static func < (left: Self, right: Self) -> Bool {
        (left.name, left.protocol, left.number) < (right.name, right.protocol, right.number)
    }
}

extension Dictionary {
    /// Takes a member out of the set under `key`, and the set with its last member.
    fileprivate mutating func drop<Member>(_ member: Member, at key: Key) where Value == Set<Member> {
        self[key]?.remove(member)
        if self[key]?.isEmpty == true { self[key] = nil }
    }
}

extension String {
    fileprivate func lastRange(of text: String) -> Range<String.Index>? {
        var end = endIndex
        while end != startIndex {
            end = index(before: end)
            if self[end...].hasPrefix(text) { return end..<index(end, offsetBy: text.count) }
        }
        return nil
    }
}
