internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// The profiles of this node's pods: each there as long as some pod is under it.
struct ProfileStore: Sendable {
    private struct Entry: Sendable {
        let profile: Profile
        var pods: Set<MemberID> = []
        var chain: ProfileChain?
    }

    private var entries: [ProfileSource: Entry] = [:]
    private var setNumbers: StableNumbers
    private var chainNumbers: StableNumbers
    private var unwritten: Set<ProfileSource> = []

    init(bits: UInt32 = 32) {
        setNumbers = StableNumbers(bits: bits)
        chainNumbers = StableNumbers(bits: bits)
    }

    /// Puts a pod under the profile of that source.
    mutating func enter(
        _ source: ProfileSource, _ pod: MemberID, _ policies: [CompiledPolicy], _ membership: inout Membership
    ) -> Profile {
        if entries[source] == nil {
            let profile = Profile(source, policies: policies)
            entries[source] = Entry(profile: profile)
            for group in profile.groups { membership.retain(group) }
            for block in profile.blocks { setNumbers.retain(block.text) }
            unwritten.insert(source)
        }
        entries[source]!.pods.insert(pod)
        return entries[source]!.profile
    }

    mutating func leave(_ source: ProfileSource, _ pod: MemberID, _ membership: inout Membership) {
        entries[source]?.pods.remove(pod)
        guard let entry = entries[source], entry.pods.isEmpty else { return }
        entries[source] = nil
        unwritten.remove(source)
        for group in entry.profile.groups { membership.release(group) }
        for block in entry.profile.blocks { setNumbers.release(block.text) }
        if let chain = entry.chain { chainNumbers.release(chain.text) }
    }

    /// Writes the chains of new profiles, and of those that refer to groups with other numbers than before.
    ///
    /// - Returns: The pods under profiles whose chain or its name is another now, and whether a name may have gone from
    ///   one chain or set to another.
    mutating func write(
        _ membership: borrowing Membership, log: DenialLog, changed: Set<PeerGroup>, all: Bool
    ) -> (pods: Set<MemberID>, isRenamed: Bool) {
        var isRenamed = setNumbers.settle()
        if isRenamed || all {
            unwritten.formUnion(entries.keys)
        } else if !changed.isEmpty {
            for (source, entry) in entries where entry.profile.groups.contains(where: changed.contains) {
                unwritten.insert(source)
            }
        }
        var pods: Set<MemberID> = []
        for source in unwritten {
            let entry = entries[source]!
            let chain = ProfileChain(
                entry.profile, log: log, number: { membership.number(of: $0, as: $1) },
                exposures: { membership.exposures(of: $0) }, setNumber: { setNumbers[$0.text] })
            chainNumbers.retain(chain.text)
            if let old = entry.chain { chainNumbers.release(old.text) }
            entries[source]!.chain = chain
            pods.formUnion(entry.pods)
        }
        unwritten = []
        if chainNumbers.settle() { isRenamed = true }
        if isRenamed { for entry in entries.values { pods.formUnion(entry.pods) } }
        return (pods, isRenamed)
    }

    func dispatch(_ isolation: Isolation) -> Dispatch {
        switch isolation {
        case .open: return .nowhere
        case .closed: return .closed
        case .profile(let profile):
            let chain = entries[profile.source]!.chain!
            return .profile(name: chain.name(number: chainNumbers[chain.text]), chain)
        }
    }

    /// Ports that policies name and the pods under them do not expose.
    var unresolved: [(policy: NamespacedName, port: NamedPort, pods: Set<MemberID>)] {
        entries.values.flatMap { entry in entry.profile.unresolved.map { ($0.policy, $0.port, entry.pods) } }
    }
}
