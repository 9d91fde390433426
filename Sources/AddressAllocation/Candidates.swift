public import NetworkAddresses

extension RangeSet {
    /// The addresses of the set in the order in which to try them: round robin from the one after `last`.
    ///
    /// So an address that was freed just now is the last to be handed out again. Where `last` is in no range (none yet,
    /// or the ranges were changed) the order starts at the first range.
    public func candidates(after last: IPAddress?) -> Candidates { Candidates(of: self, after: last) }
}

/// Every address that a set can hand out, once, in the order in which to try them.
public struct Candidates: Sequence, IteratorProtocol, Sendable {
    private let set: RangeSet
    private var position: Position
    /// Where the walk began: the walk ends before it comes here again.
    private let start: Position
    private var isAtStart = true

    fileprivate struct Position: Equatable {
        var range: Int
        var address: IPAddress
    }

    init(of set: RangeSet, after last: IPAddress?) {
        self.set = set
        if let last, let range = set.ranges.firstIndex(where: { $0.contains(last) }) {
            start = set.position(after: Position(range: range, address: last))
        } else {
            start = Position(range: 0, address: set.ranges[0].first)
        }
        position = start
    }

    public mutating func next() -> IPAddress? {
        while isAtStart || position != start {
            isAtStart = false
            let found = position
            position = set.position(after: found)
            if found.address != set.ranges[found.range].gateway { return found.address }
        }
        return nil
    }
}

extension RangeSet {
    fileprivate func position(after position: Candidates.Position) -> Candidates.Position {
        if position.address < ranges[position.range].last, let next = position.address.advanced(by: 1) {
            return .init(range: position.range, address: next)
        }
        let range = (position.range + 1) % ranges.count
        return .init(range: range, address: ranges[range].first)
    }
}
