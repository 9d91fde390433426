public import KubernetesObjects
internal import NetworkAddresses
public import Nftables

extension PolicyTable {
    /// The whole table of a cluster as one node should have it, computed at once: what the increments must add up to.
    public static func whole(
        _ cluster: ClusterSnapshot, attachments: some Sequence<LocalAttachment> = [], nodeName: String,
        epoch: PolicyEpoch, log: DenialLog = DenialLog()
    ) -> Ruleset {
        whole(cluster, attachments: attachments, nodeName: nodeName, epoch: epoch, log: log, bits: 32)
    }

    /// - Parameter bits: the width of numbers; fewer than 32 only to see what happens when two come out alike.
    static func whole(
        _ cluster: ClusterSnapshot, attachments: some Sequence<LocalAttachment>, nodeName: String, epoch: PolicyEpoch,
        log: DenialLog, bits: UInt32
    ) -> Ruleset {
        let table = WholeTable(
            cluster, LocalAttachment.addresses(attachments), nodeName: nodeName, log: log, bits: bits)
        let node = PolicyNode(
            name: nodeName, podCIDRs: (cluster.nodes[nodeName]?.podCIDRs ?? []).map(\.network).sorted())
        var ruleset = frame(on: node, epoch: epoch)
        for contribution in table.contributions {
            for member in contribution.members {
                ruleset.sets[member.set]!.elements[member.element.key] = member.element
            }
            ruleset.chains.merge(contribution.chains) { first, _ in first }
            ruleset.sets.merge(contribution.sets) { first, _ in first }
        }
        return ruleset
    }
}

/// Looks at everything, once and in order, with nothing remembered.
private struct WholeTable {
    struct Subject {
        var owner: PolicyOwner
        var pod: PodFacts?
        var addresses: [IPAddress]
        var local: [IPAddress]
        var profiles: [NetworkPolicy.Direction: Profile] = [:]
        var isClosed: Set<NetworkPolicy.Direction> = []
    }

    private let cluster: ClusterSnapshot
    private var subjects: [Subject]
    private var members: [PeerGroup: [(subject: Int, port: Port?)]] = [:]
    private let log: DenialLog
    private let bits: UInt32

    init(
        _ cluster: ClusterSnapshot, _ attached: [PolicyOwner: [IPAddress]], nodeName: String, log: DenialLog,
        bits: UInt32
    ) {
        self.cluster = cluster
        self.log = log
        self.bits = bits
        subjects = Self.subjects(cluster, attached, nodeName: nodeName)
        let policies = cluster.networkPolicies.values.sorted { $0.key < $1.key }.enumerated()
            .map { CompiledPolicy($1, version: $0) }
        for index in subjects.indices where !subjects[index].local.isEmpty { isolate(&subjects[index], policies) }
        for group in Set(subjects.flatMap { $0.profiles.values.flatMap(\.groups) }) { members[group] = find(group) }
    }

    /// Everyone who has an address, with those it has.
    private static func subjects(
        _ cluster: ClusterSnapshot, _ attached: [PolicyOwner: [IPAddress]], nodeName: String
    ) -> [Subject] {
        var facts: [PolicyOwner: PodFacts] = [:]
        for pod in cluster.pods.values { facts[.pod(pod.key)] = PodFacts(pod, node: nodeName) }
        var claims: [IPAddress: [AddressClaims.Claim]] = [:]
        let owners = Set(facts.keys).union(attached.keys)
        for owner in owners where facts[owner]?.standing != .ended {
            for address in Set((attached[owner] ?? []) + (facts[owner]?.addresses ?? [])) {
                claims[address, default: []].append(
                    AddressClaims.Claim(
                        isAttached: attached[owner]?.contains(address) ?? false,
                        isTerminating: facts[owner]?.isTerminating ?? false, created: facts[owner]?.created,
                        owner: owner))
            }
        }
        var held: [PolicyOwner: [IPAddress]] = [:]
        for (address, claims) in claims { held[claims.max()!.owner, default: []].append(address) }
        return held.map { owner, addresses in
            let local = addresses.filter {
                facts[owner]?.isOnThisNode == true || attached[owner]?.contains($0) == true
            }
            return Subject(owner: owner, pod: facts[owner], addresses: addresses, local: local)
        }
    }

    private func isolate(_ subject: inout Subject, _ policies: [CompiledPolicy]) {
        guard case .pod(let key) = subject.owner, subject.pod?.standing != .host else { return }
        for direction in NetworkPolicy.Direction.allCases {
            let isolating = policies.filter { policy in
                policy.key.namespace == key.namespace && policy.directions.contains(direction)
                    && subject.pod.map { policy.selector.matches($0.labels) } ?? true
            }
            guard !isolating.isEmpty else { continue }
            if let pod = subject.pod {
                let source = ProfileSource(direction, isolating, pod, subject.local)
                subject.profiles[direction] = Profile(source, policies: isolating)
            } else {
                subject.isClosed.insert(direction)
            }
        }
    }

    /// The members of a group, each with the number it gives to the group's port.
    private func find(_ group: PeerGroup) -> [(subject: Int, port: Port?)] {
        subjects.indices.compactMap { index in
            guard case .pod(let key) = subjects[index].owner, let pod = subjects[index].pod, pod.standing == .own
            else { return nil }
            let namespace = cluster.namespaces[key.namespace] ?? Namespace(name: key.namespace)
            guard group.matches(namespace, pod.labels) else { return nil }
            guard let port = group.port else { return (index, nil) }
            return pod.exposed.number(of: port).map { (index, $0) }
        }
    }

    var contributions: [Contribution] {
        var numbers = StableNumbers(bits: bits)
        var setNumbers = numbers
        var chainNumbers = numbers
        for (group, members) in members {
            for port in group.port == nil ? [nil] : Set(members.map(\.port)) {
                numbers.retain(group.text(exposedAs: port))
            }
        }
        let profiles = subjects.flatMap(\.profiles.values)
        for block in profiles.flatMap(\.blocks) { setNumbers.retain(block.text) }
        _ = numbers.settle()
        _ = setNumbers.settle()
        var chains: [ProfileSource: ProfileChain] = [:]
        for profile in profiles where chains[profile.source] == nil {
            let chain = ProfileChain(
                profile, log: log, number: { numbers[$0.text(exposedAs: $1)] },
                exposures: { Set(members[$0]!.compactMap(\.port)).sorted() }, setNumber: { setNumbers[$0.text] })
            chains[profile.source] = chain
            chainNumbers.retain(chain.text)
        }
        _ = chainNumbers.settle()
        var groups: [Int: [UInt32]] = [:]
        for (group, members) in members {
            for (subject, port) in members { groups[subject, default: []].append(numbers[group.text(exposedAs: port)]) }
        }
        return subjects.indices.map { index in
            let subject = subjects[index]
            func dispatch(_ direction: NetworkPolicy.Direction) -> Dispatch {
                if subject.isClosed.contains(direction) { return .closed }
                guard let chain = subject.profiles[direction].flatMap({ chains[$0.source] }) else { return .nowhere }
                return .profile(name: chain.name(number: chainNumbers[chain.text]), chain)
            }
            return Contribution(
                of: subject.owner, addresses: subject.addresses, groups: groups[index] ?? [], local: subject.local,
                egress: dispatch(.egress), ingress: dispatch(.ingress))
        }
    }
}
