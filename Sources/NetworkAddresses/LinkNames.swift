/// An Ethernet address.
public struct MACAddress: Hashable, Comparable, Sendable {
    /// The six bytes as a number of 48 bits.
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue & 0xffff_ffff_ffff }

    /// Six bytes in transmission order; any other count is no Ethernet address.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 6 else { return nil }
        rawValue = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    public var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: rawValue >> (40 - 8 * $0)) } }

    /// A unicast address of the locally administered range made of the low bits of `seed`.
    ///
    /// The same seed gives the same address: a node's tunnel endpoint needs no announcement (IEEE 802, the U/L bit).
    public init(locallyAdministered seed: UInt64) {
        rawValue = seed & 0xfcff_ffff_ffff | 0x0200_0000_0000
    }

    /// The IPv6 address that an interface of this address gives itself (RFC 4291, appendix A).
    public var linkLocalAddress: IPv6Address {
        let identifier = (rawValue >> 24 ^ 0x02_0000) << 40 | 0xff_fe00_0000 | rawValue & 0xff_ffff
        return IPv6Address(rawValue: 0xfe80 << 112 | UInt128(identifier))
    }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension MACAddress: LosslessStringConvertible {
    /// Parses six pairs of hexadecimal digits between colons or dashes.
    public init?(_ text: String) {
        let parts = text.utf8.split(omittingEmptySubsequences: false) {
            $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: "-")
        }
        guard parts.count == 6 else { return nil }
        var value: UInt64 = 0
        for part in parts {
            guard part.count == 2, let high = hexadecimal(part.first!), let low = hexadecimal(part.last!) else {
                return nil
            }
            value = value << 8 | UInt64(high << 4 | low)
        }
        rawValue = value
    }

    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

/// The name of a network interface that the kernel accepts: 1…15 bytes, no `/`, `:` or white space, not `.` or `..`.
///
/// Names reach `/proc/sys` paths and messages, so what is no name never becomes a value (`dev_valid_name` in the kernel).
public struct InterfaceName: Hashable, Comparable, Sendable, LosslessStringConvertible {
    public let description: String

    public init?(_ text: String) {
        let bytes = text.utf8
        guard (1...15).contains(bytes.count), text != ".", text != "..",
            bytes.allSatisfy({ $0 > 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") })
        else { return nil }
        description = text
    }

    public static func < (left: Self, right: Self) -> Bool { left.description < right.description }
}
