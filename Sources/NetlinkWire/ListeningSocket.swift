public import NetworkAddresses

/// A socket that waits for packets from anywhere, as the kernel lists it (`struct inet_diag_msg`).
public struct ListeningSocket: Hashable, Sendable {
    public var transport: TransportProtocol
    /// The unspecified address where the socket listens on all.
    public var address: IPAddress
    public var port: Port
    /// Whether an IPv6 socket on all addresses is also given IPv4 packets (`IPV6_V6ONLY` off).
    public var isDualStack: Bool
    /// The link the socket is bound to (`SO_BINDTODEVICE`).
    public var link: Int32?

    public init(
        _ transport: TransportProtocol, _ address: IPAddress, _ port: Port, isDualStack: Bool = false,
        link: Int32? = nil
    ) {
        self.transport = transport
        self.address = address
        self.port = port
        self.isDualStack = isDualStack
        self.link = link
    }

    /// Whether a packet to this destination, arriving on any link, reaches the socket.
    public func receives(_ transport: TransportProtocol, at destination: SocketAddress) -> Bool {
        guard transport == self.transport, destination.port == port else { return false }
        if address == destination.address { return true }
        return address.isUnspecified && (address.family == destination.address.family || isDualStack)
    }
}

extension ListeningSocket {
    /// The request for all listening sockets of a family (`struct inet_diag_req_v2`); to be sent as a dump.
    public static func request(_ transport: TransportProtocol, _ family: AddressFamily) -> [UInt8] {
        AttributeWriter.message(type: sockDiagByFamily, flags: 0) { message in
            message.append(bytes: [family.number, transport.rawValue, 0, 0])
            message.append(UInt32(1) << transport.waitingState)
            // struct inet_diag_sockid: no particular socket.
            message.append(bytes: [UInt8](repeating: 0, count: 48))
        }
    }

    /// Reads one message of the answer; nil for a socket that has no port yet.
    public init?(_ transport: TransportProtocol, message: Span<UInt8>) throws(DecodeError) {
        let start = MessageHeader.size
        guard message.count >= start + 72 else { throw .truncated }
        let family = message[start]
        guard let port = Port(rawValue: try message.bigEndian(at: start + 4)) else { return nil }
        let width = family == AddressFamily.ipv4.number ? 4 : 16
        let address = try message.extracting(start + 8..<start + 8 + width).address()
        let link: Int32 = try message.integer(at: start + 40)
        // Said for IPv6 only.
        var isIPv6Only = true
        try message.forEachAttribute(from: start + 72) { type, value throws(DecodeError) in
            if type == Self.isIPv6OnlyAttribute { isIPv6Only = try value.integer(as: UInt8.self) != 0 }
        }
        self.init(
            transport, address, port, isDualStack: !isIPv6Only && address.isUnspecified, link: link == 0 ? nil : link)
    }

    /// `SOCK_DIAG_BY_FAMILY`
    private static let sockDiagByFamily: UInt16 = 20
    /// `INET_DIAG_SKV6ONLY`
    private static let isIPv6OnlyAttribute: UInt16 = 11
}

extension TransportProtocol {
    /// The state in which a socket waits for anybody: `TCP_LISTEN`, or for UDP, which does not listen, `TCP_CLOSE`.
    fileprivate var waitingState: UInt32 { self == .udp ? 7 : 10 }
}

extension AddressFamily {
    /// `AF_INET`, `AF_INET6`
    var number: UInt8 { self == .ipv4 ? 2 : 10 }
}
