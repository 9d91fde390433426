internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// One endpoint on the port it serves a service's port on, and what of it counts on this node.
///
/// Not the endpoint itself: candidates are sorted and filtered, and each of their copies would count its many references.
struct Candidate {
    /// Whom an endpoint's hints would rather send to it.
    enum Hint { case nobody, this, others }

    let target: SocketAddress
    let isReady: Bool
    let isServing: Bool
    let isTerminating: Bool
    /// Whether it is on this node.
    let isHere: Bool
    let nodeHint: Hint
    let zoneHint: Hint
    /// The target as it stands in the map of endpoints; all frontends share it.
    let data: ElementKey
    /// What `nft list` shows beside the element.
    let name: String

    init(_ endpoint: Endpoint, port: Port, on node: NodeContext) {
        func hint(_ hinted: Set<String>, _ own: String?) -> Hint {
            hinted.isEmpty ? .nobody : own.map(hinted.contains) == true ? .this : .others
        }
        target = SocketAddress(endpoint.address, port)
        isReady = endpoint.isReady
        isServing = endpoint.isServing
        isTerminating = endpoint.isTerminating
        isHere = endpoint.nodeName == node.name
        nodeHint = hint(endpoint.hintedNodes, node.name)
        zoneHint = hint(endpoint.hintedZones, node.zone)
        data = ElementKey(.address(endpoint.address), .port(port))
        name =
            if let pod = endpoint.pod { "pod \(pod.namespace)/\(pod.name)" } else { "endpoint \(endpoint.address)" }
    }
}

/// All endpoints that slices name for a service's port, each address and port once, in address order.
func candidates(
    for port: ServicePort, _ family: AddressFamily, in slices: [EndpointSlice], on node: NodeContext
) -> [Candidate] {
    var found: [Candidate] = []
    for slice in slices where slice.family == family && !slice.isHeadless {
        for slicePort in slice.ports where slicePort.name == port.name && slicePort.protocol == port.protocol {
            found.reserveCapacity(found.count + slice.endpoints.count)
            for index in slice.endpoints.indices {
                found.append(Candidate(slice.endpoints[index], port: slicePort.number, on: node))
            }
        }
    }
    if zip(found, found.dropFirst()).allSatisfy({ $0.target < $1.target }) { return found }
    // An address that a pod gave up and another took stands twice for a while. Else the first slice by name has it.
    let order = found.indices.sorted { left, right in
        let (a, b) = (found[left], found[right])
        if a.target != b.target { return a.target < b.target }
        if a.isTerminating != b.isTerminating { return b.isTerminating }
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

    init(_ candidates: [Candidate]) {
        all = candidates
        let ready = candidates.filter(\.isReady)
        cluster = ready.isEmpty ? Self.going(candidates) : Self.preferred(of: ready)
    }

    /// What a policy `Local` sends to; hints make no difference there.
    var local: [Candidate] {
        let here = all.filter(\.isHere)
        let ready = here.filter(\.isReady)
        return ready.isEmpty ? Self.going(here) : ready
    }

    private static func going(_ candidates: [Candidate]) -> [Candidate] {
        candidates.filter { $0.isServing && $0.isTerminating }
    }

    /// The endpoints hinted for this node, else for its zone, else all. A hint counts only where every ready endpoint
    /// has one: while hints are being written, half of them would overload the endpoints that have theirs.
    private static func preferred(of ready: [Candidate]) -> [Candidate] {
        func hinted(_ hint: (Candidate) -> Candidate.Hint) -> [Candidate]? {
            guard ready.allSatisfy({ hint($0) != .nobody }) else { return nil }
            let hinted = ready.filter { hint($0) == .this }
            return hinted.isEmpty ? nil : hinted
        }
        return hinted(\.nodeHint) ?? hinted(\.zoneHint) ?? ready
    }
}
