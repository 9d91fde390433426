public import NetworkAddresses

/// The 16 bytes before every netlink message (`struct nlmsghdr`).
public struct MessageHeader: Hashable, Sendable {
    public static let size = 16

    /// Bytes of the message, this header included.
    public var length: Int
    public var type: UInt16
    public var flags: UInt16
    public var sequence: UInt32
    /// The socket the message is for, by the number the kernel gave it.
    public var port: UInt32
}

/// Netlink messages and attributes in a span of bytes.
///
/// All length checks are here. Reading visits: the closure gets each part as a span, and what a reader does not know it
/// passes over. Numbers are put together byte by byte, so nothing depends on alignment.
extension Span<UInt8> {
    /// Visits each message of a datagram with its header; the span given is the whole message, header included.
    public func forEachMessage(
        _ body: (MessageHeader, Span<UInt8>) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        var rest = extracting(0...)
        while !rest.isEmpty {
            let length = Int(try rest.integer(at: 0, as: UInt32.self))
            guard length >= MessageHeader.size else { throw .badLength(length) }
            guard length <= rest.count else { throw .truncated }
            let header = MessageHeader(
                length: length, type: try rest.integer(at: 4), flags: try rest.integer(at: 6),
                sequence: try rest.integer(at: 8), port: try rest.integer(at: 12))
            try body(header, rest.extracting(first: length))
            rest = rest.extracting(droppingFirst: aligned(length))
        }
    }

    /// Visits each attribute from `offset` on, behind the fixed header a message or a nest may have.
    ///
    /// The type comes without the two flag bits (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`), which say nothing about it.
    public func forEachAttribute(
        from offset: Int = 0, _ body: (UInt16, Span<UInt8>) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        guard offset <= count else { throw .truncated }
        var rest = extracting(droppingFirst: offset)
        while !rest.isEmpty {
            let length = Int(try rest.integer(at: 0, as: UInt16.self))
            let type = try rest.integer(at: 2, as: UInt16.self)
            guard length >= 4 else { throw .badLength(length) }
            guard length <= rest.count else { throw .truncated }
            try body(type & 0x3fff, rest.extracting(4..<length))
            rest = rest.extracting(droppingFirst: aligned(length))
        }
    }

    /// The number at `offset` in the host's byte order, as rtnetlink has it.
    public func integer<Integer: FixedWidthInteger>(
        at offset: Int, as type: Integer.Type = Integer.self
    ) throws(DecodeError) -> Integer {
        let number = try bigEndian(at: offset, as: type)
        return Integer(bigEndian: 1) == 1 ? number : number.byteSwapped
    }

    /// The number at `offset` in network byte order, as nfnetlink has it.
    public func bigEndian<Integer: FixedWidthInteger>(
        at offset: Int, as type: Integer.Type = Integer.self
    ) throws(DecodeError) -> Integer {
        let size = Integer.bitWidth / 8
        guard offset <= count - size else { throw .truncated }
        var number: Integer = 0
        for position in offset..<offset + size {
            number = number << 8 | Integer(truncatingIfNeeded: self[position])
        }
        return number
    }

    /// The whole value as a number in the host's byte order.
    public func integer<Integer: FixedWidthInteger>(
        as type: Integer.Type = Integer.self
    ) throws(DecodeError) -> Integer {
        try requireSize(Integer.bitWidth / 8)
        return try integer(at: 0, as: type)
    }

    /// The whole value as a number in network byte order.
    public func bigEndian<Integer: FixedWidthInteger>(
        as type: Integer.Type = Integer.self
    ) throws(DecodeError) -> Integer {
        try requireSize(Integer.bitWidth / 8)
        return try bigEndian(at: 0, as: type)
    }

    /// The whole value as text up to its terminating zero, or to its end where it has none.
    public func text() -> String {
        var bytes: [UInt8] = []
        for position in indices {
            guard self[position] != 0 else { break }
            bytes.append(self[position])
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The whole value as an address: 4 or 16 bytes.
    public func address() throws(DecodeError) -> IPAddress {
        guard let address = IPAddress(bytes: bytes()) else { throw .wrongSize(expected: 16, found: count) }
        return address
    }

    /// A copy of the bytes.
    public func bytes() -> [UInt8] { indices.map { self[$0] } }

    private func requireSize(_ size: Int) throws(DecodeError) {
        guard count == size else { throw .wrongSize(expected: size, found: count) }
    }
}

/// Messages and attributes begin at multiples of four (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`); the last may lack its padding.
func aligned(_ length: Int) -> Int { (length + 3) & ~3 }
