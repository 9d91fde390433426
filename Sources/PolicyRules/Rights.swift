internal import NetworkAddresses

/// What each address may do, to notice when something is taken away that a live connection relied on.
///
/// Rights are compared by address and not by pod, because a connection belongs to addresses: what a pod leaves behind
/// in conntrack would serve the next pod at its address. A pod that merely goes takes nothing away, and its rights
/// stay with the address until somebody has it again or everything is judged anew.
struct Rights: Sendable {
    struct Grant: Sendable {
        var places: [Membership.Place]
        var egress: Isolation
        var ingress: Isolation

        fileprivate var isNothing: Bool {
            if places.isEmpty, case .open = egress, case .open = ingress { true } else { false }
        }
    }

    private var granted: [IPAddress: Grant] = [:]
    private var abandoned: Set<IPAddress> = []

    /// Records what an address may do from now on.
    ///
    /// - Parameter initial: how far an address of which nothing is recorded was restricted.
    /// - Parameter isInUse: whether a group still counts; being in one that nobody refers to is no right.
    /// - Returns: Whether it could do something before that it cannot now.
    mutating func grant(
        _ new: Grant, to address: IPAddress, initial: Isolation, isInUse: (Int) -> Bool
    ) -> Bool {
        let old = granted[address] ?? Grant(places: [], egress: initial, ingress: initial)
        abandoned.remove(address)
        granted[address] = new.isNothing ? nil : new
        return old.places.contains { isInUse($0.group) && !new.places.contains($0) }
            || old.egress.allowsMore(than: new.egress) || old.ingress.allowsMore(than: new.ingress)
    }

    /// Nobody has the address any more.
    mutating func abandon(_ address: IPAddress) {
        if granted[address] != nil { abandoned.insert(address) }
    }

    /// Forgets addresses that nobody has: their connections are judged anew.
    mutating func forgetAbandoned() {
        for address in abandoned { granted[address] = nil }
        abandoned = []
    }
}
