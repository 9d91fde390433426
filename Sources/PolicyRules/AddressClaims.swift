internal import KubernetesObjects
internal import NetworkAddresses

/// Who has an address, where two say they do.
///
/// An address that one pod gives up and the next one takes stands with both for a while. The pod that is there is
/// found from what they say of themselves and not from who spoke last, so that a restart comes to the same answer.
struct AddressClaims: Sendable {
    /// Greater claims win.
    struct Claim: Comparable, Hashable, Sendable {
        /// Whether this node attached the owner to its network with this address: known, and not just reported.
        var isAttached: Bool
        var isTerminating: Bool
        var created: Timestamp?
        var owner: PolicyOwner

        static func < (left: Claim, right: Claim) -> Bool {
            if left.isAttached != right.isAttached { return right.isAttached }
            if left.isTerminating != right.isTerminating { return left.isTerminating }
            let (old, new) = (left.created?.secondsSince1970 ?? .min, right.created?.secondsSince1970 ?? .min)
            // Of two that nothing else tells apart, the lesser name.
            return old != new ? old < new : left.owner > right.owner
        }
    }

    private var holders: [IPAddress: Claim] = [:]
    /// Claims that lost; almost always none.
    private var others: [IPAddress: [Claim]] = [:]

    func holder(of address: IPAddress) -> PolicyOwner? { holders[address]?.owner }

    /// Addresses that more than one claims, with who has it and who has not.
    var contested: [(address: IPAddress, holder: PolicyOwner, others: [PolicyOwner])] {
        others.keys.sorted().map { address in
            (address, holders[address]!.owner, others[address]!.map(\.owner).sorted())
        }
    }

    /// Sets or withdraws an owner's claim; true where that changes who has the address.
    mutating func set(_ claim: Claim?, on address: IPAddress, for owner: PolicyOwner) -> Bool {
        let before = holders[address]?.owner
        guard before != nil, before != owner || others[address] != nil else {
            holders[address] = claim
            return before != claim?.owner
        }
        var claims = (others[address] ?? []) + [holders[address]!]
        claims.removeAll { $0.owner == owner }
        if let claim { claims.append(claim) }
        claims.sort()
        holders[address] = claims.popLast()
        others[address] = claims.isEmpty ? nil : claims
        return holders[address]?.owner != before
    }
}
