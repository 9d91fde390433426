internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// One endpoint and the port it serves a service's port on.
struct Candidate {
    let endpoint: Endpoint
    let target: SocketAddress
    /// The target as it stands in the map of endpoints; all frontends share it.
    let data: ElementKey
    /// What `nft list` shows beside the element.
    let name: String

    init(endpoint: Endpoint, port: Port) {
        self.endpoint = endpoint
        target = SocketAddress(endpoint.address, port)
        data = ElementKey(.address(endpoint.address), .port(port))
        name =
            if let pod = endpoint.pod { "pod \(pod.namespace)/\(pod.name)" } else { "endpoint \(endpoint.address)" }
    }
}

/// All endpoints that slices name for a service's port, each address and port once, in address order.
func candidates(for port: ServicePort, _ family: AddressFamily, in slices: [EndpointSlice]) -> [Candidate] {
    var found: [Candidate] = []
    for slice in slices where slice.family == family && !slice.isHeadless {
        for slicePort in slice.ports where slicePort.name == port.name && slicePort.protocol == port.protocol {
            found.reserveCapacity(found.count + slice.endpoints.count)
            for endpoint in slice.endpoints { found.append(Candidate(endpoint: endpoint, port: slicePort.number)) }
        }
    }
    guard found.count > 1 else { return found }
    // An address that a pod gave up and another took stands twice for a while. Else the first slice by name has it.
    let order = found.indices.sorted { left, right in
        let (a, b) = (found[left], found[right])
        if a.target != b.target { return a.target < b.target }
        if a.endpoint.isTerminating != b.endpoint.isTerminating { return b.endpoint.isTerminating }
        return left < right
    }
    var last: SocketAddress?
    return order.compactMap { index in
        defer { last = found[index].target }
        return found[index].target == last ? nil : found[index]
    }
}

/// Which endpoints get new connections, by kube-proxy's rules: those that are ready, or else those that are going
/// but still serve. The local set falls back by itself.
struct EndpointChoice {
    let all: [Candidate]
    /// What a policy `Cluster` sends to, as hints say where all ready endpoints have some.
    let cluster: [Candidate]
    /// What a policy `Local` sends to; hints make no difference there.
    let local: [Candidate]

    init(_ candidates: [Candidate], on node: NodeContext) {
        all = candidates
        let ready = candidates.filter(\.endpoint.isReady)
        cluster = ready.isEmpty ? Self.going(candidates) : Self.preferred(of: ready, on: node)
        let here = candidates.filter { $0.endpoint.nodeName == node.name }
        let readyHere = here.filter(\.endpoint.isReady)
        local = readyHere.isEmpty ? Self.going(here) : readyHere
    }

    private static func going(_ candidates: [Candidate]) -> [Candidate] {
        candidates.filter { $0.endpoint.isServing && $0.endpoint.isTerminating }
    }

    /// The endpoints hinted for this node, else for its zone, else all. A hint counts only where every ready endpoint
    /// has one: while hints are being written, half of them would overload the endpoints that have theirs.
    private static func preferred(of ready: [Candidate], on node: NodeContext) -> [Candidate] {
        if ready.allSatisfy({ !$0.endpoint.hintedNodes.isEmpty }) {
            let here = ready.filter { $0.endpoint.hintedNodes.contains(node.name) }
            if !here.isEmpty { return here }
        }
        if let zone = node.zone, ready.allSatisfy({ !$0.endpoint.hintedZones.isEmpty }) {
            let near = ready.filter { $0.endpoint.hintedZones.contains(zone) }
            if !near.isEmpty { return near }
        }
        return ready
    }
}
