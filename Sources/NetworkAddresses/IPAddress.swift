/// The two families of the Internet Protocol.
public enum AddressFamily: Hashable, Comparable, Sendable, CaseIterable, CustomStringConvertible {
    case ipv4
    case ipv6

    /// Bits of an address: 32 or 128.
    public var bitWidth: Int { self == .ipv4 ? 32 : 128 }

    /// `IPv4` or `IPv6`, as Kubernetes writes them in `ipFamilies`.
    public var description: String { self == .ipv4 ? "IPv4" : "IPv6" }
}

/// An address of either family.
public enum IPAddress: Hashable, Comparable, Sendable {
    case v4(IPv4Address)
    case v6(IPv6Address)

    public var family: AddressFamily {
        switch self {
        case .v4: .ipv4
        case .v6: .ipv6
        }
    }

    /// The address in network order: 4 or 16 bytes.
    public var bytes: [UInt8] {
        switch self {
        case .v4(let address): address.bytes
        case .v6(let address): address.bytes
        }
    }

    /// Builds an address from 4 or 16 bytes in network order; any other count is no address.
    public init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: self = .v4(IPv4Address(rawValue: bytes.reduce(0) { $0 << 8 | UInt32($1) }))
        case 16: self = .v6(IPv6Address(rawValue: bytes.reduce(0) { $0 << 8 | UInt128($1) }))
        default: return nil
        }
    }

    /// The address as a number, whatever its family.
    public var number: UInt128 {
        switch self {
        case .v4(let address): UInt128(address.rawValue)
        case .v6(let address): address.rawValue
        }
    }

    /// The address of `family` with this number, or nil where the number does not fit.
    public init?(number: UInt128, family: AddressFamily) {
        switch family {
        case .ipv4:
            guard let value = UInt32(exactly: number) else { return nil }
            self = .v4(IPv4Address(rawValue: value))
        case .ipv6: self = .v6(IPv6Address(rawValue: number))
        }
    }

    /// The address `distance` further on, or nil past the end of the family.
    public func advanced(by distance: UInt128) -> IPAddress? {
        let (sum, overflow) = number.addingReportingOverflow(distance)
        return overflow ? nil : IPAddress(number: sum, family: family)
    }

    /// The prefix that holds only this address: `/32` or `/128`.
    public var hostPrefix: IPPrefix { IPPrefix(uncheckedAddress: self, length: family.bitWidth) }

    public var isLoopback: Bool {
        switch self {
        case .v4(let address): address.rawValue >> 24 == 127
        case .v6(let address): address.rawValue == 1
        }
    }

    public var isMulticast: Bool {
        switch self {
        case .v4(let address): address.rawValue >> 28 == 0xe
        case .v6(let address): address.rawValue >> 120 == 0xff
        }
    }

    public var isUnspecified: Bool { number == 0 }

    public static func < (left: Self, right: Self) -> Bool {
        (left.family, left.number) < (right.family, right.number)
    }
}

extension IPAddress: LosslessStringConvertible {
    public init?(_ text: String) {
        if let address = IPv4Address(text) {
            self = .v4(address)
        } else if let address = IPv6Address(text) {
            self = .v6(address)
        } else {
            return nil
        }
    }

    public var description: String {
        switch self {
        case .v4(let address): address.description
        case .v6(let address): address.description
        }
    }

    /// The address as it stands before a port: IPv6 in brackets.
    public var bracketed: String { family == .ipv4 ? description : "[\(description)]" }
}
