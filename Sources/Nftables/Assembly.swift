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
    /// The number of each object that contributes something: its place among the records, from 1.
    private var numbers: [Owner: UInt32] = [:]
    private var records: [Record?] = []
    private var freeNumbers: [UInt32] = []
    /// How many objects use each shared chain and set.
    private var users: [Part: Int] = [:]
    /// The claims on keys that more than one object wants; almost always empty.
    private var rivals: [Claim: [Owner: Element]] = [:]
    /// How many elements objects have in the frame's sets; those of sets of their own do not count.
    public private(set) var memberCount = 0
    /// Nil until changes are taken for the first time: until then, everything has changed.
    private var before: Before?

    private struct Claim: Hashable, Sendable {
        var set: String
        var key: ElementKey
    }

    /// What an object holds. Values stand in the table; only names are kept here.
    private struct Record: Sendable {
        let owner: Owner
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
    }

    /// Whose element stands under the key; nil where none does.
    public func holder(of key: ElementKey, in set: String) -> Owner? {
        ruleset.sets[set]?.elements[key].flatMap { $0.holder == 0 ? nil : owner($0.holder) }
    }

    /// All that claim the key.
    public func claimants(of key: ElementKey, in set: String) -> [Owner] {
        guard let holder = holder(of: key, in: set) else { return [] }
        guard !rivals.isEmpty, let rivals = rivals[Claim(set: set, key: key)] else { return [holder] }
        return Array(rivals.keys)
    }

    /// Whether some key is claimed with different values. Where owners are the parts of one plan, that is a mistake.
    public var isContested: Bool {
        rivals.values.contains { elements in Set(elements.values.map(\.value)).count > 1 }
    }

    /// What an object contributes at the moment; nil where that is nothing.
    public func contribution(of owner: Owner) -> Contribution? {
        guard let number = numbers[owner], let record = records[Int(number) - 1] else { return nil }
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
        guard let number = number(of: owner, isNeeded: !new.isEmpty) else { return }
        let old = records[Int(number) - 1]
        // New shared parts first: a part that both versions use is never dropped in between.
        for (name, chain) in new.chains { retainChain(name, chain) }
        for (name, set) in new.sets { retainSet(name, set) }
        let claims = new.members.map { Claim(set: $0.set, key: $0.element.key) }
        if let old, !old.claims.isEmpty, old.claims != claims {
            let kept = Set(claims)
            for claim in old.claims where !kept.contains(claim) { release(claim, by: owner) }
        }
        for index in claims.indices { take(new.members[index].element, claims[index], by: owner, number) }
        for name in old?.chains ?? [] { releaseChain(name) }
        for name in old?.sets ?? [] { releaseSet(name) }
        guard !new.isEmpty else {
            records[Int(number) - 1] = nil
            numbers[owner] = nil
            freeNumbers.append(number)
            return
        }
        records[Int(number) - 1] = Record(
            owner: owner, claims: claims, chains: Array(new.chains.keys), sets: Array(new.sets.keys))
    }

    /// The number of an object; one that has none gets one where that is needed.
    private mutating func number(of owner: Owner, isNeeded: Bool) -> UInt32? {
        if let number = numbers[owner] { return number }
        guard isNeeded else { return nil }
        if freeNumbers.isEmpty {
            records.append(nil)
            freeNumbers.append(UInt32(records.count))
        }
        let number = freeNumbers.removeLast()
        numbers[owner] = number
        return number
    }

    private func owner(_ number: UInt32) -> Owner { records[Int(number) - 1]!.owner }

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

    private mutating func take(_ element: Element, _ claim: Claim, by owner: Owner, _ number: UInt32) {
        var element = element
        element.holder = number
        if rivals.isEmpty || rivals[claim] == nil {
            let old = Self.occupy(&ruleset.sets[claim.set]!.elements[claim.key], element)
            guard let old, old.holder != number else {
                if old == nil { memberCount += 1 }
                note(old, insteadOf: element, claim)
                return
            }
            rivals[claim] = [self.owner(old.holder): old]
        }
        rivals[claim]![owner] = element
        settle(claim)
    }

    private mutating func release(_ claim: Claim, by owner: Owner) {
        guard !rivals.isEmpty, rivals[claim] != nil else {
            memberCount -= 1
            write(nil, claim)
            return
        }
        rivals[claim]![owner] = nil
        settle(claim)
        if rivals[claim]!.count == 1 { rivals[claim] = nil }
    }

    private mutating func settle(_ claim: Claim) {
        write(rivals[claim]!.min { $0.key < $1.key }!.value, claim)
    }

    /// Takes a place that is free or the element's holder's already; what was there in any case. The key is looked up
    /// only once.
    private static func occupy(_ place: inout Element?, _ element: Element) -> Element? {
        let old = place
        if old == nil || old!.holder == element.holder { place = element }
        return old
    }

    private mutating func write(_ element: Element?, _ claim: Claim) {
        note(Self.exchange(&ruleset.sets[claim.set]!.elements[claim.key], element), insteadOf: element, claim)
    }

    /// Remembers what stood in a place before the changes that have not been taken yet.
    private mutating func note(_ old: Element?, insteadOf new: Element?, _ claim: Claim) {
        guard before != nil, old != new, before!.elements[claim.set]?[claim.key] == nil else { return }
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
