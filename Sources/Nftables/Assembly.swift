/// What one object adds to a table: elements of standing sets, and chains and sets that others may share.
public struct Contribution: Hashable, Sendable {
    /// An element of one of the frame's sets.
    public struct Member: Hashable, Sendable {
        public var set: String
        public var element: Element

        public init(_ element: Element, in set: String) {
            self.set = set
            self.element = element
        }
    }

    public var members: [Member]
    /// Chains named by their content, so that equal names mean equal chains.
    public var chains: [String: Chain]
    /// Sets named by their content.
    public var sets: [String: NamedSet]

    public init(members: [Member] = [], chains: [String: Chain] = [:], sets: [String: NamedSet] = [:]) {
        self.members = members
        self.chains = chains
        self.sets = sets
    }

    public var isEmpty: Bool { members.isEmpty && chains.isEmpty && sets.isEmpty }
}

/// A table put together from a frame and from what each object contributes, which knows what changed since it was
/// last asked.
///
/// The work of a change is proportional to the change: an object's old contribution is compared with its new one, and
/// nothing else is looked at. Shared chains and sets live from their first user to their last. Where two objects claim
/// one key with different values the lesser owner has it, whatever the order of events.
public struct Assembly<Owner: Hashable & Comparable & Sendable>: Sendable {
    /// The table as it should be.
    public private(set) var ruleset: Ruleset
    private var records: [Owner: Record] = [:]
    /// How many objects use each shared chain and set.
    private var users: [Part: Int] = [:]
    /// Who holds each key, by set. Not part of the element: two objects may hold equal elements.
    private var holders: [String: [ElementKey: Owner]]
    /// The claims on keys that more than one object wants; almost always empty.
    private var rivals: [Claim: [Owner: Element]] = [:]
    /// Nil until changes are taken for the first time: until then, everything has changed.
    private var before: Before?

    private struct Claim: Hashable, Sendable {
        var set: String
        var key: ElementKey
    }

    /// What an object holds. Values stand in the table; only names are kept here.
    private struct Record: Sendable {
        var claims: [Claim]
        var chains: [String]
        var sets: [String]
    }

    private enum Part: Hashable, Sendable {
        case chain(String)
        case set(String)
    }

    /// What the touched parts were when changes were last taken.
    private struct Before: Sendable {
        var elements: [String: [ElementKey: Element?]] = [:]
        var chains: [String: Chain?] = [:]
        var sets: [String: NamedSet?] = [:]
    }

    public init(frame: Ruleset) {
        ruleset = frame
        holders = frame.sets.mapValues { _ in [:] }
    }

    /// Whose element stands under the key; nil where none does.
    public func holder(of key: ElementKey, in set: String) -> Owner? { holders[set]?[key] }

    /// All that claim the key.
    public func claimants(of key: ElementKey, in set: String) -> [Owner] {
        guard let holder = holders[set]?[key] else { return [] }
        guard !rivals.isEmpty, let rivals = rivals[Claim(set: set, key: key)] else { return [holder] }
        return Array(rivals.keys)
    }

    /// Whether some key is claimed with different values. Where owners are the parts of one plan, that is a mistake.
    public var isContested: Bool {
        rivals.values.contains { elements in Set(elements.values.map(\.value)).count > 1 }
    }

    /// How many elements objects have in the frame's sets; those of sets of their own do not count.
    public var memberCount: Int { holders.values.reduce(0) { $0 + $1.count } }

    /// What an object contributes at the moment; nil where that is nothing.
    public func contribution(of owner: Owner) -> Contribution? {
        guard let record = records[owner] else { return nil }
        var contribution = Contribution()
        contribution.members = record.claims.compactMap { claim in
            let element = rivals[claim]?[owner] ?? ruleset.sets[claim.set]?.elements[claim.key]
            return element.map { Contribution.Member($0, in: claim.set) }
        }
        for name in record.chains { contribution.chains[name] = ruleset.chains[name] }
        for name in record.sets { contribution.sets[name] = ruleset.sets[name] }
        return contribution
    }

    /// Replaces what an object contributes; nil when it is gone.
    public mutating func set(_ contribution: Contribution?, for owner: Owner) {
        let new = contribution ?? Contribution()
        let old = records[owner]
        // New shared parts first: a part that both versions use is never dropped in between.
        for (name, chain) in new.chains { retainChain(name, chain) }
        for (name, set) in new.sets { retainSet(name, set) }
        let claims = new.members.map { Claim(set: $0.set, key: $0.element.key) }
        if let old, !old.claims.isEmpty, old.claims != claims {
            let kept = Set(claims)
            for claim in old.claims where !kept.contains(claim) { release(claim, by: owner) }
        }
        for (member, claim) in zip(new.members, claims) { take(member.element, claim, by: owner) }
        for name in old?.chains ?? [] { releaseChain(name) }
        for name in old?.sets ?? [] { releaseSet(name) }
        records[owner] =
            new.isEmpty ? nil : Record(claims: claims, chains: Array(new.chains.keys), sets: Array(new.sets.keys))
    }

    /// Replaces a chain of the frame, such as the one that holds the current policy epoch.
    public mutating func setFrameChain(_ name: String, _ chain: Chain) {
        touchChain(name)
        ruleset.chains[name] = chain
    }

    /// Takes the table as it is for what the kernel will hold, whatever was changed.
    public mutating func settle() { before = Before() }

    /// The edits since the last call, in the kernel's order; at first, all that it takes to make the table.
    ///
    /// The caller sees to it that they reach the kernel.
    public mutating func takeChanges() -> [Change] {
        defer { before = Before() }
        guard let before else { return ruleset.creation }
        var list = ChangeList()
        for (name, old) in before.sets.sorted(by: { $0.key < $1.key }) {
            list.changeSet(name, from: old, to: ruleset.sets[name])
        }
        for (set, elements) in before.elements.sorted(by: { $0.key < $1.key }) where before.sets[set] == nil {
            let current = ruleset.sets[set]?.elements ?? [:]
            let changed = elements.filter { $0.value != current[$0.key] }
            list.changeElements(
                of: set, from: changed.values.compactMap(\.self), to: changed.keys.compactMap { current[$0] })
        }
        for (name, old) in before.chains.sorted(by: { $0.key < $1.key }) {
            list.changeChain(name, from: old, to: ruleset.chains[name])
        }
        return list.changes
    }

    // MARK: Elements

    private mutating func take(_ element: Element, _ claim: Claim, by owner: Owner) {
        precondition(holders[claim.set] != nil, "the frame has no set \(claim.set)")
        guard let holder = Self.occupy(&holders[claim.set]![claim.key], by: owner) else {
            write(element, claim)
            return
        }
        if rivals[claim] != nil {
            rivals[claim]![owner] = element
        } else if holder != owner {
            rivals[claim] = [holder: ruleset.sets[claim.set]!.elements[claim.key]!, owner: element]
        } else {
            write(element, claim)
            return
        }
        settle(claim)
    }

    private mutating func release(_ claim: Claim, by owner: Owner) {
        guard rivals[claim] != nil else {
            holders[claim.set]![claim.key] = nil
            write(nil, claim)
            return
        }
        rivals[claim]![owner] = nil
        settle(claim)
        if rivals[claim]!.count == 1 { rivals[claim] = nil }
    }

    private mutating func settle(_ claim: Claim) {
        let (winner, element) = rivals[claim]!.min { $0.key < $1.key }!
        holders[claim.set]![claim.key] = winner
        write(element, claim)
    }

    /// Takes a place that is free; who has it where it is not. The key is looked up only once.
    private static func occupy(_ place: inout Owner?, by owner: Owner) -> Owner? {
        if let place { return place }
        place = owner
        return nil
    }

    private mutating func write(_ element: Element?, _ claim: Claim) {
        let old = Self.exchange(&ruleset.sets[claim.set]!.elements[claim.key], element)
        guard before != nil, old != element, before!.elements[claim.set]?[claim.key] == nil else { return }
        _ = before!.elements[claim.set, default: [:]].updateValue(old, forKey: claim.key)
    }

    private static func exchange(_ place: inout Element?, _ new: Element?) -> Element? {
        defer { place = new }
        return place
    }

    // MARK: Shared chains and sets

    private mutating func touchChain(_ name: String) {
        if before?.chains[name] == nil { before?.chains.updateValue(ruleset.chains[name], forKey: name) }
    }

    private mutating func retainChain(_ name: String, _ chain: Chain) {
        users[.chain(name), default: 0] += 1
        // Its only user may have another comment on it now.
        guard ruleset.chains[name] != chain else { return }
        touchChain(name)
        ruleset.chains[name] = chain
    }

    private mutating func releaseChain(_ name: String) {
        guard forget(.chain(name)) else { return }
        touchChain(name)
        ruleset.chains[name] = nil
    }

    private mutating func touchSet(_ name: String) {
        if before?.sets[name] == nil { before?.sets.updateValue(ruleset.sets[name], forKey: name) }
    }

    private mutating func retainSet(_ name: String, _ set: NamedSet) {
        users[.set(name), default: 0] += 1
        guard ruleset.sets[name] != set else { return }
        touchSet(name)
        ruleset.sets[name] = set
    }

    private mutating func releaseSet(_ name: String) {
        guard forget(.set(name)) else { return }
        touchSet(name)
        ruleset.sets[name] = nil
    }

    /// Takes one user off; true when it was the last.
    private mutating func forget(_ part: Part) -> Bool {
        let count = users[part, default: 1] - 1
        users[part] = count == 0 ? nil : count
        return count == 0
    }
}
