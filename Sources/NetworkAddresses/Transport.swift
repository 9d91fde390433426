/// The transport protocols that services and policies speak of; the raw value is the IP protocol number.
public enum TransportProtocol: UInt8, Hashable, Comparable, Sendable, CaseIterable, LosslessStringConvertible {
    case tcp = 6
    case udp = 17
    case sctp = 132

    /// Parses any case: manifests write `TCP`, CNI runtimes `tcp`.
    public init?(_ text: String) {
        switch text.lowercased() {
        case "tcp": self = .tcp
        case "udp": self = .udp
        case "sctp": self = .sctp
        default: return nil
        }
    }

    /// Lower case, as nftables writes it.
    public var description: String {
        switch self {
        case .tcp: "tcp"
        case .udp: "udp"
        case .sctp: "sctp"
        }
    }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A port number of 1…65535; 0 means "any" in sockets and "none" in manifests, and is neither here.
public struct Port: Hashable, Comparable, Sendable, RawRepresentable, LosslessStringConvertible {
    public let rawValue: UInt16

    public init?(rawValue: UInt16) {
        guard rawValue != 0 else { return nil }
        self.rawValue = rawValue
    }

    public init?(_ number: Int) {
        guard let value = UInt16(exactly: number), value != 0 else { return nil }
        rawValue = value
    }

    public init?(_ text: String) {
        guard let value = decimal(text.utf8, upTo: 65535) else { return nil }
        self.init(Int(value))
    }

    /// The two bytes in network order.
    public var bytes: [UInt8] { [UInt8(rawValue >> 8), UInt8(truncatingIfNeeded: rawValue)] }

    public var description: String { String(rawValue) }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// Where a connection ends: an address and a port.
public struct SocketAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var address: IPAddress
    public var port: Port

    public init(_ address: IPAddress, _ port: Port) {
        self.address = address
        self.port = port
    }

    public var description: String { "\(address.bracketed):\(port)" }

    public static func < (left: Self, right: Self) -> Bool { (left.address, left.port) < (right.address, right.port) }
}
