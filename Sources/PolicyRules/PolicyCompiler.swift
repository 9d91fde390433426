public import KubernetesObjects
internal import NetworkAddresses
public import Nftables

/// What changed in the policy table since it was last asked for.
public struct PolicyUpdate: Sendable {
    /// What owners contribute now; nil where they no longer do.
    public var contributions: [(owner: PolicyOwner, contribution: Contribution?)] = []
    /// Chains of the frame that are to be replaced, by name.
    public var frameChains: [String: Chain] = [:]
    /// Whether something was taken away that a live connection may have relied on. The epoch is swapped then, in the
    /// same batch.
    ///
    /// What is added, and a pod that merely goes, disturbs nobody. The first update compares with nothing and says no.
    public var isRestrictive = false

    public var isEmpty: Bool { contributions.isEmpty && frameChains.isEmpty && !isRestrictive }
}

/// Turns object events into contributions to the policy table, with work in proportion to the change.
///
/// Events only note what they touch; `takeContributions` does the work, so a burst of events about one pod costs once.
/// What comes out depends on what is there and not on the order in which it came: see `PolicyTable.whole`.
public struct PolicyCompiler: Sendable {
    /// A pod or a container, and what was last made of it.
    struct Member: Sendable {
        /// Nil while only an attachment tells of the pod.
        var pod: PodFacts?
        var attached: [IPAddress] = []
        var claimed: [IPAddress] = []
        var identity: Int?
        var places: [Membership.Place] = []
        var egress = Isolation.open
        var ingress = Isolation.open
        var contributes = false

        /// The addresses it says it has.
        var addresses: [IPAddress] {
            guard let pod else { return attached }
            return pod.standing == .ended ? [] : attached + pod.addresses.filter { !attached.contains($0) }
        }

        func isLocal(_ address: IPAddress) -> Bool { pod?.isOnThisNode == true || attached.contains(address) }
    }

    public private(set) var node: PolicyNode
    let log: DenialLog
    var policies: [String: [String: CompiledPolicy]] = [:]
    var members: [PolicyOwner: Member] = [:]
    var claims = AddressClaims()
    var membership: Membership
    var profiles: ProfileStore
    var rights = Rights()
    /// The owners with addresses on this node, by namespace.
    var localOwners: [String: Set<PolicyOwner>] = [:]
    private var attachments: [PolicyOwner: [IPAddress]] = [:]
    var dirty: Set<PolicyOwner> = []
    var touchedAddresses: Set<IPAddress> = []
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
            members[owner, default: Member()].attached = new[owner] ?? []
            reclaim(owner)
        }
    }

    private mutating func setPod(_ key: NamespacedName, _ facts: PodFacts?) {
        let owner = PolicyOwner.pod(key)
        // Most events about a pod are about what does not matter here.
        guard members[owner]?.pod != facts else { return }
        members[owner, default: Member()].pod = facts
        reclaim(owner)
    }

    private mutating func setPolicy(_ key: NamespacedName, _ policy: NetworkPolicy?) {
        lastVersion += 1
        let old = policies[key.namespace]?[key.name]
        let new = policy.map { CompiledPolicy($0, version: lastVersion) }
        guard !(old.map { $0.says(theSameAs: new) } ?? (new == nil)) else { return }
        policies[key.namespace, default: [:]][key.name] = new
        if policies[key.namespace]?.isEmpty == true { policies[key.namespace] = nil }
        let selectors = [old, new].compactMap(\.?.selector)
        for owner in localOwners[key.namespace] ?? [] {
            guard let pod = members[owner]?.pod, !selectors.contains(where: { $0.matches(pod.labels) }) else {
                dirty.insert(owner)
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

    /// Brings an owner's claims in line with what it says.
    private mutating func reclaim(_ owner: PolicyOwner) {
        let member = members[owner]!
        let wanted = member.addresses
        func update(_ claim: AddressClaims.Claim?, _ address: IPAddress, _ compiler: inout PolicyCompiler) {
            let before = compiler.claims.holder(of: address)
            compiler.touchedAddresses.insert(address)
            guard compiler.claims.set(claim, on: address, for: owner) else { return }
            if let before { compiler.dirty.insert(before) }
            if let after = compiler.claims.holder(of: address) { compiler.dirty.insert(after) }
        }
        for address in member.claimed where !wanted.contains(address) { update(nil, address, &self) }
        for address in wanted {
            update(
                AddressClaims.Claim(
                    isAttached: member.attached.contains(address), isTerminating: member.pod?.isTerminating ?? false,
                    created: member.pod?.created, owner: owner), address, &self)
        }
        members[owner]!.claimed = wanted
        dirty.insert(owner)
        guard case .pod(let key) = owner else { return }
        if wanted.contains(where: member.isLocal) {
            localOwners[key.namespace, default: []].insert(owner)
        } else {
            localOwners[key.namespace]?.remove(owner)
            if localOwners[key.namespace]?.isEmpty == true { localOwners[key.namespace] = nil }
        }
    }

    // MARK: - Notes

    /// What could not be used as written, as things stand.
    public var notes: [Note] {
        profiles.unresolved.map { policy, port, pod in
            Note(
                object: ObjectReference(.networkPolicy, policy), field: "spec.ingress",
                message: "\(pod) exposes no port \(port); for it the port matches nothing", severity: .warning)
        }
            + claims.contested.flatMap { address, holder, others in
                others.map { other in
                    var object: ObjectReference?
                    if case .pod(let key) = other { object = ObjectReference(.pod, key) }
                    return Note(
                        object: object, field: "status.podIPs",
                        message: "\(address) belongs to \(holder); \(other) is taken to have it no longer",
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
