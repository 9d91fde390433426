/// An IPv4 address.
///
/// Held as the number it is, so that ranges, offsets and masks are arithmetic.
public struct IPv4Address: Hashable, Comparable, Sendable {
    /// The address as a number: `10.0.0.1` is `0x0a00_0001`.
    public var rawValue: UInt32

    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        rawValue = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
    }

    /// The four bytes in network order.
    public var bytes: [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: rawValue >> $0) }
    }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension IPv4Address: LosslessStringConvertible {
    /// Parses dotted-quad notation; four decimal numbers of 0…255 without leading zeros, and nothing else.
    ///
    /// Leading zeros are refused because programs disagree whether `010` is eight or ten.
    public init?(_ text: String) {
        var value: UInt32 = 0
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        for part in parts {
            guard let number = decimal(part, upTo: 255) else { return nil }
            value = value << 8 | number
        }
        self.init(rawValue: value)
    }

    public var description: String { bytes.map(String.init).joined(separator: ".") }
}

/// A decimal number without sign and without leading zeros, or nil.
func decimal(_ digits: some Collection<UInt8>, upTo limit: UInt32) -> UInt32? {
    guard !digits.isEmpty, digits.count <= 10, digits.count == 1 || digits.first != UInt8(ascii: "0") else {
        return nil
    }
    var value: UInt64 = 0
    for digit in digits {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
        value = value * 10 + UInt64(digit - UInt8(ascii: "0"))
    }
    return value <= UInt64(limit) ? UInt32(value) : nil
}
