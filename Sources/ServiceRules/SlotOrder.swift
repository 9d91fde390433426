internal import NetworkAddresses
internal import Nftables

extension [Candidate] {
    /// The same endpoints, those that have a slot already in that slot, the others in the slots that are free.
    ///
    /// An endpoint that goes costs one element, for the last one moves into its slot; one that comes costs one element.
    /// The order follows from what the table holds and nothing else, so an agent that starts anew changes nothing.
    func arranged(after previous: [ElementKey]) -> [Candidate] {
        guard !previous.isEmpty, !elementsEqual(previous, by: { $0.data == $1 }) else { return self }
        var unplaced: [ElementKey: Int] = [:]
        for (index, candidate) in enumerated() { unplaced[candidate.data] = index }
        var slots = [Int?](repeating: nil, count: count)
        for (slot, target) in previous.prefix(count).enumerated() { slots[slot] = unplaced.removeValue(forKey: target) }
        var rest = unplaced.values.sorted()[...]
        return slots.map { self[$0 ?? rest.removeFirst()] }
    }
}

extension Ruleset {
    /// The targets that a frontend's slots hold, from the first slot of a group up to the first that is empty.
    func targets(of frontend: ElementKey, _ family: AddressFamily, from first: UInt32) -> [ElementKey] {
        guard let elements = sets[ServiceTable.endpoints(family)]?.elements, !elements.isEmpty else { return [] }
        var targets: [ElementKey] = []
        while case .data(let target)? = elements[
            ServiceTable.slot(first + UInt32(targets.count), of: frontend)]?.value
        { targets.append(target) }
        return targets
    }
}
