public import KubernetesObjects
public import NetworkAddresses
public import Nftables

/// Follows services and their slices, and keeps what they contribute to the service table.
///
/// An event touches its service and no other; the node's own change touches those that depend on the node.
public struct ServiceCompiler: Sendable {
    public private(set) var node: NodeContext
    private var services: [NamespacedName: KeptService] = [:]
    /// In no order; of headless services there are none.
    private var slices: [NamespacedName: [EndpointSlice]] = [:]
    /// Which service a slice was last seen to belong to: its label may change, and a removal brings no label.
    private var serviceOfSlice: [NamespacedName: NamespacedName] = [:]
    private var claims = FrontendClaims()
    private var dirty: Set<NamespacedName> = []
    /// Those that were dirty when the present pass began.
    private var queue: [NamespacedName] = []
    /// The services from which an endpoint went that UDP clients may still be talking to.
    private var bereft: Set<NamespacedName> = []

    public init(node: NodeContext) { self.node = node }

    /// What is wrong with services that are right by themselves: claims on what another service has.
    public var notes: [Note] { claims.notes }

    /// Takes in an event; those about other kinds change nothing here.
    public mutating func apply(_ event: ObjectEvent) {
        switch event {
        case .set(.service(let service)):
            let kept = KeptService(service)
            if let old = services.updateValue(kept, forKey: service.key), old.isEqual(to: kept) { return }
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
        let (old, new) = (serviceOfSlice[key], slice.flatMap { $0.isHeadless ? nil : $0.service })
        let kept = slice?.keptPart(on: node.name)
        if let old, let index = slices[old]!.firstIndex(where: { $0.key == key }) {
            // Controllers write to objects again and again what makes no difference here.
            if old == new, slices[old]![index] == kept { return }
            if slices[old]![index].losesDatagramTargets(to: old == new ? kept : nil) { bereft.insert(old) }
            if let kept, old == new {
                slices[old]![index] = kept
            } else {
                slices[old]!.remove(at: index)
                if slices[old]!.isEmpty { slices[old] = nil }
            }
            dirty.insert(old)
        }
        guard old != new else { return }
        serviceOfSlice[key] = new
        guard let kept, let new else { return }
        slices[new, default: []].append(kept)
        dirty.insert(new)
    }

    /// Takes in what changed about the node; its name and settings are those of the agent that runs on it.
    public mutating func setNode(_ node: NodeContext) {
        guard node != self.node else { return }
        let old = self.node
        precondition(old.name == node.name && old.settings == node.settings, "an agent keeps its name and settings")
        self.node = node
        if old.nodePortAddresses != node.nodePortAddresses || old.primaryAddresses != node.primaryAddresses {
            // Node ports are reached at the node's addresses, and source ranges ask whether the node is in them.
            for (key, kept) in services
            where kept.service.sourceRanges != nil || kept.service.ports.contains(where: { $0.nodePort != nil }) {
                dirty.insert(key)
            }
        }
        if old.zone != node.zone {
            for (service, slices) in slices
            where slices.contains(where: { $0.endpoints.contains { !$0.hintedZones.isEmpty } }) {
                dirty.insert(service)
            }
        }
    }

    // MARK: Compiling

    /// What a service that may have changed contributes now, or nil for one that is gone; nothing when all is said.
    ///
    /// The caller puts it into the assembly before it asks for the next: a service that loses or gains a contested
    /// frontend makes another one follow.
    ///
    /// - Parameter previous: the table that the kernel holds from an earlier run, at first.
    public mutating func nextContribution(
        in assembly: borrowing Assembly<NamespacedName>, previous: Ruleset? = nil
    ) -> (service: NamespacedName, contribution: Contribution?)? {
        if queue.isEmpty { (queue, dirty) = (Array(dirty), []) }
        guard let key = queue.popLast() else { return nil }
        return (key, contribution(of: key, in: assembly, previous: previous))
    }

    /// Brings an assembly up to date with all that happened since the last call.
    public mutating func compile(into assembly: inout Assembly<NamespacedName>, previous: Ruleset? = nil) {
        while let (service, contribution) = nextContribution(in: assembly, previous: previous) {
            assembly.set(contribution, for: service)
        }
    }

    private mutating func contribution(
        of key: NamespacedName, in assembly: borrowing Assembly<NamespacedName>, previous: Ruleset?
    ) -> Contribution? {
        var contested = claims.withdraw(key)
        var contribution: Contribution?
        if let kept = services[key], kept.service.isProxied {
            contribution = rules(
                for: kept.service, slices: slices[key] ?? [], on: node, previous: previous ?? assembly.ruleset
            ) {
                let claimants = assembly.claimants(of: $0.key, in: ServiceTable.frontends($0.address.family))
                let isAdmitted = admit($1, of: kept.service, to: $0, besides: claimants)
                if claims.isContested($0) { contested.append($0) }
                return isAdmitted
            }
        }
        for frontend in contested { dirty.formUnion(claims.settle(frontend).subtracting([key])) }
        return contribution
    }

    /// Whether the service may have the frontend that `others` have, or had.
    private mutating func admit(
        _ origin: Frontend.Origin, of service: Service, to frontend: Frontend, besides others: [NamespacedName]
    ) -> Bool {
        if !claims.isContested(frontend) {
            guard !others.isEmpty else { return true }
            // Those that claim it no longer are about to be compiled again themselves.
            let rank = others.lazy.filter { $0 != service.key }.compactMap { [services, node] other in
                services[other].flatMap { kept in
                    kept.service.frontends(on: node)[frontend].map { FrontendRank($0, of: kept.service) }
                }
            }.first
            guard let rank else { return true }
            claims.open(frontend, heldBy: rank)
        }
        claims.add(FrontendRank(origin, of: service), to: frontend)
        return claims.winner(of: frontend) == service.key
    }

    // MARK: UDP conversations

    /// The services from which UDP endpoints went since the last call.
    public mutating func takeBereft() -> Set<NamespacedName> {
        defer { bereft = [] }
        return bereft
    }

    /// The families in which some service speaks UDP.
    public var datagramFamilies: Set<AddressFamily> {
        var families: Set<AddressFamily> = []
        for kept in services.values where kept.service.ports.contains(where: { $0.protocol == .udp }) {
            families.formUnion(kept.service.clusterIPs.map(\.family))
        }
        return families
    }

    /// The UDP frontends of a service, whoever has them.
    public func datagramFrontends(of service: NamespacedName) -> [SocketAddress] {
        guard let service = services[service]?.service else { return [] }
        return service.frontends(on: node).keys.filter { $0.transport == .udp }.map {
            SocketAddress($0.address, $0.port)
        }
    }

    /// Where conversations with a UDP frontend of the service may go on: every endpoint that serves, be it terminating
    /// or none of those that new conversations are sent to.
    public func datagramTargets(of frontend: SocketAddress, of key: NamespacedName) -> Set<SocketAddress> {
        guard let service = services[key]?.service else { return [] }
        let family = frontend.address.family
        let own = Frontend(address: frontend.address, transport: .udp, port: frontend.port)
        var targets: Set<SocketAddress> = []
        for port in service.ports where port.protocol == .udp && service.clusterIP(of: family) != nil {
            guard service.frontends(of: port, family, on: node).contains(where: { $0.0 == own }) else { continue }
            for slice in slices[key] ?? [] where slice.family == family {
                for slicePort in slice.ports where slicePort.name == port.name && slicePort.protocol == .udp {
                    for endpoint in slice.endpoints where endpoint.isReady || endpoint.isServing {
                        targets.insert(SocketAddress(endpoint.address, slicePort.number))
                    }
                }
            }
        }
        return targets
    }
}

/// What the rules depend on of a service. Apart, because a dictionary has room for half as many values again.
private final class KeptService: Sendable {
    let service: Service

    init(_ service: consuming Service) {
        service.selector = [:]
        service.metadata.labels = service.metadata.labels.filter { $0.key == Service.proxyNameLabel }
        (service.metadata.uid, service.metadata.owner) = ("", nil)
        self.service = service
    }

    func isEqual(to other: KeptService) -> Bool { service == other.service }
}

extension EndpointSlice {
    /// What the rules on a node depend on.
    fileprivate func keptPart(on node: String) -> EndpointSlice {
        var kept = self
        (kept.metadata.labels, kept.metadata.uid, kept.metadata.owner) = ([:], "", nil)
        for index in kept.endpoints.indices {
            // Thousands of endpoints of a hundred nodes would each hold a name that only one node asks for.
            kept.endpoints[index].nodeName = kept.endpoints[index].nodeName == node ? node : nil
            kept.endpoints[index].zone = nil
        }
        return kept
    }

    /// Whether UDP clients may be talking to an endpoint that is none any more in the slice's next version.
    fileprivate func losesDatagramTargets(to next: EndpointSlice?) -> Bool {
        let lost = datagramTargets
        return !lost.isEmpty && !lost.isSubset(of: next?.datagramTargets ?? [])
    }

    private var datagramTargets: Set<SocketAddress> {
        var targets: Set<SocketAddress> = []
        for port in ports where port.protocol == .udp {
            for endpoint in endpoints where endpoint.isReady || endpoint.isServing {
                targets.insert(SocketAddress(endpoint.address, port.number))
            }
        }
        return targets
    }
}
