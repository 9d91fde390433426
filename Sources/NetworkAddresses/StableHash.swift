/// A hash that is the same in every process and for ever: FNV-1a of 64 bits, mixed.
///
/// Names in the kernel and addresses are made from it, so that a restart finds what it left. Swift's own hashing is
/// seeded anew by each process.
public struct StableHash: Sendable {
    private var state: UInt64 = 0xcbf2_9ce4_8422_2325

    public init(_ parts: String...) {
        for part in parts { combine(part) }
    }

    /// Adds a text and its end: ("a", "bc") is not ("ab", "c").
    public mutating func combine(_ text: String) {
        for byte in text.utf8 { add(byte) }
        add(0xff)
    }

    private mutating func add(_ byte: UInt8) {
        state = (state ^ UInt64(byte)) &* 0x100_0000_01b3
    }

    /// The hash: every bit of the texts counts in every bit of it, which FNV alone does not see to.
    public var value: UInt64 {
        var mixed = (state ^ state >> 29) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 32) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 29
    }

    /// The low 32 bits as eight hexadecimal digits.
    public var digits: String {
        let text = String(UInt32(truncatingIfNeeded: value), radix: 16)
        return String(repeating: "0", count: 8 - text.count) + text
    }
}
