public import NetworkAddresses

/// A part of a rule: a condition, an effect, or the end.
public enum Statement: Hashable, Sendable {
    /// Goes on only where the field is (or is not) this.
    case match(Field, Operand, negated: Bool = false)
    /// Goes on only where the fields, concatenated, are in the set (or are not).
    case lookup([Field], set: String, negated: Bool = false)
    /// Takes the verdict that the map holds for the fields; goes on where it holds none.
    case dispatch([Field], map: String)
    /// Sends the connection to the address and port that the map holds for the fields.
    case destinationNAT(AddressFamily, [Field], map: String)
    /// Sends the connection to this address and port. nft reads it back only behind a match of the transport protocol.
    case destinationNATTo(SocketAddress)
    /// Puts the field into a set whose elements expire, or starts its time anew; goes on unless the set is full.
    case remember(Field, set: String)
    /// Gives the connection this node's address and a random port as its source.
    case masquerade
    case counter
    /// Goes on at most `rate` times a second, after `burst`.
    case limit(rate: UInt64, burst: UInt32)
    /// Sends the packet's headers to the netlink group.
    case log(prefix: String, group: UInt16)
    /// Sets the masked bits of the connection's mark and keeps the others.
    case setConntrackMark(MaskedMark)
    /// Answers with ICMP port unreachable, which a TCP client sees as "connection refused".
    case reject
    case verdict(Verdict)

    public static let accept = Statement.verdict(.accept)
    public static let drop = Statement.verdict(.drop)
    public static let `return` = Statement.verdict(.return)
}

/// A number in some bits of a mark.
public struct MaskedMark: Hashable, Sendable {
    public var value: UInt32
    public var mask: UInt32

    public init(_ value: UInt32, mask: UInt32) {
        self.value = value & mask
        self.mask = mask
    }
}

/// What a field is compared with.
public enum Operand: Hashable, Sendable {
    case address(IPAddress)
    case prefix(IPPrefix)
    case transport(TransportProtocol)
    /// An IP protocol by number, for those that no service uses, such as ICMP.
    case protocolNumber(UInt8)
    case family(AddressFamily)
    case port(Port)
    case ports(ClosedRange<Port>)
    case mark(MaskedMark)
    case interface(InterfaceName)
    /// Any interface whose name begins so.
    case interfacePrefix(InterfaceName)
    /// Any of these states.
    case states(ConntrackStates)
    /// Whether the connection's destination was rewritten.
    case destinationTranslated
    /// One of this node's own addresses.
    case local
}

/// `NF_CT_STATE_*` bits as the kernel hands them to rules.
public struct ConntrackStates: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let invalid = Self(rawValue: 1)
    public static let established = Self(rawValue: 2)
    public static let related = Self(rawValue: 4)
    public static let new = Self(rawValue: 8)
    public static let untracked = Self(rawValue: 64)

    var text: String {
        let names: [(Self, String)] = [
            (.invalid, "invalid"), (.established, "established"), (.related, "related"), (.new, "new"),
            (.untracked, "untracked"),
        ]
        return names.filter { contains($0.0) }.map(\.1).joined(separator: ",")
    }
}

/// `IPS_DST_NAT`: the connection's destination was rewritten.
let destinationTranslatedStatus: UInt32 = 0x20
/// `RTN_LOCAL`.
let localAddressType: UInt32 = 2

/// The four bytes of a number as this machine stores it: marks, states and generated numbers are not in network order.
public func hostBytes(_ value: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value.bigEndian >> $0) }
}

// MARK: - Bytecode

/// Turns a rule's statements into instructions, knowing what the rule has established so far.
private struct Lowering {
    var instructions: [Instruction] = []
    /// The family that an earlier condition of the rule made sure of.
    var family: AddressFamily?

    /// An inet table sees both families, and the same header bytes mean different things in each.
    mutating func require(_ required: AddressFamily) {
        guard family != required else { return }
        instructions += [.meta(.networkProtocol, into: 0), .compare(.equal, 0, [required.netfilterNumber])]
        family = required
    }

    /// Loads the fields side by side from the first register on, each in whole words.
    mutating func load(_ fields: [Field]) {
        for case let required? in fields.map(\.requiredFamily) { require(required) }
        var word = 0
        for field in fields {
            instructions.append(field.load(into: Register(word: word)))
            word += field.type.paddedLength / 4
        }
    }

    mutating func match(_ field: Field, _ operand: Operand, negated: Bool) {
        load([field])
        let comparison: ComparisonOperator = negated ? .notEqual : .equal
        /// Goes on where any of the bits is set, or none when negated.
        func anyBit(_ bits: UInt32) -> [Instruction] {
            [
                .bitwise(from: 0, into: 0, mask: hostBytes(bits), xor: [0, 0, 0, 0]),
                .compare(negated ? .equal : .notEqual, 0, [0, 0, 0, 0]),
            ]
        }
        switch operand {
        case .address(let address): instructions.append(.compare(comparison, 0, address.bytes))
        case .prefix(let prefix) where prefix.length == prefix.family.bitWidth:
            instructions.append(.compare(comparison, 0, prefix.address.bytes))
        case .prefix(let prefix):
            let zero = [UInt8](repeating: 0, count: prefix.family.bitWidth / 8)
            instructions += [
                .bitwise(from: 0, into: 0, mask: prefix.maskBytes, xor: zero),
                .compare(comparison, 0, prefix.first.bytes),
            ]
        case .transport(let transport): instructions.append(.compare(comparison, 0, [transport.rawValue]))
        case .protocolNumber(let number): instructions.append(.compare(comparison, 0, [number]))
        case .family(let family):
            instructions.append(.compare(comparison, 0, [family.netfilterNumber]))
            if !negated { self.family = family }
        case .port(let port): instructions.append(.compare(comparison, 0, port.bytes))
        case .ports(let ports) where negated:
            instructions.append(.range(inverted: true, 0, from: ports.lowerBound.bytes, to: ports.upperBound.bytes))
        case .ports(let ports):
            instructions += [
                .compare(.greaterOrEqual, 0, ports.lowerBound.bytes), .compare(.lessOrEqual, 0, ports.upperBound.bytes),
            ]
        case .mark(let mark):
            if mark.mask != .max {
                instructions.append(.bitwise(from: 0, into: 0, mask: hostBytes(mark.mask), xor: [0, 0, 0, 0]))
            }
            instructions.append(.compare(comparison, 0, hostBytes(mark.value)))
        case .interface(let name):
            let bytes = Array(name.description.utf8)
            instructions.append(.compare(comparison, 0, bytes + Array(repeating: 0, count: 16 - bytes.count)))
        case .interfacePrefix(let name): instructions.append(.compare(comparison, 0, Array(name.description.utf8)))
        case .states(let states): instructions += anyBit(states.rawValue)
        case .destinationTranslated: instructions += anyBit(destinationTranslatedStatus)
        case .local: instructions.append(.compare(comparison, 0, hostBytes(localAddressType)))
        }
    }

    mutating func append(_ statement: Statement) {
        switch statement {
        case .match(let field, let operand, let negated): match(field, operand, negated: negated)
        case .lookup(let fields, let set, let negated):
            load(fields)
            instructions.append(.lookup(set: set, key: 0, inverted: negated))
        case .dispatch(let fields, let map):
            load(fields)
            instructions.append(.lookupVerdict(map: map, key: 0))
        case .destinationNAT(let family, let fields, let map):
            load(fields)
            let port = Register(word: KeyType.address(family).paddedLength / 4)
            instructions += [
                .lookupData(map: map, key: 0, into: 0), .destinationNAT(family, address: 0, port: port),
            ]
        case .destinationNATTo(let target):
            let port = Register(word: KeyType.address(target.address.family).paddedLength / 4)
            require(target.address.family)
            instructions += [
                .immediate(target.address.bytes, into: 0), .immediate(target.port.bytes, into: port),
                .destinationNAT(target.address.family, address: 0, port: port),
            ]
        case .remember(let field, let set):
            load([field])
            instructions.append(.remember(set: set, key: 0))
        case .masquerade: instructions.append(.masquerade(fullyRandom: true))
        case .counter: instructions.append(.counter)
        case .limit(let rate, let burst): instructions.append(.limit(rate: rate, seconds: 1, burst: burst))
        case .log(let prefix, let group): instructions.append(.log(prefix: prefix, group: group))
        case .setConntrackMark(let mark):
            instructions += [
                .conntrack(.mark, nil, into: 0),
                .bitwise(from: 0, into: 0, mask: hostBytes(~mark.mask), xor: hostBytes(mark.value)),
                .setConntrack(.mark, from: 0),
            ]
        // NFT_REJECT_ICMPX_UNREACH with NFT_REJECT_ICMPX_PORT_UNREACH: the same words for both families.
        case .reject: instructions.append(.reject(type: 2, code: 1))
        case .verdict(let verdict): instructions.append(.verdict(verdict))
        }
    }
}

extension [Statement] {
    /// What the kernel runs for these statements.
    public var instructions: [Instruction] {
        var lowering = Lowering()
        for statement in self { lowering.append(statement) }
        return lowering.instructions
    }
}

extension IPPrefix {
    /// The prefix length as a mask in network order.
    public var maskBytes: [UInt8] {
        (0..<family.bitWidth / 8).map { index in
            let bits = min(max(length - index * 8, 0), 8)
            return bits == 0 ? 0 : UInt8(truncatingIfNeeded: 0xff << (8 - bits))
        }
    }
}

// MARK: - Text

extension Statement {
    /// The statement in nft's syntax.
    public var text: String {
        switch self {
        case .match(let field, let operand, let negated): field.text + operand.text(negated: negated)
        case .lookup(let fields, let set, let negated):
            fields.map(\.text).joined(separator: " . ") + (negated ? " != @" : " @") + set
        case .dispatch(let fields, let map): fields.map(\.text).joined(separator: " . ") + " vmap @\(map)"
        case .destinationNAT(let family, let fields, let map):
            "dnat \(family.nft) to \(fields.map(\.text).joined(separator: " . ")) map @\(map)"
        case .destinationNATTo(let target): "dnat \(target.address.family.nft) to \(target)"
        case .remember(let field, let set): "update @\(set) { \(field.text) }"
        case .masquerade: "masquerade fully-random"
        case .counter: "counter"
        case .limit(let rate, let burst): "limit rate \(rate)/second burst \(burst) packets"
        case .log(let prefix, let group): "log prefix \"\(prefix)\" group \(group)"
        case .setConntrackMark(let mark):
            "ct mark set ct mark & 0x\(hex(~mark.mask)) | 0x\(hex(mark.value))"
        case .reject: "reject"
        case .verdict(let verdict): verdict.description
        }
    }
}

extension Operand {
    /// The operand with a leading space and its operator where one is written.
    func text(negated: Bool) -> String {
        let equal = negated ? " != " : " "
        switch self {
        case .address(let address): return equal + address.description
        case .prefix(let prefix): return equal + prefix.network.description
        case .transport(let transport): return equal + transport.description
        case .protocolNumber(let number): return equal + String(number)
        case .family(let family): return equal + (family == .ipv4 ? "ipv4" : "ipv6")
        case .port(let port): return equal + port.description
        case .ports(let ports): return equal + "\(ports.lowerBound)-\(ports.upperBound)"
        case .mark(let mark) where mark.mask == .max: return equal + "0x\(hex(mark.value))"
        case .mark(let mark): return " & 0x\(hex(mark.mask))" + (negated ? " != " : " == ") + "0x\(hex(mark.value))"
        case .interface(let name): return equal + "\"\(name)\""
        case .interfacePrefix(let name): return equal + "\"\(name)*\""
        case .states(let states): return equal + states.text
        case .destinationTranslated: return equal + "dnat"
        case .local: return equal + "local"
        }
    }
}

func hex(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
}
