internal import NetworkAddresses

/// What each address may do, to notice when something is taken away that a live connection relied on.
///
/// Rights are compared by address and not by pod, because a connection belongs to addresses: what a pod leaves behind
/// in conntrack would serve the next pod at its address. A pod that merely goes takes nothing away, and its rights
/// stay with the address until somebody has it again or everything is judged anew.
struct Rights: Sendable {
    struct Grant: Sendable {
        var places: [Membership.Place]
        /// Nil where the address is not on this node: no profile is about it.
        var local: Local?

        struct Local: Sendable {
            var egress: Isolation
            var ingress: Isolation
        }
    }

    private var granted: [IPAddress: Grant] = [:]
    private var abandoned: Set<IPAddress> = []
    /// Places in groups that no profile refers to. They count again when one does: a pod that went and came back with
    /// the same profile has its old connections.
    private var dormant: [IPAddress: Set<Membership.Place>] = [:]

    /// Records what an address may do from now on.
    ///
    /// - Parameter unknown: how far an address of no known local pod is restricted.
    /// - Parameter isInUse: whether a group still counts; being in one that nobody refers to is no right.
    /// - Returns: Whether it could do something before that it cannot now.
    mutating func grant(
        _ new: Grant, to address: IPAddress, unknown: Isolation, isInUse: (Int) -> Bool
    ) -> Bool {
        let old = granted[address]
        let wasAbandoned = abandoned.remove(address) != nil
        granted[address] = new.places.isEmpty && new.local == nil ? nil : new
        let lost = (dormant[address] ?? []).union(old?.places ?? []).subtracting(new.places)
        let asleep = lost.filter { !isInUse($0.group) }
        dormant[address] = asleep.isEmpty ? nil : asleep
        guard asleep.count == lost.count else { return true }
        let nobody = Grant.Local(egress: unknown, ingress: unknown)
        let now = new.local ?? nobody
        // As long as nobody had it, the address could do what any unknown one can.
        if old?.local == nil || wasAbandoned, nobody.allowsMore(than: now) { return true }
        return old?.local?.allowsMore(than: now) ?? false
    }

    /// Nobody has the address any more.
    mutating func abandon(_ address: IPAddress) {
        if granted[address] != nil { abandoned.insert(address) }
    }

    /// Those who were in groups that are referred to again, and are to be looked at therefore.
    func awakened(by isInUse: (Int) -> Bool) -> [IPAddress] {
        dormant.filter { $0.value.contains { isInUse($0.group) } }.map(\.key)
    }

    /// Forgets what only old connections could rely on: they are judged anew.
    mutating func forget() {
        for address in abandoned { granted[address] = nil }
        abandoned = []
        dormant = [:]
    }
}

extension Rights.Grant.Local {
    fileprivate func allowsMore(than other: Self) -> Bool {
        egress.allowsMore(than: other.egress) || ingress.allowsMore(than: other.ingress)
    }
}
