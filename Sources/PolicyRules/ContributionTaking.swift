internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

extension PolicyCompiler {
    /// What changed since the last call.
    public mutating func takeContributions() -> PolicyUpdate {
        for owner in dirty { isolate(owner) }
        let settled = membership.settle()
        dirty.formUnion(settled.pods)
        for owner in dirty { place(owner) }
        let changed = membership.settleNumbers()
        if changed.all { for (owner, member) in members where !member.places.isEmpty { dirty.insert(owner) } }
        let written = profiles.write(membership, log: log, changed: changed.groups, all: changed.all)
        dirty.formUnion(written.owners)

        var update = PolicyUpdate()
        if written.isRenamed {
            // A name is used again for something else: everybody lets go of it before anybody takes it.
            update.contributions = dirty.filter { members[$0]?.contributes == true }.sorted().map { ($0, nil) }
        }
        if isNodeChanged { update.frameChains = PolicyTable.chains(on: node) }
        if settled.hasNewGroups { touchedAddresses.formUnion(rights.awakened { membership.groups[$0] != nil }) }
        update.isRestrictive = grantRights()
        for owner in dirty.sorted() { contribute(owner, to: &update) }
        dirty = []
        (isFirst, isNodeChanged, isGateWidened) = (false, false, false)
        return update
    }

    /// The addresses that an owner has: those it claims and nobody has a better claim on.
    private func held(_ owner: PolicyOwner, _ member: Member) -> [IPAddress] {
        member.claimed.filter { claims.holder(of: $0) == owner }
    }

    // MARK: Profiles

    /// Puts a pod under the profiles that its labels and its namespace's policies ask for.
    private mutating func isolate(_ owner: PolicyOwner) {
        guard let member = members[owner] else { return }
        let local = held(owner, member).filter(member.isLocal)
        let selecting = local.isEmpty ? nil : selection(owner, member.pod)
        members[owner]!.egress = isolation(.egress, owner, member, selecting, local)
        members[owner]!.ingress = isolation(.ingress, owner, member, selecting, local)
    }

    /// The policies that are about a pod. Of one that is not known yet: all of its namespace.
    private func selection(_ owner: PolicyOwner, _ pod: PodFacts?) -> [CompiledPolicy] {
        guard case .pod(let key) = owner, let policies = policies[key.namespace], pod?.standing != .host else { return [] }
        return policies.values.filter { policy in pod.map { policy.selector.matches($0.labels) } ?? true }
            .sorted { $0.key < $1.key }
    }

    private mutating func isolation(
        _ direction: NetworkPolicy.Direction, _ owner: PolicyOwner, _ member: Member, _ selecting: [CompiledPolicy]?,
        _ local: [IPAddress]
    ) -> Isolation {
        let old = direction == .egress ? member.egress : member.ingress
        let isolating = (selecting ?? []).filter { $0.directions.contains(direction) }
        var source: ProfileSource?
        if let pod = member.pod, !isolating.isEmpty {
            source = ProfileSource(direction, isolating, pod, local)
        }
        if let source, source == old.profile?.source { return old }
        let new: Isolation =
            if let source {
                .profile(profiles.enter(source, owner, isolating, &membership))
            } else {
                isolating.isEmpty ? .open : .closed
            }
        if let left = old.profile?.source { profiles.leave(left, owner, &membership) }
        return new
    }

    // MARK: Groups

    /// Finds the groups that a pod is in.
    private mutating func place(_ owner: PolicyOwner) {
        guard let member = members[owner] else { return }
        var key: Membership.IdentityKey?
        if case .pod(let name) = owner, let pod = member.pod, pod.standing == .own, !held(owner, member).isEmpty {
            key = Membership.IdentityKey(namespace: name.namespace, labels: pod.labels)
        }
        let identity = key.map { membership.place(owner, $0) }
        if let old = member.identity, old != identity { membership.remove(owner, from: old) }
        let places = identity.map { membership.places(of: $0, member.pod!) } ?? []
        members[owner]!.identity = identity
        guard places != member.places else { return }
        membership.count(places, 1)
        membership.count(member.places, -1)
        members[owner]!.places = places
    }

    // MARK: Rights

    /// Records what every address that is touched may do now; true where one can do less than before.
    private mutating func grantRights() -> Bool {
        var addresses = touchedAddresses
        for owner in dirty { addresses.formUnion(members[owner]?.claimed ?? []) }
        touchedAddresses = []
        var isRestrictive = isGateWidened
        for address in addresses {
            guard let owner = claims.holder(of: address), let member = members[owner] else {
                rights.abandon(address)
                continue
            }
            let local = Rights.Grant.Local(egress: member.egress, ingress: member.ingress)
            let grant = Rights.Grant(places: member.places, local: member.isLocal(address) ? local : nil)
            if rights.grant(
                grant, to: address, unknown: node.covers(address) ? .closed : .open,
                isInUse: { membership.groups[$0] != nil })
            {
                isRestrictive = true
            }
        }
        guard isRestrictive else { return false }
        rights.forget()
        membership.forgetUnused()
        return !isFirst
    }

    // MARK: Contributions

    private mutating func contribute(_ owner: PolicyOwner, to update: inout PolicyUpdate) {
        guard let member = members[owner] else { return }
        let held = held(owner, member)
        let contribution = Contribution(
            of: owner, addresses: held, groups: member.places.map { membership.number(of: $0) },
            local: Set(held.filter(member.isLocal)), egress: profiles.dispatch(member.egress),
            ingress: profiles.dispatch(member.ingress))
        if !contribution.isEmpty || member.contributes {
            update.contributions.append((owner, contribution.isEmpty ? nil : contribution))
        }
        members[owner]!.contributes = !contribution.isEmpty
        if member.pod == nil, member.attached.isEmpty { members[owner] = nil }
    }
}

extension ProfileSource {
    init(
        _ direction: NetworkPolicy.Direction, _ policies: [CompiledPolicy], _ pod: PodFacts, _ addresses: [IPAddress]
    ) {
        self.init(
            direction: direction, policies: policies.map(\.version),
            ports: direction == .egress ? [] : policies.flatMap { $0.ingressPorts.map { pod.number(of: $0) } },
            families: Set(addresses.map(\.family)).sorted())
    }
}
