internal import KubernetesObjects
internal import NetworkAddresses

/// What one rule of a profile asks of a connection: a peer *and* a port.
struct Allowance: Hashable, Sendable {
    /// The peer's address is one of these; nil for any.
    var block: AddressRanges?
    /// The peer is one of these pods; nil for anybody.
    var group: PeerGroup?
    var ports: PortMatch
}

/// Ports of the pod that is connected to.
enum PortMatch: Hashable, Sendable {
    /// Every protocol, those without ports included.
    case any
    /// Every port of a protocol.
    case all(TransportProtocol)
    case range(TransportProtocol, ClosedRange<Port>)
    /// On ingress: the number that the pod itself gives to the name.
    case named(NamedPort)
    /// On egress: the number that the peer gives to the name its group was chosen by.
    case exposed
}

/// An allowance and the rule it comes from, as the comment of what the kernel runs.
struct AllowRule: Hashable, Sendable {
    var allowance: Allowance
    var origin: String
}

/// A policy made ready: its rules taken apart into allowances, independent of who is selected and who is there.
struct CompiledPolicy: Sendable {
    /// Told apart from every other policy and from the same one before it changed.
    let version: Int
    let key: NamespacedName
    let selector: LabelSelector
    let directions: Set<NetworkPolicy.Direction>
    private let ingress: [AllowRule]
    private let egress: [AllowRule]
    /// The ports that have to be looked up on each selected pod.
    let ingressPorts: [NamedPort]

    init(_ policy: NetworkPolicy, version: Int) {
        self.version = version
        key = policy.key
        selector = policy.podSelector
        directions = policy.directions
        ingress = policy.directions.contains(.ingress) ? policy.allowRules(.ingress) : []
        egress = policy.directions.contains(.egress) ? policy.allowRules(.egress) : []
        var named: Set<NamedPort> = []
        for case .named(let port) in ingress.map(\.allowance.ports) { named.insert(port) }
        ingressPorts = named.sorted()
    }

    func rules(_ direction: NetworkPolicy.Direction) -> [AllowRule] { direction == .ingress ? ingress : egress }

    /// Whether only what does not matter differs, such as the policy's labels.
    func says(theSameAs other: CompiledPolicy?) -> Bool {
        selector == other?.selector && directions == other?.directions && ingress == other?.ingress
            && egress == other?.egress
    }
}

extension NetworkPolicy {
    /// The rules of one direction as allowances: each peer with each port, in the order they were written.
    fileprivate func allowRules(_ direction: Direction) -> [AllowRule] {
        var rules: [AllowRule] = []
        for (index, rule) in self.rules(direction).enumerated() {
            let ports = rule.ports.matches
            func add(_ block: AddressRanges?, _ group: PeerGroup?, peer: Int?) {
                let position = "\(direction.word):\(index).\(peer.map(String.init) ?? "-")"
                let origin = fitted("np:\(key)", before: ":\(position)")
                rules += ports.map { port in
                    AllowRule(allowance: .init(block, group, port, direction), origin: origin)
                }
            }
            switch rule.peers {
            case .any: add(nil, nil, peer: nil)
            case .only(let peers):
                for (number, peer) in peers.enumerated() {
                    switch peer {
                    case .pods(let selector, in: .own):
                        add(nil, PeerGroup(scope: .namespace(key.namespace), pods: selector), peer: number)
                    case .pods(let selector, in: .matching(let namespaces)):
                        add(nil, PeerGroup(scope: .namespaces(namespaces), pods: selector), peer: number)
                    case .block(let block):
                        let ranges = AddressRanges(block)
                        if !ranges.isEmpty { add(ranges, nil, peer: number) }
                    }
                }
            }
        }
        return rules
    }
}

extension Allowance {
    /// A named port belongs to the pod that is connected to: on egress that is the peer, which has to be a pod then.
    fileprivate init(
        _ block: AddressRanges?, _ group: PeerGroup?, _ ports: PortMatch, _ direction: NetworkPolicy.Direction
    ) {
        if direction == .egress, case .named(let port) = ports {
            self.init(block: block, group: (group ?? .allPods).exposing(port), ports: .exposed)
        } else {
            self.init(block: block, group: group, ports: ports)
        }
    }
}

extension PolicyChoice<PolicyPort> {
    /// The ports, each once: by protocol, ranges merged, names last.
    fileprivate var matches: [PortMatch] {
        guard case .only(let ports) = self else { return [.any] }
        return TransportProtocol.allCases.flatMap { transport -> [PortMatch] in
            let matches = ports.filter { $0.protocol == transport }.map(\.match)
            guard !matches.contains(.any) else { return [.all(transport)] }
            let ranges = matches.compactMap { if case .range(let range) = $0 { range } else { nil } }
            let names = matches.compactMap { if case .named(let name) = $0 { name } else { nil } }
            return merged(ranges).map { .range(transport, $0) }
                + Set(names).sorted().map { .named(NamedPort(name: $0, protocol: transport)) }
        }
    }
}

/// The same ports in ranges that neither overlap nor touch.
func merged(_ ranges: [ClosedRange<Port>]) -> [ClosedRange<Port>] {
    var merged: [ClosedRange<Port>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
        if let last = merged.last, Int(range.lowerBound.rawValue) <= Int(last.upperBound.rawValue) + 1 {
            merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
        } else {
            merged.append(range)
        }
    }
    return merged
}

extension NetworkPolicy.Direction {
    /// `in` or `out`, as names and comments say it.
    var word: String { self == .ingress ? "in" : "out" }
}
