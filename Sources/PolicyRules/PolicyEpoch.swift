public import Nftables

/// The age of the policy that a connection was last judged by, kept in a field of its conntrack mark.
///
/// Packets of a connection that carries the current epoch pass without a look at the rules. Swapping the epoch makes
/// every connection be judged again at its next packet: those that are still allowed go on unbroken, and denied ones
/// stop, whichever side speaks next.
public struct PolicyEpoch: Hashable, Sendable {
    /// The bits of the mark that are the field.
    ///
    /// High bits, because other programs that mark connections use low ones.
    public let mask: UInt32
    /// 1 and up; 0 is the field of a connection that was never judged.
    public let number: UInt32

    public static let defaultMask: UInt32 = 0x0ff0_0000

    /// Nil where the mask is not one run of at least two bits, or the number does not fit.
    public init?(_ number: UInt32, mask: UInt32 = defaultMask) {
        guard mask.nonzeroBitCount > 1,
            mask.nonzeroBitCount + mask.leadingZeroBitCount + mask.trailingZeroBitCount == 32,
            (1...mask >> UInt32(mask.trailingZeroBitCount)).contains(number)
        else { return nil }
        self.mask = mask
        self.number = number
    }

    private init(unchecked number: UInt32, mask: UInt32) {
        self.number = number
        self.mask = mask
    }

    /// The highest number that fits.
    private var highest: UInt32 { mask >> UInt32(mask.trailingZeroBitCount) }

    /// The epoch that follows.
    public var next: PolicyEpoch { PolicyEpoch(unchecked: number == highest ? 1 : number + 1, mask: mask) }

    /// All numbers of the field.
    public var all: ClosedRange<UInt32> { 1...highest }

    /// The numbers that come round again from this epoch on; nil where this one begins nothing.
    ///
    /// A connection that rested all the while may still carry one of them, and would pass unjudged when its number is
    /// in force again: the field is to be cleared in those before this epoch begins. Half of the numbers at a time, so
    /// that the epoch in force, which connections go on to be stamped with, is never among them.
    public var reused: ClosedRange<UInt32>? {
        let middle = highest / 2 + 1
        return switch number {
        case 1: 1...middle - 1
        case middle: middle...highest
        default: nil
        }
    }

    /// The number in the field of a connection's mark; 0 where it was never judged.
    public func number(in mark: UInt32) -> UInt32 { (mark & mask) >> UInt32(mask.trailingZeroBitCount) }

    public var mark: MaskedMark { MaskedMark(number << UInt32(mask.trailingZeroBitCount), mask: mask) }

    /// The epoch that a table in the kernel stamps connections with; nil where it is none of ours or has another field.
    ///
    /// What an agent goes on with after a restart, so that a restart judges nothing again.
    public init?(in table: Ruleset, mask: UInt32 = defaultMask) {
        for rule in table.chains[PolicyTable.forward]?.rules.reversed() ?? [] {
            for case .bitwise(_, _, let kept, let set) in rule.instructions
            where kept == hostBytes(~mask) && rule.instructions.last == .setConntrack(.mark, from: 0) {
                self.init(hostNumber(set) >> UInt32(mask.trailingZeroBitCount), mask: mask)
                return
            }
        }
        return nil
    }
}
