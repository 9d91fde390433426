public import KubernetesObjects
internal import NetworkAddresses
public import Nftables

/// What changed in the policy table since it was last asked for.
public struct PolicyUpdate: Sendable {
    /// What owners contribute now; nil where they no longer do.
    public var contributions: [(owner: PolicyOwner, contribution: Contribution?)] = []
    /// Chains of the frame that are to be replaced, by name.
    public var frameChains: [String: Chain] = [:]
    /// Whether something was taken away that a live connection may have relied on.
    ///
    /// The epoch is swapped then, in the same batch.
    /// What is added, and a pod that merely goes, disturbs nobody. The first update compares with nothing and says no.
    public var isRestrictive = false

    public var isEmpty: Bool { contributions.isEmpty && frameChains.isEmpty && !isRestrictive }
}

/// Turns object events into contributions to the policy table, with work in proportion to the change.
///
/// Events only note what they touch; `takeContributions` does the work, so a burst of events about one pod costs once.
/// What comes out depends on what is there and not on the order in which it came: see `PolicyTable.whole`.
public struct PolicyCompiler: Sendable {
    public private(set) var node: PolicyNode
    let log: DenialLog
    var policies: [String: [String: CompiledPolicy]] = [:]
    var members = Members()
    var claims = AddressClaims()
    var membership: Membership
    var profiles: ProfileStore
    var rights = Rights()
    /// The pods with addresses on this node, by namespace.
    private var localPods: [String: Set<MemberID>] = [:]
    private var attachments: [PolicyOwner: [IPAddress]] = [:]
    /// Those who changed in themselves or in their policies.
    var changed: Set<MemberID> = []
    /// Networks that the closed gate was not told of yet.
    var isNodeChanged = false
    var isGateWidened = false
    var isFirst = true
    private var lastVersion = 0

    public init(nodeName: String, log: DenialLog = DenialLog()) {
        self.init(nodeName: nodeName, log: log, bits: 32)
    }

    /// - Parameter bits: the width of numbers; fewer than 32 only to see what happens when two come out alike.
    init(nodeName: String, log: DenialLog = DenialLog(), bits: UInt32) {
        node = PolicyNode(name: nodeName)
        self.log = log
        membership = Membership(bits: bits)
        profiles = ProfileStore(bits: bits)
    }

    // MARK: - Events

    public mutating func apply(_ event: ObjectEvent) {
        switch event {
        case .set(.namespace(let namespace)): membership.setNamespace(namespace.name, to: namespace)
        case .set(.pod(let pod)): setPod(pod.key, PodFacts(pod, node: node.name))
        case .set(.networkPolicy(let policy)): setPolicy(policy.key, policy)
        case .set(.node(let node)) where node.name == self.node.name: setPodCIDRs(node.podCIDRs)
        case .removed(let reference):
            switch reference.kind {
            case .namespace: membership.setNamespace(reference.name, to: nil)
            case .pod: setPod(reference.key, nil)
            case .networkPolicy: setPolicy(reference.key, nil)
            case .node where reference.name == node.name: setPodCIDRs([])
            default: break
            }
        case .set, .synced: break
        }
    }

    /// Replaces the list of what is attached to this node's network.
    public mutating func setAttachments(_ attachments: some Sequence<LocalAttachment>) {
        let new = LocalAttachment.addresses(attachments)
        let changed = Set(new.keys).union(self.attachments.keys).filter { new[$0] != self.attachments[$0] }
        self.attachments = new
        for owner in changed {
            let id = members.insert(owner)
            members[id].attached = new[owner] ?? []
            reclaim(id)
        }
    }

    private mutating func setPod(_ key: NamespacedName, _ facts: PodFacts?) {
        let owner = PolicyOwner.pod(key)
        // Most events about a pod are about what does not matter here.
        guard members.id(of: owner).flatMap({ members[$0].pod }) != facts else { return }
        let id = members.insert(owner)
        members[id].pod = facts
        reclaim(id)
    }

    private mutating func setPolicy(_ key: NamespacedName, _ policy: NetworkPolicy?) {
        lastVersion += 1
        let old = policies[key.namespace]?[key.name]
        let new = policy.map { CompiledPolicy($0, version: lastVersion) }
        guard !(old.map { $0.says(theSameAs: new) } ?? (new == nil)) else { return }
        policies[key.namespace, default: [:]][key.name] = new
        if policies[key.namespace]?.isEmpty == true { policies[key.namespace] = nil }
        let selectors = [old, new].compactMap(\.?.selector)
        for id in localPods[key.namespace] ?? [] {
            guard let pod = members[id].pod, !selectors.contains(where: { $0.matches(pod.labels) }) else {
                changed.insert(id)
                continue
            }
        }
    }

    private mutating func setPodCIDRs(_ podCIDRs: [IPPrefix]) {
        let podCIDRs = podCIDRs.map(\.network).sorted()
        guard podCIDRs != node.podCIDRs else { return }
        isGateWidened = isGateWidened || !Set(podCIDRs).isSubset(of: node.podCIDRs)
        node.podCIDRs = podCIDRs
        isNodeChanged = true
    }

    /// Brings a member's claims in line with what it says.
    private mutating func reclaim(_ id: MemberID) {
        changed.insert(id)
        let (old, new) = (members[id].claimed, members[id].addresses)
        members[id].claimed = new
        for address in old where !new.contains(address) { setClaim(false, on: address, by: id) }
        for address in new { setClaim(true, on: address, by: id) }
        guard case .pod(let key) = members[id].owner else { return }
        if new.contains(where: members[id].isLocal) {
            localPods[key.namespace, default: []].insert(id)
        } else {
            localPods[key.namespace]?.remove(id)
            if localPods[key.namespace]?.isEmpty == true { localPods[key.namespace] = nil }
        }
    }

    private mutating func setClaim(_ isClaimed: Bool, on address: IPAddress, by id: MemberID) {
        let before = claims.holder(of: address)
        claims.set(isClaimed, on: address, by: id, among: members)
        let after = claims.holder(of: address)
        guard before != after else { return }
        for case let concerned? in [before, after] { changed.insert(concerned) }
    }

    // MARK: - Notes

    /// What could not be used as written, as things stand.
    public var notes: [Note] {
        let unresolved = profiles.unresolved.map { policy, port, pods in
            (policy, port, pods.map { members[$0].owner }.min()!)
        }.sorted { $0 < $1 }
        return unresolved.map { policy, port, pod in
            Note(
                object: ObjectReference(.networkPolicy, policy), field: "spec.ingress",
                message: "\(pod) exposes no port \(port); for it the port matches nothing", severity: .warning)
        }
            + claims.contested.flatMap { address, holder, others in
                others.map { members[$0].owner }.sorted().map { other in
                    var object: ObjectReference?
                    if case .pod(let key) = other { object = ObjectReference(.pod, key) }
                    return Note(
                        object: object, field: "status.podIPs",
                        message:
                            "\(address) belongs to \(members[holder].owner); \(other) is taken to have it no longer",
                        severity: .warning)
                }
            }
    }
}

extension LocalAttachment {
    /// The addresses of each owner, in order and each once.
    static func addresses(_ attachments: some Sequence<LocalAttachment>) -> [PolicyOwner: [IPAddress]] {
        Dictionary(grouping: attachments, by: \.owner).compactMapValues { attachments in
            let addresses = Set(attachments.flatMap(\.addresses)).sorted()
            return addresses.isEmpty ? nil : addresses
        }
    }
}
