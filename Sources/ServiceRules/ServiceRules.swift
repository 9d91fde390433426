public import KubernetesObjects
internal import NetworkAddresses
public import Nftables

/// Compiles one service and its endpoint slices into what they add to the service table.
///
/// A total function: what the objects could not say was noted when they were read, and the rest works. Equal input gives
/// equal output whatever the order of slices and endpoints, so an unchanged restart writes nothing.
///
/// - Parameter previous: the table as it is; endpoints that have a slot in it keep that.
public func rules(
    for service: Service, slices: [EndpointSlice], on node: NodeContext, previous: Ruleset? = nil
) -> Contribution {
    rules(for: service, slices: slices, on: node, previous: previous) { _, _ in true }
}

/// - Parameter admits: whether the service may have the frontend, which others may claim too.
func rules(
    for service: Service, slices: [EndpointSlice], on node: NodeContext, previous: Ruleset?,
    admits: (Frontend, Frontend.Origin) -> Bool
) -> Contribution {
    guard service.isProxied else { return Contribution() }
    var planning = ServicePlanning(
        service: service, slices: slices.count > 1 ? slices.sorted { $0.key < $1.key } : slices, node: node,
        previous: previous, name: "svc \(service.key)")
    planning.compile(admits: admits)
    return planning.contribution
}

/// The whole table of a cluster, computed at once: what the increments must add up to.
///
/// - Parameter previous: the table whose endpoints keep their slots.
public func serviceTable(
    services: some Sequence<Service>, slices: some Sequence<EndpointSlice>, on node: NodeContext,
    previous: Ruleset? = nil
) -> Ruleset {
    var assembly = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
    let byService = Dictionary(grouping: slices) { $0.service }
    var best: [Frontend: FrontendRank] = [:]
    for service in services {
        for (frontend, origin) in service.frontends(on: node) {
            let rank = FrontendRank(origin, of: service)
            best[frontend] = min(best[frontend] ?? rank, rank)
        }
    }
    for service in services {
        let contribution = rules(for: service, slices: byService[service.key] ?? [], on: node, previous: previous) {
            frontend, _ in best[frontend]?.service == service.key
        }
        assembly.set(contribution, for: service.key)
    }
    return assembly.ruleset
}

private struct ServicePlanning {
    let service: Service
    let slices: [EndpointSlice]
    let node: NodeContext
    let previous: Ruleset?
    /// What `nft list` shows beside the service's elements.
    let name: String
    var contribution = Contribution()

    mutating func compile(admits: (Frontend, Frontend.Origin) -> Bool) {
        for address in service.clusterIPs {
            append(
                Element(.init(.address(address)), comment: name),
                to: ServiceTable.clusterIPs(address.family))
        }
        var taken: [Frontend] = []
        for port in service.ports {
            for family in AddressFamily.allCases where service.clusterIP(of: family) != nil {
                let endpoints = EndpointChoice(candidates(for: port, family, in: slices, on: node))
                for (frontend, origin) in service.frontends(of: port, family, on: node)
                where !taken.contains(frontend) && admits(frontend, origin) {
                    taken.append(frontend)
                    compile(frontend, origin, of: port, endpoints)
                }
                for endpoint in endpoints.all where endpoint.isHere {
                    let address = KeyPart.address(endpoint.target.address)
                    appendOnce(Element(.init(address, address)), to: ServiceTable.hairpin(family))
                }
            }
        }
    }

    private mutating func compile(
        _ frontend: Frontend, _ origin: Frontend.Origin, of port: ServicePort, _ endpoints: EndpointChoice
    ) {
        let isExternal = origin != .clusterIP
        let policy = isExternal ? service.externalTrafficPolicy : service.internalTrafficPolicy
        let family = frontend.address.family
        let key = frontend.key
        let name = name + ":" + (port.name.isEmpty ? port.number.description : port.name)
        let chosen = policy == .local ? endpoints.local : endpoints.cluster
        let verdict: Verdict =
            if !chosen.isEmpty {
                .goto(choose(among: chosen, of: port, shortcut: false))
            } else if policy == .local, !endpoints.cluster.isEmpty {
                // Somebody else can answer, but not here: a load balancer must not take this for a refusal.
                .drop
            } else {
                .goto(ServiceTable.refuse)
            }
        append(Element(key, .verdict(verdict), comment: name), to: ServiceTable.frontends(family))
        list(chosen, under: key, from: 0, family)
        guard isExternal else { return }
        append(
            Element(key, comment: name),
            to: policy == .cluster ? ServiceTable.external(family) : ServiceTable.kept(family))
        if policy == .local, !endpoints.cluster.isEmpty {
            // Pods and programs of the cluster reach all endpoints, as they would by the cluster IP: they need no
            // load balancer to find a node that has one.
            let chain = choose(among: endpoints.cluster, of: port, shortcut: true)
            append(Element(key, .verdict(.goto(chain)), comment: name), to: ServiceTable.shortcuts(family))
            list(endpoints.cluster, under: key, from: ServiceTable.firstShortcut, family)
        }
        if origin == .loadBalancer, let chain = admission(family) {
            append(Element(key, .verdict(.jump(chain)), comment: name), to: ServiceTable.restricted(family))
        }
    }

    /// Writes the endpoints where the shared chains look for them, and where a reader does.
    private mutating func list(
        _ endpoints: [Candidate], under key: ElementKey, from first: UInt32, _ family: AddressFamily
    ) {
        let set = ServiceTable.endpoints(family)
        let arranged = endpoints.arranged(after: previous?.targets(of: key, family, from: first) ?? [])
        for (index, endpoint) in arranged.enumerated() {
            let slot = ServiceTable.slot(first + UInt32(index), of: key)
            append(Element(slot, .data(endpoint.data), comment: endpoint.name), to: set)
        }
    }

    /// The chain that picks one of the endpoints: a shared one, or with session affinity one of the service's own.
    private mutating func choose(among endpoints: [Candidate], of port: ServicePort, shortcut: Bool) -> String {
        guard case .clientIP(let timeout) = service.sessionAffinity else {
            let pick = ServiceTable.pick(endpoints.count, shortcut: shortcut)
            contribution.chains[pick.name] = pick.chain
            return pick.name
        }
        let affinity = SessionAffinity(
            service: "\(service.key)/\(port.name.isEmpty ? port.number.description : port.name)/\(port.protocol)",
            transport: port.protocol, timeout: UInt64(timeout), endpoints: endpoints.map { ($0.target, $0.name) })
        contribution.chains.merge(affinity.chains) { $1 }
        contribution.sets.merge(affinity.sets) { $1 }
        return affinity.entry
    }

    /// The chain that lets only `loadBalancerSourceRanges` pass; nil where everybody may.
    private mutating func admission(_ family: AddressFamily) -> String? {
        guard let ranges = service.sourceRanges, !ranges.contains(where: { $0.length == 0 && $0.family == family })
        else {
            return nil
        }
        let admission = SourceAdmission(
            ranges: ranges, family: family, node: node,
            loadBalancers: service.ingress.filter { $0.mode == .virtualIP }.map(\.address))
        contribution.chains[admission.chain.name] = admission.chain.chain
        if let set = admission.set { contribution.sets[set.name] = set.set }
        return admission.chain.name
    }

    private mutating func append(_ element: Element, to set: String) {
        contribution.members.append(Contribution.Member(element, in: set))
    }

    private mutating func appendOnce(_ element: Element, to set: String) {
        let member = Contribution.Member(element, in: set)
        if !contribution.members.contains(member) { contribution.members.append(member) }
    }
}
