public import NetworkAddresses
public import Nftables

/// The first packet of a connection, or its answer, as rules see it.
public struct Packet: Hashable, Sendable {
    public var source: IPAddress
    public var destination: IPAddress
    /// The IP protocol number; ICMP has no `TransportProtocol`.
    public var protocolNumber: UInt8
    /// Nil for protocols without ports, and where NAT has drawn a port that nobody knows.
    public var sourcePort: Port?
    public var destinationPort: Port?
    /// Where the packet arrived; nil for one made on this machine.
    public var input: PacketInterface?
    /// Where the packet will leave; nil until its route is known.
    public var output: PacketInterface?
    public var mark: UInt32
    /// Whether this is the first packet of its connection, such as a TCP SYN; otherwise it is an answer.
    public var opensConnection = true

    public init(
        from source: IPAddress, _ sourcePort: Port?, to destination: IPAddress, _ destinationPort: Port?,
        protocolNumber: UInt8, input: PacketInterface? = nil, output: PacketInterface? = nil, mark: UInt32 = 0
    ) {
        self.source = source
        self.sourcePort = sourcePort
        self.destination = destination
        self.destinationPort = destinationPort
        self.protocolNumber = protocolNumber
        self.input = input
        self.output = output
        self.mark = mark
    }

    public init(
        from source: SocketAddress, to destination: SocketAddress, _ transport: TransportProtocol,
        input: PacketInterface? = nil, output: PacketInterface? = nil
    ) {
        self.init(
            from: source.address, source.port, to: destination.address, destination.port,
            protocolNumber: transport.rawValue, input: input, output: output)
    }

    public var family: AddressFamily { source.family }
    public var transport: TransportProtocol? { TransportProtocol(rawValue: protocolNumber) }

    /// The packet's ends as conntrack knows them.
    public var tuple: ConnectionTuple {
        ConnectionTuple(source: source, sourcePort, destination: destination, destinationPort, protocolNumber)
    }
}

/// An interface by both of its names: rules look at either.
public struct PacketInterface: Hashable, Sendable {
    public var name: InterfaceName
    public var index: Int32

    public init(_ name: InterfaceName, index: Int32) {
        self.name = name
        self.index = index
    }
}

/// One direction of a connection (`nf_conntrack_tuple`).
public struct ConnectionTuple: Hashable, Sendable {
    public var source: IPAddress
    public var sourcePort: Port?
    public var destination: IPAddress
    public var destinationPort: Port?
    public var protocolNumber: UInt8

    public init(
        source: IPAddress, _ sourcePort: Port?, destination: IPAddress, _ destinationPort: Port?,
        _ protocolNumber: UInt8
    ) {
        self.source = source
        self.sourcePort = sourcePort
        self.destination = destination
        self.destinationPort = destinationPort
        self.protocolNumber = protocolNumber
    }

    /// What the answer to a packet of this tuple carries.
    public var inverted: ConnectionTuple {
        ConnectionTuple(source: destination, destinationPort, destination: source, sourcePort, protocolNumber)
    }
}

/// What one machine remembers of a connection (`nf_conn`), and which way the packet in question goes.
public struct Connection: Hashable, Sendable {
    /// The first packet, as it arrived.
    public var original: ConnectionTuple
    /// The answers, as they arrive: the first packet inverted after all NAT.
    public var reply: ConnectionTuple
    /// Exactly one of `new`, `established`, `related` for the packet in question.
    public var state: ConntrackStates
    public var direction: ConntrackDirection
    public var status: ConnectionStatus
    public var mark: UInt32

    public init(
        original: ConnectionTuple, reply: ConnectionTuple? = nil, state: ConntrackStates = .new,
        direction: ConntrackDirection = .original, status: ConnectionStatus = [], mark: UInt32 = 0
    ) {
        self.original = original
        self.reply = reply ?? original.inverted
        self.state = state
        self.direction = direction
        self.status = status
        self.mark = mark
    }

    /// The connection that a packet without one opens.
    public init(openedBy packet: Packet) { self.init(original: packet.tuple) }
}

/// `IPS_*` bits.
public struct ConnectionStatus: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let seenReply = Self(rawValue: 1 << 1)
    public static let assured = Self(rawValue: 1 << 2)
    public static let confirmed = Self(rawValue: 1 << 3)
    /// The source was rewritten.
    public static let sourceTranslated = Self(rawValue: 1 << 4)
    /// The destination was rewritten.
    public static let destinationTranslated = Self(rawValue: 1 << 5)
    /// It was decided whether to rewrite the source, and the decision stands.
    public static let sourceDecided = Self(rawValue: 1 << 7)
    public static let destinationDecided = Self(rawValue: 1 << 8)
}
