internal import KubernetesObjects
internal import NetworkAddresses

/// Who has an address, where two say they do.
///
/// An address that one pod gives up and the next one takes stands with both for a while. The pod that is there is
/// found from what they say of themselves and not from who spoke last, so that a restart comes to the same answer.
struct AddressClaims: Sendable {
    /// Greater claims win.
    struct Claim: Comparable, Sendable {
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

    private var holders: [IPAddress: MemberID] = [:]
    /// Claims that lost; almost always none.
    private var others: [IPAddress: [MemberID]] = [:]

    func holder(of address: IPAddress) -> MemberID? { holders[address] }

    /// Addresses that more than one claims, with who has it and who has not.
    var contested: [(address: IPAddress, holder: MemberID, others: [MemberID])] {
        others.keys.sorted().map { ($0, holders[$0]!, others[$0]!) }
    }

    /// Sets or withdraws a member's claim, or looks at it again after the member changed.
    mutating func set(_ isClaimed: Bool, on address: IPAddress, by member: MemberID, among members: Members) {
        let holder = holders[address]
        guard let holder, holder != member || others[address] != nil else {
            if isClaimed != (holder != nil) { holders[address] = isClaimed ? member : nil }
            return
        }
        var all = ((others[address] ?? []) + [holder]).filter { $0 != member }
        if isClaimed { all.append(member) }
        all.sort { members[$0].claim(on: address) < members[$1].claim(on: address) }
        holders[address] = all.popLast()
        others[address] = all.isEmpty ? nil : all
    }
}

extension Member {
    fileprivate func claim(on address: IPAddress) -> AddressClaims.Claim {
        AddressClaims.Claim(
            isAttached: attached.contains(address), isTerminating: pod?.isTerminating ?? false, created: pod?.created,
            owner: owner)
    }
}
