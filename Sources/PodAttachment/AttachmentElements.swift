public import NetworkAddresses
public import Nftables

/// A port of the node is another attachment's.
public struct ClaimedElement: Error, Hashable, Sendable {
    public var set: String
    public var element: Element
    /// What holds the key now.
    public var holder: Element
}

/// Edits of a table that holds something for each attachment.
///
/// Plugins run in processes of their own, many at a time, and none of them owns the table: each reads it and sends one
/// batch, and the kernel refuses a batch that collides with another's.
extension Ruleset {
    /// The edits that add an attachment's part to the table as it was observed; `self` is the frame.
    ///
    /// What the table lacks of the frame is added as well. An element that is the attachment's already makes room.
    ///
    /// - Parameters:
    ///   - dead: the comments of attachments that are no more; everything of theirs is removed.
    ///   - observed: the table as the kernel has it, with at least the elements of the part's keys.
    public func adding(
        _ part: Contribution, of tag: AttachmentTag, replacing dead: Set<String> = [], to observed: Ruleset?
    ) throws(ClaimedElement) -> [Change] {
        var changes: [Change] = []
        if let observed {
            // What others share stays.
            let others = observed.chains.filter { chains[$0.key] == nil }
            let otherSets = observed.sets.filter { sets[$0.key] == nil }
            let bare = Ruleset(
                table, sets: observed.sets.mapValues { NamedSet($0.definition) }, chains: observed.chains)
            let whole = Ruleset(
                table, sets: sets.merging(otherSets.mapValues { NamedSet($0.definition) }) { $1 },
                chains: chains.merging(others) { $1 })
            changes = bare.changes(to: whole)
        } else {
            changes = creation
        }
        // Not where they are there already: a batch that takes rules out waits until no packet is in them, for longer
        // than all of the rest takes. Where another process removes one as unused at this moment, the kernel refuses
        // the element that leads there, and the next look decides.
        for (name, chain) in part.chains.sorted(by: { $0.key < $1.key }) where observed?.chains[name] != chain {
            changes += [
                .addChain(name, hook: chain.hook, comment: chain.comment), .replaceRules(chain.rules, chain: name),
            ]
        }
        let isDead = { (comment: String?) in comment.map(dead.contains) ?? false }
        if !dead.isEmpty { changes += observed?.removing(where: isDead) ?? [] }
        var (removed, added): ([String: [Element]], [String: [Element]]) = ([:], [:])
        for member in part.members {
            let present = observed?.sets[member.set]?.elements[member.element.key]
            if let present, !isDead(present.comment) {
                // A key of the pod's own address is the pod's; a port is whose it was first.
                if member.isHeld(by: present, for: tag) { continue }
                guard !member.isClaim || tag.isSameAttachment(as: present.comment) else {
                    throw ClaimedElement(set: member.set, element: member.element, holder: present)
                }
                removed[member.set, default: []].append(present)
            }
            added[member.set, default: []].append(member.element)
        }
        changes += removed.sorted { $0.key < $1.key }.map { .removeElements($0.value, set: $0.key) }
        changes += added.sorted { $0.key < $1.key }.map { .addElements($0.value, set: $0.key) }
        return changes
    }

    /// The edits that remove the elements which `isGone` says so of, by their comments; `self` is the table as observed.
    public func removing(where isGone: (String?) -> Bool) -> [Change] {
        sets.sorted { $0.key < $1.key }.compactMap { name, set in
            let gone = set.elements.values.filter { isGone($0.comment) }.sorted { $0.key < $1.key }
            return gone.isEmpty ? nil : .removeElements(gone, set: name)
        }
    }

    /// The chains that neither the frame has nor any element leads to.
    public func unusedChains(frame: Ruleset) -> [String] {
        var used = Set(frame.chains.keys)
        for element in sets.values.flatMap(\.elements.values) {
            switch element.value {
            case .verdict(let verdict): if let chain = verdict.target { used.insert(chain) }
            case .data, nil: break
            }
        }
        return chains.keys.filter { !used.contains($0) }.sorted()
    }
}

extension Contribution.Member {
    /// Whether the key is one that attachments may dispute: a port of the node.
    var isClaim: Bool { if case .data? = element.value { true } else { false } }

    /// Whether the table holds the member with `present`: the element itself, or one that leads to the same container
    /// by way of another network, which came first.
    public func isHeld(by present: Element, for tag: AttachmentTag) -> Bool {
        if present == element { return true }
        return isClaim && !tag.isSameAttachment(as: present.comment) && tag.isSameContainer(as: present.comment)
    }
}

extension HostPortTable {
    /// The comments of attachments other than this one whose ports lead to one of these addresses.
    ///
    /// The addresses are this attachment's now, so the others are gone and their DEL never came.
    public static func formerHolders(
        of addresses: [IPPrefix], in observed: Ruleset?, besides tag: AttachmentTag
    ) -> Set<String> {
        let bytes = Set(addresses.map(\.address.bytes))
        var comments: Set<String> = []
        for element in observed?.sets.values.flatMap(\.elements.values) ?? [] {
            guard case .data(let target)? = element.value, let comment = element.comment,
                !tag.isSameAttachment(as: comment), bytes.contains(Array(target.bytes.dropLast(4)))
            else { continue }
            comments.insert(comment)
        }
        return comments
    }
}
