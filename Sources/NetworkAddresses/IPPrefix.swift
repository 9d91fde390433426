/// An address with a prefix length, such as `10.244.1.0/24`, or an interface's `10.244.1.7/24`.
///
/// Host bits are kept: an interface address needs them. `network` drops them.
public struct IPPrefix: Hashable, Comparable, Sendable {
    public let address: IPAddress
    /// 0…32 or 0…128.
    public let length: Int

    /// Nil where the length is longer than the family's addresses.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...address.family.bitWidth).contains(length) else { return nil }
        self.init(uncheckedAddress: address, length: length)
    }

    init(uncheckedAddress address: IPAddress, length: Int) {
        self.address = address
        self.length = length
    }

    public var family: AddressFamily { address.family }

    /// The bits that belong to the host, all set.
    private var hostMask: UInt128 {
        let width = family.bitWidth - length
        return width == 128 ? .max : (1 << UInt128(width)) - 1
    }

    /// The same prefix with all host bits zero.
    public var network: IPPrefix {
        IPPrefix(uncheckedAddress: first, length: length)
    }

    /// Whether there are no host bits set, as in a route's destination.
    public var isNetwork: Bool { address.number & hostMask == 0 }

    /// The lowest address: the network address.
    public var first: IPAddress { replacingHostBits(with: 0) }

    /// The highest address: IPv4's broadcast address.
    public var last: IPAddress { replacingHostBits(with: hostMask) }

    private func replacingHostBits(with host: UInt128) -> IPAddress {
        let number = address.number & ~hostMask | host
        switch family {
        case .ipv4: return .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: number)))
        case .ipv6: return .v6(IPv6Address(rawValue: number))
        }
    }

    public func contains(_ other: IPAddress) -> Bool {
        other.family == family && (other.number ^ address.number) & ~hostMask == 0
    }

    public func contains(_ other: IPPrefix) -> Bool { other.length >= length && contains(other.address) }

    public func overlaps(_ other: IPPrefix) -> Bool { contains(other.first) || other.contains(first) }

    public static func < (left: Self, right: Self) -> Bool {
        (left.address, left.length) < (right.address, right.length)
    }
}

extension IPPrefix: LosslessStringConvertible {
    /// Parses `address/length`; the length is required.
    public init?(_ text: String) {
        guard let slash = text.utf8.firstIndex(of: UInt8(ascii: "/")),
            let address = IPAddress(String(text[..<slash])),
            let length = decimal(text.utf8[text.utf8.index(after: slash)...], upTo: 128)
        else { return nil }
        self.init(address, length: Int(length))
    }

    public var description: String { "\(address)/\(length)" }
}
