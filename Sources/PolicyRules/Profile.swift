internal import KubernetesObjects
internal import NetworkAddresses

/// What a profile is made of; equal sources make equal profiles.
struct ProfileSource: Hashable, Sendable {
    var direction: NetworkPolicy.Direction
    /// The policies that isolate the pod, by version, in the order of their names.
    var policies: [Int]
    /// The numbers that the pod gives to the ports these policies name, in the policies' order.
    var ports: [Port?]
    /// The families that the pod has addresses of; rules for another would never match.
    var families: [AddressFamily]
}

/// Everything that the policies isolating a pod in one direction allow it, shared by all pods with the same source.
final class Profile: Sendable {
    let source: ProfileSource
    /// The policies that isolate, in the order of their names.
    let policies: [NamespacedName]
    /// Each allowance once, in the order of policies and their rules.
    let rules: [AllowRule]
    /// The groups that the rules refer to.
    let groups: [PeerGroup]
    /// The addresses that the rules refer to and that are no prefix.
    let blocks: [AddressRanges]
    /// The policies' ports that the pod does not expose, and that match nothing therefore.
    let unresolved: [(policy: NamespacedName, port: NamedPort)]

    init(_ source: ProfileSource, policies: [CompiledPolicy]) {
        self.source = source
        self.policies = policies.map(\.key)
        var rules: [AllowRule] = []
        var unresolved: [(policy: NamespacedName, port: NamedPort)] = []
        var seen: Set<Allowance> = []
        var ports = source.ports[...]
        for policy in policies {
            let isNamed = source.direction == .ingress
            let names = isNamed ? policy.ingressPorts : []
            let numbers = Dictionary(uniqueKeysWithValues: zip(names, ports))
            ports = ports.dropFirst(names.count)
            for name in names where numbers[name] == .some(nil) { unresolved.append((policy.key, name)) }
            for var rule in policy.rules(source.direction) {
                if case .named(let name) = rule.allowance.ports {
                    guard let number = numbers[name] ?? nil else { continue }
                    rule.allowance.ports = .range(name.protocol, number...number)
                }
                if seen.insert(rule.allowance).inserted { rules.append(rule) }
            }
        }
        self.rules = rules
        self.unresolved = unresolved
        groups = Array(Set(rules.compactMap(\.allowance.group)))
        blocks = Array(Set(rules.compactMap(\.allowance.block).filter { $0.prefix == nil }))
    }
}

/// How far a pod is restricted in one direction.
enum Isolation: Sendable {
    /// No policy is about it.
    case open
    /// Policies may be about it, but nobody has told of the pod yet.
    case closed
    case profile(Profile)

    var profile: Profile? { if case .profile(let profile) = self { profile } else { nil } }

    /// Whether something is allowed under this that is not under the other.
    ///
    /// May say yes where an exact answer is no, when one new rule does the work of several old ones.
    func allowsMore(than other: Isolation) -> Bool {
        switch (self, other) {
        case (_, .open), (.closed, _): false
        case (.open, .closed): true
        case (.open, .profile(let profile)): !profile.allowsEverything
        case (.profile(let profile), .closed): !profile.rules.isEmpty
        case (.profile(let old), .profile(let new)): old !== new && old.allowsMore(than: new)
        }
    }
}

// MARK: - Comparing

extension Profile {
    fileprivate var allowsEverything: Bool {
        rules.contains { $0.allowance == Allowance(block: nil, group: nil, ports: .any) }
    }

    private struct Peer: Hashable {
        var block: AddressRanges?
        var group: PeerGroup?

        func covers(_ other: Peer) -> Bool {
            if let group, group != other.group { return false }
            guard let block else { return true }
            return other.block.map(block.contains) ?? false
        }
    }

    /// The ports allowed for each peer.
    private var portsByPeer: [Peer: [PortMatch]] {
        Dictionary(grouping: rules) { Peer(block: $0.allowance.block, group: $0.allowance.group) }
            .mapValues { $0.map(\.allowance.ports) }
    }

    fileprivate func allowsMore(than other: Profile) -> Bool {
        let others = other.portsByPeer
        let wider = others.filter { $0.key.group == nil }
        return portsByPeer.contains { peer, ports in
            var allowed = peer.group == nil ? [] : others[peer] ?? []
            for (candidate, ports) in wider where candidate.covers(peer) { allowed += ports }
            return !allowed.cover(ports)
        }
    }
}

extension [PortMatch] {
    fileprivate func cover(_ others: [PortMatch]) -> Bool {
        if contains(.any) { return true }
        var ranges: [TransportProtocol: [ClosedRange<Port>]] = [:]
        for case .range(let transport, let range) in self { ranges[transport, default: []].append(range) }
        return others.allSatisfy { match in
            switch match {
            case .any: false
            case .all(let transport): contains(.all(transport))
            case .range(let transport, let range):
                contains(.all(transport))
                    || merged(ranges[transport] ?? []).contains {
                        $0.lowerBound <= range.lowerBound && $0.upperBound >= range.upperBound
                    }
            case .named, .exposed: contains(match)
            }
        }
    }
}
