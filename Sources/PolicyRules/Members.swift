internal import NetworkAddresses

/// A member's place in `Members`: a small number where a name would be hashed again and again.
typealias MemberID = Int

/// A pod or a container, and what was last made of it.
struct Member: Sendable {
    let owner: PolicyOwner
    /// Nil while only an attachment tells of the pod.
    var pod: PodFacts?
    var attached: [IPAddress] = []
    /// The addresses it says it has.
    var claimed: [IPAddress] = []
    var identity: Int?
    /// As of the last update.
    var standing = Standing()
    var contributes = false

    /// What an address stands for.
    struct Standing: Sendable {
        /// The addresses it has: those it claims and nobody has a better claim on.
        var held: [IPAddress] = []
        /// Those of them that are on this node.
        var local: [IPAddress] = []
        var places: [Membership.Place] = []
        var egress = Isolation.open
        var ingress = Isolation.open
    }

    var addresses: [IPAddress] {
        guard let pod else { return attached }
        if pod.standing == .ended { return [] }
        return attached.isEmpty ? pod.addresses : attached + pod.addresses.filter { !attached.contains($0) }
    }

    func isLocal(_ address: IPAddress) -> Bool { pod?.isOnThisNode == true || attached.contains(address) }
}

/// Everyone who has addresses or may get some.
struct Members: Sendable {
    private var ids: [PolicyOwner: MemberID] = [:]
    private var slots: [Member] = []
    private var free: [MemberID] = []

    subscript(_ id: MemberID) -> Member {
        get { slots[id] }
        _modify { yield &slots[id] }
    }

    func id(of owner: PolicyOwner) -> MemberID? { ids[owner] }

    var all: some Sequence<MemberID> { ids.values }

    /// The member of that name, made where there is none.
    mutating func insert(_ owner: PolicyOwner) -> MemberID {
        if let id = ids[owner] { return id }
        let id = free.popLast() ?? slots.count
        if id == slots.count { slots.append(Member(owner: owner)) } else { slots[id] = Member(owner: owner) }
        ids[owner] = id
        return id
    }

    mutating func remove(_ id: MemberID) {
        ids[slots[id].owner] = nil
        slots[id] = Member(owner: slots[id].owner)
        free.append(id)
    }
}
