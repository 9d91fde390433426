/// What one object adds to a table: elements of standing sets, and chains and sets that others may share.
public struct Contribution: Hashable, Sendable {
    public var elements: [String: [Element]]
    /// Chains named by their content, so that equal names mean equal chains.
    public var chains: [String: Chain]
    /// Sets named by their content.
    public var sets: [String: NamedSet]

    public init(elements: [String: [Element]] = [:], chains: [String: Chain] = [:], sets: [String: NamedSet] = [:]) {
        self.elements = elements
        self.chains = chains
        self.sets = sets
    }

    public var isEmpty: Bool { elements.isEmpty && chains.isEmpty && sets.isEmpty }
}

/// A table put together from a frame and from what each object contributes, which knows what changed since it was
/// last asked.
///
/// The work of a change is proportional to the change: an object's old contribution is compared with its new one, and
/// nothing else is looked at. Shared chains and sets live from their first user to their last. Where two objects claim
/// one key with different values the lesser owner has it, whatever the order of events, and `contested` names it.
public struct Assembly<Owner: Hashable & Comparable & Sendable>: Sendable {
    /// The table as it should be.
    public private(set) var ruleset: Ruleset
    private var contributions: [Owner: Contribution] = [:]
    /// How many objects use each shared chain and set.
    private var users: [Part: Int] = [:]
    /// Further claims on a key than the first; almost always empty.
    private var claims: [Claim: [Owner: Element]] = [:]
    private var owners: [Claim: Owner] = [:]
    private var before = Before()

    private struct Claim: Hashable, Sendable {
        var set: String
        var key: ElementKey
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

    public init(frame: Ruleset) { ruleset = frame }

    public var count: Int { contributions.count }

    public func contribution(of owner: Owner) -> Contribution? { contributions[owner] }

    /// The owners whose claim on a key lost to another's, with what they claimed.
    public var contested: [(owner: Owner, set: String, element: Element, winner: Owner)] {
        claims.flatMap { claim, elements in
            let winner = owners[claim]!
            let winning = ruleset.sets[claim.set]?.elements[claim.key]
            return elements.filter { $0.key != winner && $0.value.value != winning?.value }
                .map { (owner: $0.key, set: claim.set, element: $0.value, winner: winner) }
        }.sorted { ($0.owner, $0.set, $0.element.key) < ($1.owner, $1.set, $1.element.key) }
    }

    /// Replaces what an object contributes; nil when it is gone.
    public mutating func set(_ contribution: Contribution?, for owner: Owner) {
        let new = contribution.flatMap { $0.isEmpty ? nil : $0 }
        let old = contributions[owner]
        guard old != new else { return }
        contributions[owner] = new
        // New shared parts first: a part that both versions use is never dropped in between.
        for (name, chain) in new?.chains ?? [:] { retainChain(name, chain) }
        for (name, set) in new?.sets ?? [:] { retainSet(name, set) }
        for (set, elements) in old?.elements ?? [:] {
            let kept = new?.elements[set].map { Set($0.map(\.key)) } ?? []
            for element in elements where !kept.contains(element.key) { release(element.key, in: set, by: owner) }
        }
        for (set, elements) in new?.elements ?? [:] {
            for element in elements { claim(element, in: set, by: owner) }
        }
        for name in old?.chains.keys ?? [:].keys { releaseChain(name) }
        for name in old?.sets.keys ?? [:].keys { releaseSet(name) }
    }

    /// Replaces a chain of the frame, such as the one that holds the current policy epoch.
    public mutating func setFrameChain(_ name: String, _ chain: Chain) {
        touchChain(name)
        ruleset.chains[name] = chain
    }

    /// The edits since the last call, in the kernel's order. The caller sees to it that they reach the kernel.
    public mutating func takeChanges() -> [Change] {
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
        before = Before()
        return list.changes
    }

    // MARK: Elements

    private mutating func claim(_ element: Element, in set: String, by owner: Owner) {
        let claim = Claim(set: set, key: element.key)
        guard let holder = owners[claim] else {
            owners[claim] = owner
            write(element, key: element.key, in: set)
            return
        }
        if var others = claims[claim] {
            others[owner] = element
            claims[claim] = others
        } else if holder != owner {
            claims[claim] = [holder: ruleset.sets[set]!.elements[element.key]!, owner: element]
        } else {
            write(element, key: element.key, in: set)
            return
        }
        settle(claim)
    }

    private mutating func release(_ key: ElementKey, in set: String, by owner: Owner) {
        let claim = Claim(set: set, key: key)
        guard var others = claims[claim] else {
            owners[claim] = nil
            write(nil, key: key, in: set)
            return
        }
        others[owner] = nil
        claims[claim] = others
        settle(claim)
        if others.count == 1 { claims[claim] = nil }
    }

    private mutating func settle(_ claim: Claim) {
        let (winner, element) = claims[claim]!.min { $0.key < $1.key }!
        owners[claim] = winner
        write(element, key: claim.key, in: claim.set)
    }

    private mutating func write(_ element: Element?, key: ElementKey, in set: String) {
        let old = ruleset.sets[set]?.elements[key]
        guard old != element else { return }
        if before.elements[set]?[key] == nil { _ = before.elements[set, default: [:]].updateValue(old, forKey: key) }
        ruleset.sets[set]?.elements[key] = element
    }

    // MARK: Shared chains and sets

    private mutating func touchChain(_ name: String) {
        if before.chains[name] == nil { before.chains.updateValue(ruleset.chains[name], forKey: name) }
    }

    private mutating func retainChain(_ name: String, _ chain: Chain) {
        users[.chain(name), default: 0] += 1
        guard ruleset.chains[name] == nil else { return }
        touchChain(name)
        ruleset.chains[name] = chain
    }

    private mutating func releaseChain(_ name: String) {
        guard forget(.chain(name)) else { return }
        touchChain(name)
        ruleset.chains[name] = nil
    }

    private mutating func retainSet(_ name: String, _ set: NamedSet) {
        users[.set(name), default: 0] += 1
        guard ruleset.sets[name] == nil else { return }
        if before.sets[name] == nil { before.sets.updateValue(nil, forKey: name) }
        ruleset.sets[name] = set
    }

    private mutating func releaseSet(_ name: String) {
        guard forget(.set(name)) else { return }
        if before.sets[name] == nil { before.sets.updateValue(ruleset.sets[name], forKey: name) }
        ruleset.sets[name] = nil
    }

    /// Takes one user off; true when it was the last.
    private mutating func forget(_ part: Part) -> Bool {
        let count = users[part, default: 1] - 1
        users[part] = count == 0 ? nil : count
        return count == 0
    }
}
