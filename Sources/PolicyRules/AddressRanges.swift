internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// Addresses of one family, as ranges in order that neither overlap nor touch: what the kernel's interval sets take.
struct AddressRanges: Hashable, Sendable {
    let family: AddressFamily
    let ranges: [ClosedRange<UInt128>]

    /// The addresses of a block without its exceptions.
    ///
    /// Exceptions of the other family say nothing about this one.
    init(_ block: IPBlock) {
        family = block.cidr.family
        let exceptions = block.except.filter { $0.family == block.cidr.family && $0.overlaps(block.cidr) }
            .map(\.numbers).sorted { $0.lowerBound < $1.lowerBound }
        var ranges: [ClosedRange<UInt128>] = []
        /// Where what is left begins; nil past the block's end.
        var start: UInt128? = block.cidr.numbers.lowerBound
        let end = block.cidr.numbers.upperBound
        for exception in exceptions {
            guard let from = start else { break }
            if exception.lowerBound > from { ranges.append(from...exception.lowerBound - 1) }
            if exception.upperBound >= end { start = nil } else { start = max(from, exception.upperBound + 1) }
        }
        if let start { ranges.append(start...end) }
        self.ranges = ranges
    }

    var isEmpty: Bool { ranges.isEmpty }

    /// The prefix that holds exactly these addresses, where there is one: a comparison instead of a set.
    var prefix: IPPrefix? {
        guard ranges.count == 1, let range = ranges.first,
            let address = IPAddress(number: range.lowerBound, family: family)
        else { return nil }
        // A prefix's first and last address differ in its host bits, and in all of them.
        let host = range.lowerBound ^ range.upperBound
        guard host & (host &+ 1) == 0, range.lowerBound & host == 0 else { return nil }
        return IPPrefix(address, length: family.bitWidth - (128 - host.leadingZeroBitCount))
    }

    /// Whether every address of the other is in here.
    func contains(_ other: AddressRanges) -> Bool {
        family == other.family
            && other.ranges.allSatisfy { range in
                ranges.contains { $0.lowerBound <= range.lowerBound && $0.upperBound >= range.upperBound }
            }
    }

    /// What the set that holds them is named by.
    var text: String {
        bounds.map { "\($0.first)-\($0.last)" }.joined(separator: ",")
    }

    var namedSet: NamedSet {
        NamedSet(
            SetDefinition(key: [.address(family)], isInterval: true),
            bounds.map { Element(ElementKey(.address($0.first)), through: ElementKey(.address($0.last))) })
    }

    private var bounds: [(first: IPAddress, last: IPAddress)] {
        ranges.compactMap { range in
            guard let first = IPAddress(number: range.lowerBound, family: family),
                let last = IPAddress(number: range.upperBound, family: family)
            else { return nil }
            return (first, last)
        }
    }
}

extension IPPrefix {
    fileprivate var numbers: ClosedRange<UInt128> { first.number...last.number }
}
