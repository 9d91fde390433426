public import NetworkAddresses

/// One step of the nftables virtual machine, as the kernel stores it (`NFTA_EXPR_NAME` and its data).
///
/// Statements are what people write; instructions are what runs. A rule read back from the kernel is only known as
/// instructions, so comparing, evaluating and explaining work on these.
public enum Instruction: Hashable, Sendable {
    /// Copies packet bytes into a register (`payload`).
    case payload(PayloadBase, offset: Int, length: Int, into: Register)
    /// Reads a fact about the packet (`meta`).
    case meta(MetaKey, into: Register)
    /// Writes packet metadata from a register (`meta … set`).
    case setMeta(MetaKey, from: Register)
    /// Reads a fact about the packet's connection (`ct`); without a connection the rule does not match.
    case conntrack(ConntrackKey, ConntrackDirection?, into: Register)
    /// Writes to the packet's connection (`ct … set`).
    case setConntrack(ConntrackKey, from: Register)
    /// Goes on only where the register compares so with the bytes (`cmp`); order is that of big-endian numbers.
    case compare(ComparisonOperator, Register, [UInt8])
    /// Goes on only where the register lies between the bounds, both included (`range`).
    case range(inverted: Bool, Register, from: [UInt8], to: [UInt8])
    /// `into = (from & mask) ^ xor` (`bitwise`).
    case bitwise(from: Register, into: Register, mask: [UInt8], xor: [UInt8])
    /// Loads constant bytes (`immediate`).
    case immediate([UInt8], into: Register)
    /// Ends the rule with a verdict (`immediate` into the verdict register).
    case verdict(Verdict)
    /// Goes on only where the key is in the set (`lookup`), or is not when `inverted`.
    case lookup(set: String, key: Register, inverted: Bool)
    /// Looks the key up and loads its data; goes on only where the key is there (`lookup` with a destination).
    case lookupData(map: String, key: Register, into: Register)
    /// Looks the key up and takes its verdict (`lookup` into the verdict register).
    case lookupVerdict(map: String, key: Register)
    /// Puts the key into a set whose elements expire, or starts its time anew; goes on unless the set is full (`dynset`).
    case remember(set: String, key: Register)
    /// A number below `modulus`, plus `offset` (`numgen`).
    case number(NumberSource, modulus: UInt32, offset: UInt32, into: Register)
    /// Rewrites the destination (`nat` of type `dnat`).
    case destinationNAT(AddressFamily, address: Register, port: Register?)
    /// Rewrites the source to that of the outgoing interface (`masq`).
    case masquerade(fullyRandom: Bool)
    /// Refuses the packet and tells the sender (`reject`).
    case reject(type: UInt32, code: UInt8)
    /// Asks the routing table about an address of the packet (`fib`).
    case routeLookup(FibResult, flags: UInt32, into: Register)
    case counter
    /// Goes on at most `rate` times per `seconds`, after a burst (`limit`).
    case limit(rate: UInt64, seconds: UInt64, burst: UInt32)
    /// Sends the packet's headers to a netlink listener (`log` with a group).
    case log(prefix: String, group: UInt16)
    /// Something this model does not know, by the kernel's name for it. Nothing is said about what it does.
    case unknown(String)
}

/// A place in the register file, counted in words of four bytes: 0…15 (`NFT_REG32_00` …).
public struct Register: Hashable, Sendable, ExpressibleByIntegerLiteral {
    public let word: UInt8
    public init(word: Int) { self.word = UInt8(word) }
    public init(integerLiteral value: UInt8) { word = value }
}

public enum PayloadBase: UInt32, Hashable, Sendable {
    case link = 0
    case network = 1
    case transport = 2
}

/// `NFT_META_*`.
public enum MetaKey: UInt32, Hashable, Sendable {
    case mark = 3
    case inputInterface = 4
    case outputInterface = 5
    case inputInterfaceName = 6
    case outputInterfaceName = 7
    case networkProtocol = 15
    case transportProtocol = 16
    case trace = 13
}

/// `NFT_CT_*`.
public enum ConntrackKey: UInt32, Hashable, Sendable {
    case state = 0
    case direction = 1
    case status = 2
    case mark = 3
    case sourcePort = 11
    case destinationPort = 12
    case transportProtocol = 10
    case sourceIPv4 = 19
    case destinationIPv4 = 20
    case sourceIPv6 = 21
    case destinationIPv6 = 22
}

/// Which of a connection's two tuples is meant: the first packet's, or its answers' (`IP_CT_DIR_*`).
public enum ConntrackDirection: UInt8, Hashable, Sendable {
    case original = 0
    case reply = 1
}

/// `NFT_CMP_*`.
public enum ComparisonOperator: UInt32, Hashable, Sendable {
    case equal = 0
    case notEqual = 1
    case less = 2
    case lessOrEqual = 3
    case greater = 4
    case greaterOrEqual = 5
}

/// `NFT_NG_*`.
public enum NumberSource: UInt32, Hashable, Sendable {
    case incremental = 0
    case random = 1
}

/// `NFT_FIB_RESULT_*`.
public enum FibResult: UInt32, Hashable, Sendable {
    case outputInterface = 1
    case outputInterfaceName = 2
    case addressType = 3
}

/// Where evaluation goes on after a rule (`NF_*`, `NFT_*`).
public enum Verdict: Hashable, Sendable, CustomStringConvertible {
    /// Leaves this base chain; later base chains of the hook still see the packet.
    case accept
    /// Ends the packet silently.
    case drop
    /// The next rule.
    case `continue`
    /// The calling chain's next rule, or the base chain's policy.
    case `return`
    /// Another chain, and back here at its end.
    case jump(String)
    /// Another chain, and from its end back to this chain's caller.
    case goto(String)

    public var description: String {
        switch self {
        case .accept: "accept"
        case .drop: "drop"
        case .continue: "continue"
        case .return: "return"
        case .jump(let chain): "jump \(chain)"
        case .goto(let chain): "goto \(chain)"
        }
    }

    /// The chain this verdict leads to.
    public var target: String? {
        switch self {
        case .jump(let chain), .goto(let chain): chain
        default: nil
        }
    }
}
