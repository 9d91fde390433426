internal import KubernetesObjects
internal import NetworkAddresses

/// Which pods are in which groups.
///
/// Pods of one namespace with the same labels and ports are one *identity*, looked at once however many there are. A
/// group costs nothing unless a profile of this node refers to it.
struct Membership: Sendable {
    struct Group: Sendable {
        let peers: PeerGroup
        /// How many profiles refer to it.
        fileprivate(set) var users = 0
        fileprivate var isIndexed = false
        /// Of a group with a named port: how many members expose it as which number.
        fileprivate(set) var exposures: [Port: Int] = [:]

        fileprivate var isInUse: Bool { users > 0 }

        /// The ports of its numbers: none, or each that its named port is with some member.
        fileprivate var ports: [Port?] { peers.port == nil ? [nil] : Array(exposures.keys) }
    }

    /// A group that a pod is in; of a group with a named port, with the number that the pod gives to it.
    struct Place: Hashable, Sendable {
        var group: Int
        var port: Port?
    }

    struct IdentityKey: Hashable, Sendable {
        var namespace: String
        var labels: [String: String]
        var exposed: [PodFacts.ExposedPort]
    }

    private struct Identity: Sendable {
        let key: IdentityKey
        /// In the order of the groups' numbers here.
        var places: [Place] = []
        var pods: Set<MemberID> = []
    }

    private(set) var namespaces: [String: Namespace] = [:]
    private(set) var groups: [Int: Group] = [:]
    private var ids: [PeerGroup: Int] = [:]
    private var index = GroupIndex()
    private var identities: [Int: Identity] = [:]
    private var identityIDs: [IdentityKey: Int] = [:]
    private var identitiesByNamespace: [String: Set<Int>] = [:]
    /// What the kernel knows groups by.
    private var numbers: StableNumbers
    private var assigned: [Place: UInt32] = [:]
    private var touchedGroups: Set<Int> = []
    private var touchedIdentities: Set<Int> = []
    /// New groups, and those whose named port got a number more or less.
    private var unnumbered: Set<Int> = []
    private var lastID = 0

    init(bits: UInt32 = 32) { numbers = StableNumbers(bits: bits) }

    /// The namespace of that name; one that no object tells of has its name as its only label.
    func namespace(_ name: String) -> Namespace { namespaces[name] ?? Namespace(name: name) }

    mutating func setNamespace(_ name: String, to namespace: Namespace?) {
        let before = self.namespace(name)
        namespaces[name] = namespace
        guard before.labels != self.namespace(name).labels else { return }
        touchedIdentities.formUnion(identitiesByNamespace[name] ?? [])
    }

    // MARK: Groups

    /// Counts a profile that refers to the group.
    mutating func retain(_ peers: PeerGroup) {
        let id = ids[peers] ?? nextID()
        ids[peers] = id
        groups[id, default: Group(peers: peers)].users += 1
        touchedGroups.insert(id)
    }

    mutating func release(_ peers: PeerGroup) {
        guard let id = ids[peers] else { return }
        groups[id]?.users -= 1
        touchedGroups.insert(id)
    }

    /// Brings identities up to date with groups and namespaces that changed.
    ///
    /// - Returns: The pods whose groups are others now, and whether there are new groups.
    mutating func settle() -> (pods: Set<MemberID>, hasNewGroups: Bool) {
        let born = touchedGroups.filter { groups[$0]!.isInUse && !groups[$0]!.isIndexed }.sorted()
        let died = touchedGroups.filter { !groups[$0]!.isInUse && groups[$0]!.isIndexed }.sorted()
        for id in born {
            index.insert(id, groups[id]!.peers)
            groups[id]!.isIndexed = true
            for port in groups[id]!.ports { numbers.retain(groups[id]!.peers.text(exposedAs: port)) }
            unnumbered.insert(id)
        }
        for id in died {
            index.remove(id, groups[id]!.peers)
            for port in groups[id]!.ports {
                numbers.release(groups[id]!.peers.text(exposedAs: port))
                assigned[Place(group: id, port: port)] = nil
            }
        }
        var affected = touchedIdentities
        touchedIdentities = []
        affected.formUnion(identitiesConcerned(by: born, died))
        var pods: Set<MemberID> = []
        for identity in affected where update(identity) { pods.formUnion(identities[identity]!.pods) }
        for id in touchedGroups where !groups[id]!.isInUse { groups[id] = nil }
        touchedGroups = []
        return (pods, !born.isEmpty)
    }

    /// Forgets the groups that are no longer in use.
    ///
    /// Until then they keep their number here, by which rights know them.
    mutating func forgetUnused() { ids = ids.filter { groups[$0.value] != nil } }

    private func identitiesConcerned(by born: [Int], _ died: [Int]) -> Set<Int> {
        var concerned: Set<Int> = []
        if !died.isEmpty {
            let dead = Set(died)
            for (id, identity) in identities where identity.places.contains(where: { dead.contains($0.group) }) {
                concerned.insert(id)
            }
        }
        // Few groups look for their members; when there are many, the members find their groups through the index.
        guard born.count <= 8 else { return Set(identities.keys) }
        for peers in born.map({ groups[$0]!.peers }) {
            for (name, ids) in identitiesByNamespace where peers.covers(namespace(name)) {
                for id in ids where peers.pods.matches(identities[id]!.key.labels) { concerned.insert(id) }
            }
        }
        return concerned
    }

    // MARK: Identities

    /// Adds a pod, and says which identity it has.
    mutating func place(_ pod: MemberID, _ key: IdentityKey) -> Int {
        if let id = identityIDs[key] {
            identities[id]!.pods.insert(pod)
            return id
        }
        let id = nextID()
        identityIDs[key] = id
        identities[id] = Identity(key: key, pods: [pod])
        identitiesByNamespace[key.namespace, default: []].insert(id)
        _ = update(id)
        return id
    }

    mutating func remove(_ pod: MemberID, from id: Int) {
        identities[id]?.pods.remove(pod)
        guard let identity = identities[id], identity.pods.isEmpty else { return }
        identities[id] = nil
        identityIDs[identity.key] = nil
        identitiesByNamespace[identity.key.namespace]?.remove(id)
        if identitiesByNamespace[identity.key.namespace]?.isEmpty == true {
            identitiesByNamespace[identity.key.namespace] = nil
        }
    }

    func key(of identity: Int) -> IdentityKey { identities[identity]!.key }

    func places(of identity: Int) -> [Place] { identities[identity]!.places }

    /// Counts a pod's places in or out, so that it is known under which numbers the ports of groups are exposed.
    mutating func count(_ places: [Place], _ difference: Int) {
        for place in places {
            guard let port = place.port, let group = groups[place.group] else { continue }
            let count = group.exposures[port, default: 0] + difference
            groups[place.group]!.exposures[port] = count == 0 ? nil : count
            let text = group.peers.text(exposedAs: port)
            if count == difference {
                numbers.retain(text)
                unnumbered.insert(place.group)
            } else if count == 0 {
                numbers.release(text)
                assigned[place] = nil
                unnumbered.insert(place.group)
            }
        }
    }

    // MARK: Numbers

    /// Gives every group its number in the kernel.
    ///
    /// - Returns: The groups with other numbers than before, and whether these may be any groups: two that would have
    ///   had the same number came together or parted, which is rare enough to look at everything again.
    mutating func settleNumbers() -> (groups: Set<PeerGroup>, all: Bool) {
        let all = numbers.settle()
        let changed = unnumbered.filter { groups[$0] != nil }
        for id in all ? Set(groups.keys) : changed {
            for port in groups[id]!.ports {
                assigned[Place(group: id, port: port)] = numbers[groups[id]!.peers.text(exposedAs: port)]
            }
        }
        unnumbered = []
        return (Set(changed.map { groups[$0]!.peers }), all)
    }

    func number(of place: Place) -> UInt32 { assigned[place]! }

    func number(of peers: PeerGroup, as port: Port?) -> UInt32 { number(of: Place(group: ids[peers]!, port: port)) }

    /// The numbers that members of a group give to its port.
    func exposures(of peers: PeerGroup) -> [Port] {
        ids[peers].flatMap { groups[$0]?.exposures.keys.sorted() } ?? []
    }

    /// Finds an identity's groups anew; true where they are others than before.
    private mutating func update(_ id: Int) -> Bool {
        guard let identity = identities[id] else { return false }
        let namespace = namespace(identity.key.namespace)
        let found = index.candidates(namespace, identity.key.labels)
            .filter { groups[$0]!.peers.matches(namespace, identity.key.labels) }.sorted()
            .compactMap { id -> Place? in
                guard let port = groups[id]!.peers.port else { return Place(group: id) }
                return identity.key.exposed.number(of: port).map { Place(group: id, port: $0) }
            }
        guard found != identity.places else { return false }
        identities[id]!.places = found
        return true
    }

    private mutating func nextID() -> Int {
        lastID += 1
        return lastID
    }
}
