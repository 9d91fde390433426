/// An IPv6 address, without a zone.
public struct IPv6Address: Hashable, Comparable, Sendable {
    // Two halves and not one UInt128: Swift 6.3.1 keeps a returned struct that holds a UInt128 at a stack address that is
    // a multiple of 8 and then loads it as if it were one of 16, which ends the process.
    private var high: UInt64
    private var low: UInt64

    /// The address as a number: `::1` is 1.
    public var rawValue: UInt128 {
        get { UInt128(high) << 64 | UInt128(low) }
        set { self = IPv6Address(rawValue: newValue) }
    }

    public init(rawValue: UInt128) {
        high = UInt64(truncatingIfNeeded: rawValue >> 64)
        low = UInt64(truncatingIfNeeded: rawValue)
    }

    /// The sixteen bytes in network order.
    public var bytes: [UInt8] {
        (0..<16).map { UInt8(truncatingIfNeeded: rawValue >> (120 - 8 * $0)) }
    }

    /// The eight 16-bit groups in writing order.
    var groups: [UInt16] {
        (0..<8).map { UInt16(truncatingIfNeeded: rawValue >> (112 - 16 * $0)) }
    }

    /// Whether the address is in `fe80::/10` and so means nothing without an interface.
    public var isLinkLocal: Bool { rawValue >> 118 == 0xfe80 >> 6 }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension IPv6Address: LosslessStringConvertible {
    /// Parses the notation of RFC 4291 §2.2, including `::` and a trailing dotted quad.
    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count <= 45 else { return nil }
        var head: [UInt16] = []
        var tail: [UInt16]?
        var rest = bytes[...]
        // A leading colon is only legal as half of "::".
        if rest.first == UInt8(ascii: ":") {
            guard rest.dropFirst().first == UInt8(ascii: ":") else { return nil }
            tail = []
            rest = rest.dropFirst(2)
        }
        while !rest.isEmpty {
            let field = rest.prefix { $0 != UInt8(ascii: ":") }
            var values: [UInt16]
            if field.contains(UInt8(ascii: ".")) {
                guard field.endIndex == bytes.endIndex,
                    let quad = IPv4Address(String(decoding: field, as: UTF8.self))
                else { return nil }
                values = [UInt16(quad.rawValue >> 16), UInt16(truncatingIfNeeded: quad.rawValue)]
            } else {
                guard (1...4).contains(field.count), field.allSatisfy({ hexadecimal($0) != nil }) else { return nil }
                values = [field.reduce(0) { $0 << 4 | UInt16(hexadecimal($1) ?? 0) }]
            }
            if tail == nil { head += values } else { tail?.append(contentsOf: values) }
            rest = rest[field.endIndex...]
            guard !rest.isEmpty else { break }
            rest = rest.dropFirst()
            if rest.first == UInt8(ascii: ":") {
                guard tail == nil else { return nil }
                tail = []
                rest = rest.dropFirst()
            } else if rest.isEmpty {
                return nil
            }
        }
        let count = head.count + (tail?.count ?? 0)
        guard tail == nil ? count == 8 : count <= 7 else { return nil }
        let groups = head + Array(repeating: 0, count: 8 - count) + (tail ?? [])
        self.init(rawValue: groups.reduce(0) { $0 << 16 | UInt128($1) })
    }

    /// The canonical text of RFC 5952: lower case, the longest run of zeros (two groups or more) as `::`.
    public var description: String {
        let groups = groups
        var longest = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > max(longest.count, 1) { longest = start..<end }
            start = max(end, start + 1)
        }
        let hex = { (part: ArraySlice<UInt16>) in part.map { String($0, radix: 16) }.joined(separator: ":") }
        guard !longest.isEmpty else { return hex(groups[...]) }
        return hex(groups[..<longest.lowerBound]) + "::" + hex(groups[longest.upperBound...])
    }
}

func hexadecimal(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
    default: nil
    }
}
