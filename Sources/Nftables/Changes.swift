/// One edit of a table, in the order in which the kernel must see them.
public enum Change: Hashable, Sendable {
    /// Creates the table, or takes it over from a process of ours that is gone.
    case addTable
    /// Removes the table and everything in it.
    case removeTable
    case addSet(String, SetDefinition)
    case addChain(String, hook: Hook?, comment: String?)
    case removeElements([Element], set: String)
    case addElements([Element], set: String)
    /// Empties the chain and writes these rules.
    case replaceRules([Rule], chain: String)
    case removeChain(String)
    case removeSet(String)

    /// What the change is about, for errors: `element 10.96.0.10 . tcp . 80 of frontends4`.
    public var summary: String {
        switch self {
        case .addTable, .removeTable: "table"
        case .addSet(let name, _), .removeSet(let name): "set \(name)"
        case .addChain(let name, _, _), .removeChain(let name): "chain \(name)"
        case .removeElements(let elements, let set), .addElements(let elements, let set):
            elements.count == 1
                ? "element \(elements[0].comment.map { "(\($0)) " } ?? "")of set \(set)"
                : "\(elements.count) elements of set \(set)"
        case .replaceRules(_, let chain): "rules of chain \(chain)"
        }
    }
}

/// Collects edits in any order and hands them out in the one that the kernel accepts.
///
/// Sets come before what looks into them and chains before what leads to them; elements are removed before others
/// are added, so that one key can change its value; chains and sets go last, when nothing points there any more.
struct ChangeList {
    private var setsAdded: [Change] = []
    private var chainsAdded: [Change] = []
    private var elementsRemoved: [Change] = []
    private var elementsAdded: [Change] = []
    private var rulesReplaced: [Change] = []
    private var chainsRemoved: [Change] = []
    private var setsRemoved: [Change] = []

    var changes: [Change] {
        setsAdded + chainsAdded + elementsRemoved + elementsAdded + rulesReplaced + chainsRemoved + setsRemoved
    }

    mutating func changeSet(_ name: String, from old: NamedSet?, to new: NamedSet?) {
        guard old?.definition == new?.definition else {
            // The definition of a set is fixed, and rules may be looking at the old one: a new shape is a new name.
            if let old {
                precondition(new == nil, "set \(name) changes its definition from \(old.definition)")
                // A map holds on to the chains it leads to until its elements are gone, and chains go before sets.
                if old.definition.data == .verdict {
                    changeElements(of: name, from: Array(old.elements.values), to: [])
                }
                setsRemoved.append(.removeSet(name))
            }
            if let new {
                setsAdded.append(.addSet(name, new.definition))
                changeElements(of: name, from: [], to: Array(new.elements.values))
            }
            return
        }
        guard let old, let new, old.elements != new.elements else { return }
        changeElements(
            of: name, from: old.elements.values.filter { new.elements[$0.key] != $0 },
            to: new.elements.values.filter { old.elements[$0.key] != $0 })
    }

    mutating func changeElements(of set: String, from old: [Element], to new: [Element]) {
        if !old.isEmpty { elementsRemoved.append(.removeElements(old, set: set)) }
        if !new.isEmpty { elementsAdded.append(.addElements(new, set: set)) }
    }

    mutating func changeChain(_ name: String, from old: Chain?, to new: Chain?) {
        guard let new else {
            guard let old else { return }
            // A chain can only go when its own rules no longer lead anywhere either.
            if !old.rules.isEmpty { rulesReplaced.append(.replaceRules([], chain: name)) }
            chainsRemoved.append(.removeChain(name))
            return
        }
        if old == nil { chainsAdded.append(.addChain(name, hook: new.hook, comment: new.comment)) }
        if old?.rules ?? [] != new.rules { rulesReplaced.append(.replaceRules(new.rules, chain: name)) }
    }
}

extension Ruleset {
    /// The edits that turn this table, as it is in the kernel, into the other. Nothing when they are equal.
    ///
    /// A base chain whose hook differs, and a set whose definition does, cannot be edited; then the table is made
    /// anew, in the same transaction.
    public func changes(to other: Ruleset) -> [Change] {
        guard isEditable(into: other) else { return [.removeTable] + other.creation }
        var list = ChangeList()
        for name in Set(sets.keys).union(other.sets.keys).sorted() {
            list.changeSet(name, from: sets[name], to: other.sets[name])
        }
        for name in other.chainOrder + chains.keys.filter({ other.chains[$0] == nil }).sorted() {
            list.changeChain(name, from: chains[name], to: other.chains[name])
        }
        return list.changes
    }

    /// Whether edits alone lead to the other table.
    private func isEditable(into other: Ruleset) -> Bool {
        other.sets.allSatisfy { sets[$0.key] == nil || sets[$0.key]!.definition == $0.value.definition }
            && other.chains.allSatisfy { chains[$0.key] == nil || chains[$0.key]!.hook == $0.value.hook }
    }

    /// The edits that make the table from nothing.
    public var creation: [Change] { [.addTable] + Ruleset(table).changes(to: self) }

    /// Carries out an edit on the value, as the kernel would on the table.
    public mutating func apply(_ change: Change) {
        switch change {
        case .addTable: break
        case .removeTable: (sets, chains) = ([:], [:])
        case .addSet(let name, let definition): sets[name] = NamedSet(definition)
        case .removeSet(let name): sets[name] = nil
        case .addChain(let name, let hook, let comment):
            if chains[name] == nil { chains[name] = Chain(hook: hook, comment: comment, []) }
        case .removeChain(let name): chains[name] = nil
        case .replaceRules(let rules, let chain): chains[chain]?.rules = rules
        case .removeElements(let elements, let set): for element in elements { sets[set]?.elements[element.key] = nil }
        case .addElements(let elements, let set):
            for element in elements { sets[set]?.elements[element.key] = element }
        }
    }
}
