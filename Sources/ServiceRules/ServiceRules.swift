public import KubernetesObjects
internal import NetworkAddresses
public import Nftables

/// Compiles one service and its endpoint slices into what they add to the service table.
///
/// A total function: what the objects could not say was noted when they were read, and the rest works. Equal input gives
/// equal output whatever the order of slices and endpoints, so an unchanged restart writes nothing.
public func rules(for service: Service, slices: [EndpointSlice], on node: NodeContext) -> Contribution {
    guard service.isProxied else { return Contribution() }
    var planning = ServicePlanning(service: service, slices: slices.sorted { $0.key < $1.key }, node: node)
    planning.compile()
    return planning.contribution
}

/// The whole table of a cluster, computed at once: what the increments must add up to.
public func serviceTable(
    services: some Sequence<Service>, slices: some Sequence<EndpointSlice>, on node: NodeContext
) -> Ruleset {
    var assembly = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
    let byService = Dictionary(grouping: slices) { $0.service }
    for service in services {
        assembly.set(rules(for: service, slices: byService[service.key] ?? [], on: node), for: service.key)
    }
    return assembly.ruleset
}

private struct ServicePlanning {
    let service: Service
    let slices: [EndpointSlice]
    let node: NodeContext
    var contribution = Contribution()

    /// A destination under which a port of the service is reached.
    struct Frontend {
        enum Kind { case clusterIP, externalIP, loadBalancer, nodePort }

        var address: IPAddress
        var port: Port
        var kind: Kind

        func key(_ transport: TransportProtocol) -> [KeyPart] {
            [.address(address), .transport(transport), .port(port)]
        }
    }

    mutating func compile() {
        for address in service.clusterIPs {
            append(
                Element(.init(.address(address)), comment: "svc \(service.key)"),
                to: ServiceTable.clusterIPs(address.family))
        }
        for port in service.ports {
            for family in AddressFamily.allCases where service.clusterIP(of: family) != nil {
                let endpoints = EndpointChoice(
                    candidates: candidates(for: port, family), node: node.name)
                for frontend in frontends(of: port, family) { compile(frontend, of: port, endpoints) }
                for endpoint in endpoints.all where endpoint.isLocal(to: node.name) {
                    let address = KeyPart.address(endpoint.target.address)
                    appendOnce(Element(.init(address, address)), to: ServiceTable.hairpin(family))
                }
            }
        }
    }

    private func frontends(of port: ServicePort, _ family: AddressFamily) -> [Frontend] {
        var frontends: [Frontend] = []
        func add(_ address: IPAddress, _ port: Port, _ kind: Frontend.Kind) {
            guard address.family == family, !frontends.contains(where: { $0.address == address && $0.port == port })
            else { return }
            frontends.append(Frontend(address: address, port: port, kind: kind))
        }
        for address in service.clusterIPs { add(address, port.number, .clusterIP) }
        for address in service.externalIPs where node.settings.allowsExternalIPs { add(address, port.number, .externalIP) }
        for ingress in service.ingress where ingress.mode == .virtualIP {
            add(ingress.address, port.number, .loadBalancer)
        }
        if let nodePort = port.nodePort {
            for address in node.nodePortAddresses { add(address, nodePort, .nodePort) }
        }
        return frontends
    }

    private mutating func compile(_ frontend: Frontend, of port: ServicePort, _ endpoints: EndpointChoice) {
        let isExternal = frontend.kind != .clusterIP
        let policy = isExternal ? service.externalTrafficPolicy : service.internalTrafficPolicy
        let family = frontend.address.family
        let key = frontend.key(port.protocol)
        let name = "svc \(service.key):\(port.name.isEmpty ? port.number.description : port.name)"
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
        append(Element(ElementKey(key), .verdict(verdict), comment: name), to: ServiceTable.frontends(family))
        list(chosen, under: key, from: 0, family)
        if isExternal {
            let set = policy == .cluster ? ServiceTable.external(family) : ServiceTable.kept(family)
            append(Element(ElementKey(key), comment: name), to: set)
        }
        if isExternal, policy == .local, !endpoints.cluster.isEmpty {
            // Pods and programs of the cluster reach all endpoints, as they would by the cluster IP: they need no
            // load balancer to find a node that has one.
            let chain = choose(among: endpoints.cluster, of: port, shortcut: true)
            append(Element(ElementKey(key), .verdict(.goto(chain)), comment: name), to: ServiceTable.shortcuts(family))
            list(endpoints.cluster, under: key, from: ServiceTable.firstShortcut, family)
        }
        if frontend.kind == .loadBalancer, let chain = admission(family) {
            append(Element(ElementKey(key), .verdict(.jump(chain)), comment: name), to: ServiceTable.restricted(family))
        }
    }

    /// Writes the endpoints where the shared chains look for them, and where a reader does.
    private mutating func list(_ endpoints: [Candidate], under key: [KeyPart], from first: UInt32, _ family: AddressFamily) {
        for (index, endpoint) in endpoints.enumerated() {
            let target = ElementKey(.address(endpoint.target.address), .port(endpoint.target.port))
            append(
                Element(ElementKey(key + [.number(first + UInt32(index))]), .data(target), comment: endpoint.name),
                to: ServiceTable.endpoints(family))
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
        guard let ranges = service.sourceRanges, !ranges.contains(where: { $0.length == 0 && $0.family == family }) else {
            return nil
        }
        let admission = SourceAdmission(
            ranges: ranges, family: family, node: node,
            loadBalancers: service.ingress.filter { $0.mode == .virtualIP }.map(\.address))
        contribution.chains[admission.chain.name] = admission.chain.chain
        if let set = admission.set { contribution.sets[set.name] = set.set }
        return admission.chain.name
    }

    /// All endpoints that the slices name for the port, each address and port once, in address order.
    private func candidates(for port: ServicePort, _ family: AddressFamily) -> [Candidate] {
        var found: [SocketAddress: Candidate] = [:]
        for slice in slices where slice.family == family && !slice.isHeadless {
            for slicePort in slice.ports where slicePort.name == port.name && slicePort.protocol == port.protocol {
                for endpoint in slice.endpoints {
                    let candidate = Candidate(endpoint: endpoint, port: slicePort.number)
                    // An address that a pod gave up and another took stands twice for a while. Else the first slice by
                    // name has it.
                    if let other = found[candidate.target], !other.endpoint.isTerminating || endpoint.isTerminating {
                        continue
                    }
                    found[candidate.target] = candidate
                }
            }
        }
        return found.values.sorted { $0.target < $1.target }
    }

    private mutating func append(_ element: Element, to set: String) {
        contribution.members.append(Contribution.Member(element, in: set))
    }

    private mutating func appendOnce(_ element: Element, to set: String) {
        let member = Contribution.Member(element, in: set)
        if !contribution.members.contains(member) { contribution.members.append(member) }
    }
}

/// One endpoint and the port it serves the service's port on.
private struct Candidate {
    var endpoint: Endpoint
    var target: SocketAddress

    init(endpoint: Endpoint, port: Port) {
        self.endpoint = endpoint
        target = SocketAddress(endpoint.address, port)
    }

    func isLocal(to node: String) -> Bool { endpoint.nodeName == node }

    /// What `nft list` shows beside the element.
    var name: String { endpoint.pod.map { "pod \($0)" } ?? "endpoint \(endpoint.address)" }
}

/// Which endpoints get new connections, by kube-proxy's rules: those that are ready, or else those that are going
/// but still serve. The local set falls back by itself.
private struct EndpointChoice {
    var all: [Candidate]
    var cluster: [Candidate]
    var local: [Candidate]

    init(candidates: [Candidate], node: String) {
        func usable(_ candidates: [Candidate]) -> [Candidate] {
            let ready = candidates.filter(\.endpoint.isReady)
            guard ready.isEmpty else { return ready }
            return candidates.filter { $0.endpoint.isServing && $0.endpoint.isTerminating }
        }
        all = candidates
        cluster = usable(candidates)
        local = usable(candidates.filter { $0.isLocal(to: node) })
    }
}
