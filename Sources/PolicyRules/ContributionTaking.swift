internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

extension PolicyCompiler {
    /// What changed since the last call.
    public mutating func takeContributions() -> PolicyUpdate {
        var before: [MemberID: Member.Standing] = [:]
        for id in changed {
            before[id] = members[id].standing
            isolate(id)
        }
        let settled = membership.settle()
        for id in changed { identify(id) }
        for id in settled.pods.union(changed) {
            if before[id] == nil { before[id] = members[id].standing }
            place(id)
        }
        let numbers = membership.settleNumbers()
        let written = profiles.write(membership, log: log, changed: numbers.groups, all: numbers.all)

        var update = PolicyUpdate()
        if isNodeChanged { update.frameChains = PolicyTable.chains(on: node) }
        update.isRestrictive = changeRights(from: before, hasNewGroups: settled.hasNewGroups)
        var concerned = written.pods.union(before.keys)
        if numbers.all { concerned.formUnion(members.all.filter { !members[$0].standing.places.isEmpty }) }
        if written.isRenamed {
            // A name is used again for something else: everybody lets go of it before anybody takes it.
            update.contributions = concerned.filter { members[$0].contributes }.map { (members[$0].owner, nil) }
        }
        for id in concerned { contribute(id, to: &update) }
        changed = []
        (isFirst, isNodeChanged, isGateWidened) = (false, false, false)
        return update
    }

    // MARK: Profiles

    /// Puts a pod under the profiles that its labels and its namespace's policies ask for.
    private mutating func isolate(_ id: MemberID) {
        let member = members[id]
        let held = member.claimed.filter { claims.holder(of: $0) == id }
        let local = held.filter(member.isLocal)
        let selecting = local.isEmpty ? [] : selection(member)
        let egress = isolation(.egress, id, member.standing.egress, selecting, local)
        let ingress = isolation(.ingress, id, member.standing.ingress, selecting, local)
        members[id].standing.held = held == member.claimed ? member.claimed : held
        members[id].standing.local = local
        members[id].standing.egress = egress
        members[id].standing.ingress = ingress
    }

    /// The policies that are about a pod.
    ///
    /// Of one that is not known yet: all of its namespace.
    private func selection(_ member: Member) -> [CompiledPolicy] {
        guard case .pod(let key) = member.owner, let policies = policies[key.namespace], member.pod?.standing != .host
        else { return [] }
        return policies.values.filter { policy in member.pod.map { policy.selector.matches($0.labels) } ?? true }
            .sorted { $0.key < $1.key }
    }

    private mutating func isolation(
        _ direction: NetworkPolicy.Direction, _ id: MemberID, _ old: Isolation, _ selecting: [CompiledPolicy],
        _ local: [IPAddress]
    ) -> Isolation {
        let isolating = selecting.filter { $0.directions.contains(direction) }
        var source: ProfileSource?
        if let pod = members[id].pod, !isolating.isEmpty { source = ProfileSource(direction, isolating, pod, local) }
        if let source, source == old.profile?.source { return old }
        let new: Isolation =
            if let source {
                .profile(profiles.enter(source, id, isolating, &membership))
            } else {
                isolating.isEmpty ? .open : .closed
            }
        if let left = old.profile?.source { profiles.leave(left, id, &membership) }
        return new
    }

    // MARK: Groups

    /// Finds who a pod is like.
    private mutating func identify(_ id: MemberID) {
        var identity: Int?
        if case .pod(let name) = members[id].owner, let pod = members[id].pod, pod.standing == .own,
            !members[id].standing.held.isEmpty
        {
            let key = Membership.IdentityKey(namespace: name.namespace, labels: pod.labels, exposed: pod.exposed)
            identity = membership.place(id, key)
        }
        if let old = members[id].identity, old != identity { membership.remove(id, from: old) }
        members[id].identity = identity
        guard let identity else { return }
        // Of pods that are alike, one copy of what they say is enough.
        let key = membership.key(of: identity)
        (members[id].pod!.labels, members[id].pod!.exposed) = (key.labels, key.exposed)
    }

    /// Finds the groups that a pod is in.
    private mutating func place(_ id: MemberID) {
        let places = members[id].identity.map { membership.places(of: $0) } ?? []
        guard places != members[id].standing.places else { return }
        membership.count(places, 1)
        membership.count(members[id].standing.places, -1)
        members[id].standing.places = places
    }

    // MARK: Rights

    /// Compares what every address concerned may do now with what it could before; true where that is less.
    private mutating func changeRights(from before: [MemberID: Member.Standing], hasNewGroups: Bool) -> Bool {
        var isRestrictive = isGateWidened
        /// Addresses that had somebody before.
        var handedOn: Set<IPAddress> = []
        for (id, old) in before {
            for address in old.held {
                let grant = old.grant(address)
                guard let holder = claims.holder(of: address) else {
                    rights.abandon(address, grant)
                    continue
                }
                if holder != id { handedOn.insert(address) }
                if change(address, from: grant, holder) { isRestrictive = true }
            }
        }
        for (id, old) in before {
            for address in members[id].standing.held where !old.held.contains(address) && !handedOn.contains(address) {
                if change(address, from: nil, id) { isRestrictive = true }
            }
        }
        for address in hasNewGroups ? rights.awakened(by: membership.groups) : [] {
            guard let holder = claims.holder(of: address) else { continue }
            if change(address, from: members[holder].standing.grant(address), holder) { isRestrictive = true }
        }
        guard isRestrictive else { return false }
        rights.forget()
        membership.forgetUnused()
        return !isFirst
    }

    private mutating func change(_ address: IPAddress, from old: Rights.Grant?, _ holder: MemberID) -> Bool {
        rights.change(
            address, from: old, to: members[holder].standing.grant(address),
            unknown: node.covers(address) ? .closed : .open, groupsInUse: membership.groups)
    }

    // MARK: Contributions

    private mutating func contribute(_ id: MemberID, to update: inout PolicyUpdate) {
        let (owner, standing) = (members[id].owner, members[id].standing)
        let contribution = Contribution(
            of: owner, addresses: standing.held, groups: standing.places.map { membership.number(of: $0) },
            local: standing.local, egress: profiles.dispatch(standing.egress),
            ingress: profiles.dispatch(standing.ingress))
        if !contribution.isEmpty || members[id].contributes {
            update.contributions.append((owner, contribution.isEmpty ? nil : contribution))
        }
        members[id].contributes = !contribution.isEmpty
        if members[id].pod == nil, members[id].attached.isEmpty { members.remove(id) }
    }
}

extension Member.Standing {
    /// What one of the addresses may do.
    fileprivate func grant(_ address: IPAddress) -> Rights.Grant {
        Rights.Grant(
            places: places,
            local: local.contains(address) ? Rights.Grant.Local(egress: egress, ingress: ingress) : nil)
    }
}

extension ProfileSource {
    init(
        _ direction: NetworkPolicy.Direction, _ policies: [CompiledPolicy], _ pod: PodFacts, _ addresses: [IPAddress]
    ) {
        self.init(
            direction: direction, policies: policies.map(\.version),
            ports: direction == .egress ? [] : policies.flatMap { $0.ingressPorts.map { pod.exposed.number(of: $0) } },
            families: Set(addresses.map(\.family)).sorted())
    }
}
