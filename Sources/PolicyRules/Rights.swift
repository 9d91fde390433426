internal import NetworkAddresses

/// Notices when something is taken away that a live connection may have relied on.
///
/// Rights are compared by address and not by pod, because a connection belongs to addresses: what a pod leaves behind
/// in conntrack would serve the next pod at its address. A pod that merely goes takes nothing away, and its rights
/// stay with the address until somebody has it again or everything is judged anew.
struct Rights: Sendable {
    /// What an address may do.
    struct Grant: Sendable {
        var places: [Membership.Place]
        /// Nil where the address is not on this node: no profile is about it.
        var local: Local?

        struct Local: Sendable {
            var egress: Isolation
            var ingress: Isolation

            fileprivate func allowsMore(than other: Self) -> Bool {
                egress.allowsMore(than: other.egress) || ingress.allowsMore(than: other.ingress)
            }
        }
    }

    /// Rights of addresses that nobody has.
    private var abandoned: [IPAddress: Grant] = [:]
    /// Places in groups that no profile refers to.
    ///
    /// They count again when one does: a pod that went and came back with
    /// the same profile has its old connections.
    private var dormant: [IPAddress: Set<Membership.Place>] = [:]

    /// Whether an address could do something before that it cannot now.
    ///
    /// - Parameter old: what it could do as another's or the same pod's; nil where nobody had it.
    /// - Parameter unknown: how far an address of no known local pod is restricted.
    /// - Parameter groups: those that count.
    mutating func change(
        _ address: IPAddress, from old: Grant?, to new: Grant, unknown: Isolation,
        groupsInUse groups: [Int: Membership.Group]
    ) -> Bool {
        let left = old == nil ? abandoned.removeValue(forKey: address) : nil
        if loses(address, (old ?? left)?.places ?? [], new.places, groups) { return true }
        let nobody = Grant.Local(egress: unknown, ingress: unknown)
        let now = new.local ?? nobody
        // As long as it was no local pod's, the address could do what any unknown one can.
        if old?.local == nil, nobody.allowsMore(than: now) { return true }
        return (old ?? left)?.local?.allowsMore(than: now) ?? false
    }

    private mutating func loses(
        _ address: IPAddress, _ old: [Membership.Place], _ new: [Membership.Place],
        _ groups: [Int: Membership.Group]
    ) -> Bool {
        guard !dormant.isEmpty || !old.allSatisfy(new.contains) else { return false }
        let lost = (dormant[address] ?? []).union(old).subtracting(new)
        let asleep = lost.filter { groups[$0.group] == nil }
        dormant[address] = asleep.isEmpty ? nil : asleep
        return asleep.count < lost.count
    }

    /// Nobody has the address any more.
    mutating func abandon(_ address: IPAddress, _ grant: Grant) {
        if !grant.places.isEmpty || grant.local != nil { abandoned[address] = grant }
    }

    /// Addresses that were in groups which are referred to again.
    func awakened(by groups: [Int: Membership.Group]) -> [IPAddress] {
        dormant.filter { $0.value.contains { groups[$0.group] != nil } }.map(\.key)
    }

    /// Forgets what only old connections could rely on: they are judged anew.
    mutating func forget() {
        abandoned = [:]
        dormant = [:]
    }
}
