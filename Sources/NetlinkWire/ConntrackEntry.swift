public import NetworkAddresses

/// A connection the kernel tracks (ctnetlink).
public struct ConntrackEntry: Hashable, Sendable {
    /// The packets of the side that began.
    public var original: ConntrackTuple
    /// The packets expected back: where NAT was done, not simply the original turned round.
    public var reply: ConntrackTuple
    /// The connection's mark, 0 where none was set.
    public var mark: UInt32
    public var status: Status
    /// Seconds until the entry ends unless a packet comes.
    public var timeout: UInt32?

    /// `enum ip_conntrack_status`
    public struct Status: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// Packets have been seen in both directions (`IPS_SEEN_REPLY`).
        public static let seenReply = Status(rawValue: 1 << 1)
        /// Not to be given up early (`IPS_ASSURED`).
        public static let assured = Status(rawValue: 1 << 2)
        /// The first packet has left or been delivered (`IPS_CONFIRMED`).
        public static let confirmed = Status(rawValue: 1 << 3)
        /// The source is rewritten (`IPS_SRC_NAT`).
        public static let sourceNAT = Status(rawValue: 1 << 4)
        /// The destination is rewritten (`IPS_DST_NAT`).
        public static let destinationNAT = Status(rawValue: 1 << 5)
        /// The connection is being torn down (`IPS_DYING`).
        public static let dying = Status(rawValue: 1 << 9)
    }

    public init(
        original: ConntrackTuple, reply: ConntrackTuple, mark: UInt32 = 0, status: Status = [], timeout: UInt32? = nil
    ) {
        self.original = original
        self.reply = reply
        self.mark = mark
        self.status = status
        self.timeout = timeout
    }
}

/// One direction of a tracked connection.
public struct ConntrackTuple: Hashable, Sendable {
    public var source: IPAddress
    public var destination: IPAddress
    /// The IP protocol number: connections of any protocol are tracked.
    public var protocolNumber: UInt8
    public var detail: Detail

    /// What tells connections between the same two addresses apart.
    public enum Detail: Hashable, Sendable {
        case ports(source: UInt16, destination: UInt16)
        case icmp(type: UInt8, code: UInt8, identifier: UInt16)
        /// The protocol has nothing of the kind.
        case none
    }

    public init(source: IPAddress, destination: IPAddress, protocolNumber: UInt8, detail: Detail) {
        self.source = source
        self.destination = destination
        self.protocolNumber = protocolNumber
        self.detail = detail
    }

    /// Nil for protocols services do not speak.
    public var transport: TransportProtocol? { TransportProtocol(rawValue: protocolNumber) }

    public var sourcePort: Port? {
        if case .ports(let source, _) = detail { Port(rawValue: source) } else { nil }
    }

    public var destinationPort: Port? {
        if case .ports(_, let destination) = detail { Port(rawValue: destination) } else { nil }
    }
}

extension ConntrackTuple: CustomStringConvertible {
    public var description: String {
        let name = transport?.description ?? "protocol \(protocolNumber)"
        return switch detail {
        case .ports(let from, let to): "\(name) \(source.bracketed):\(from) → \(destination.bracketed):\(to)"
        case .icmp(let type, let code, let identifier):
            "\(name) \(source) → \(destination) type \(type) code \(code) id \(identifier)"
        case .none: "\(name) \(source) → \(destination)"
        }
    }
}
