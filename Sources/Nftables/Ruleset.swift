public import NetworkAddresses

/// A table's address in the kernel: its family and its name.
public struct TableName: Hashable, Sendable, CustomStringConvertible {
    public var family: TableFamily
    public var name: String

    public init(_ family: TableFamily, _ name: String) {
        self.family = family
        self.name = name
    }

    public var description: String { "\(family) \(name)" }
}

/// `NFPROTO_*` of tables.
public enum TableFamily: UInt32, Hashable, Sendable, CustomStringConvertible {
    case inet = 1
    case ip = 2
    case arp = 3
    case netdev = 5
    case bridge = 7
    case ip6 = 10

    public var description: String {
        switch self {
        case .inet: "inet"
        case .ip: "ip"
        case .arp: "arp"
        case .netdev: "netdev"
        case .bridge: "bridge"
        case .ip6: "ip6"
        }
    }
}

/// One table with everything in it, as a value.
///
/// Sets and chains are held by name; the kernel's handles do not appear, because equal content is what counts.
public struct Ruleset: Hashable, Sendable {
    public var table: TableName
    public var sets: [String: NamedSet]
    public var chains: [String: Chain]

    public init(_ table: TableName, sets: [String: NamedSet] = [:], chains: [String: Chain] = [:]) {
        self.table = table
        self.sets = sets
        self.chains = chains
    }
}

/// A chain and its rules.
public struct Chain: Hashable, Sendable {
    /// Where packets enter; nil for a chain that only rules and maps lead to.
    public var hook: Hook?
    public var rules: [Rule]
    /// Shown by `nft list`; the Kubernetes objects the chain exists for.
    public var comment: String?

    public init(hook: Hook? = nil, comment: String? = nil, _ rules: [Rule]) {
        self.hook = hook
        self.rules = rules
        self.comment = comment.map(annotation)
    }
}

/// A base chain's place in the kernel's packet path.
public struct Hook: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable {
        case filter
        case nat
        case route
    }

    /// `NF_INET_*`.
    public enum Point: UInt32, Hashable, Sendable, CustomStringConvertible {
        case prerouting = 0
        case input = 1
        case forward = 2
        case output = 3
        case postrouting = 4
        /// Before prerouting, on one device; only seen in tables of others.
        case ingress = 5

        public var description: String {
            switch self {
            case .prerouting: "prerouting"
            case .input: "input"
            case .forward: "forward"
            case .output: "output"
            case .postrouting: "postrouting"
            case .ingress: "ingress"
            }
        }
    }

    public var kind: Kind
    public var point: Point
    /// Lower runs first: conntrack is at -200, DNAT at -100, filter at 0, SNAT at 100.
    public var priority: Int32
    /// What happens at the chain's end. Ours accept, because a drop should be a rule with a name; others' may drop.
    public var policy: Policy

    public enum Policy: UInt32, Hashable, Sendable {
        case drop = 0
        case accept = 1
    }

    public init(_ kind: Kind, _ point: Point, priority: Int32, policy: Policy = .accept) {
        self.kind = kind
        self.point = point
        self.priority = priority
        self.policy = policy
    }
}

/// A rule of ours, or one read from the kernel.
///
/// Equality is that of what runs, and of the comment; statements only remember how it was written.
public struct Rule: Hashable, Sendable {
    /// What the rule was written as; empty for a rule read from the kernel.
    public let statements: [Statement]
    public let instructions: [Instruction]
    public let comment: String?
    /// The kernel's number for the rule within its table; nil for a rule of our own making.
    public var handle: UInt64?

    public init(_ statements: Statement..., comment: String? = nil) {
        self.init(statements, comment: comment)
    }

    public init(_ statements: [Statement], comment: String? = nil) {
        self.statements = statements
        instructions = statements.instructions
        self.comment = comment.map(annotation)
    }

    /// A rule as the kernel tells it.
    public init(instructions: [Instruction], comment: String?, handle: UInt64) {
        statements = []
        self.instructions = instructions
        self.comment = comment
        self.handle = handle
    }

    public static func == (left: Rule, right: Rule) -> Bool {
        left.instructions == right.instructions && left.comment == right.comment
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(instructions)
        hasher.combine(comment)
    }
}

/// A set or a map, and its elements by key.
public struct NamedSet: Hashable, Sendable {
    public var definition: SetDefinition
    public var elements: [ElementKey: Element]

    public init(_ definition: SetDefinition, _ elements: [Element] = []) {
        self.definition = definition
        self.elements = Dictionary(elements.map { ($0.key, $0) }) { first, _ in first }
    }
}

/// What a set may hold; it cannot change while the set exists.
public struct SetDefinition: Hashable, Sendable {
    public enum Data: Hashable, Sendable {
        case verdict
        case values([KeyType])
    }

    public var key: [KeyType]
    /// Nil for a plain set.
    public var data: Data?
    /// Whether elements are ranges. Only for sets that seldom change: each edit costs with the size of the set.
    public var isInterval: Bool
    /// Seconds after which an element is forgotten, in a set that rules write to; nil for a set that only we write to.
    ///
    /// What rules put there is not ours to compare: such a set's elements are no part of a table's content.
    public var expiry: UInt64?

    public init(key: [KeyType], data: Data? = nil, isInterval: Bool = false, expiry: UInt64? = nil) {
        // The kernel pads the parts of a concatenation to words, but not a lone part; none of ours needs that.
        precondition(key.count > 1 || key[0].length == key[0].paddedLength, "a lone \(key[0]) is no key of ours")
        self.key = key
        self.data = data
        self.isInterval = isInterval
        self.expiry = expiry
    }

    /// How many elements a set that rules write to can have; one more is not remembered.
    public static let mostRemembered: UInt32 = 65535
}

/// The bytes of an element's key: each part padded to whole words, in the order of the set's key types.
public struct ElementKey: Hashable, Comparable, Sendable {
    public let bytes: [UInt8]

    public init(bytes: [UInt8]) { self.bytes = bytes }

    public init(_ parts: KeyPart...) { self.init(parts) }

    public init(_ parts: [KeyPart]) {
        var bytes: [UInt8] = []
        // Exactly: tables have many keys.
        bytes.reserveCapacity(parts.reduce(0) { $0 + $1.length })
        for part in parts { part.append(to: &bytes) }
        self.bytes = bytes
    }

    /// A key with a number behind it.
    public init(_ key: ElementKey, _ number: UInt32) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(key.bytes.count + 4)
        bytes.append(contentsOf: key.bytes)
        KeyPart.number(number).append(to: &bytes)
        self.bytes = bytes
    }

    public static func < (left: Self, right: Self) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }

    /// By words and not, as an array does it, byte by byte: keys are hashed more often than anything else is done.
    public func hash(into hasher: inout Hasher) {
        var word: UInt64 = 0
        for (index, byte) in bytes.enumerated() {
            word = word << 8 | UInt64(byte)
            if index & 7 == 7 { hasher.combine(word) }
        }
        // What the last whole word left, of keys whose length is no multiple of eight, and that length.
        hasher.combine(word ^ UInt64(bytes.count) << 56)
    }
}

/// A value that can stand in a set's key or data.
public enum KeyPart: Hashable, Sendable {
    case address(IPAddress)
    case transport(TransportProtocol)
    case port(Port)
    case number(UInt32)
    case interface(InterfaceName)
    case ethernet(MACAddress)

    /// Bytes of the part, in whole words.
    var length: Int {
        switch self {
        case .address(.v4), .transport, .port, .number: 4
        case .ethernet: 8
        case .address(.v6), .interface: 16
        }
    }

    /// Byte by byte, for this is what most of the making of a large table consists of.
    func append(to bytes: inout [UInt8]) {
        switch self {
        case .address(.v4(let address)): Self.append(address.rawValue, to: &bytes)
        case .address(.v6(let address)):
            for shift in [96, 64, 32, 0] as [UInt128] {
                Self.append(UInt32(truncatingIfNeeded: address.rawValue >> shift), to: &bytes)
            }
        case .transport(let transport): Self.append(UInt32(transport.rawValue) << 24, to: &bytes)
        case .port(let port): Self.append(UInt32(port.rawValue) << 16, to: &bytes)
        // As it lies in this machine's memory.
        case .number(let number): Self.append(number.bigEndian, to: &bytes)
        case .interface(let name):
            let text = name.description.utf8
            bytes.append(contentsOf: text)
            bytes.append(contentsOf: repeatElement(0, count: length - text.count))
        case .ethernet(let mac):
            bytes += mac.bytes
            bytes += [0, 0]
        }
    }

    private static func append(_ word: UInt32, to bytes: inout [UInt8]) {
        bytes.append(UInt8(truncatingIfNeeded: word >> 24))
        bytes.append(UInt8(truncatingIfNeeded: word >> 16))
        bytes.append(UInt8(truncatingIfNeeded: word >> 8))
        bytes.append(UInt8(truncatingIfNeeded: word))
    }
}

/// A member of a set, or an entry of a map.
///
/// Equality is that of what the kernel holds.
public struct Element: Hashable, Sendable {
    public enum Value: Hashable, Sendable {
        case verdict(Verdict)
        case data(ElementKey)
    }

    public var key: ElementKey
    /// The last key of the range, in an interval set; nil elsewhere.
    public var last: ElementKey?
    public var value: Value?
    /// The assembly's number of the object that put the element there; 0 outside of assemblies. Here, because a large
    /// table has no room for another dictionary of its keys, and in a gap that the layout leaves.
    var holder: UInt32 = 0
    /// The Kubernetes object the element exists for.
    public var comment: String?

    public init(_ key: ElementKey, through last: ElementKey? = nil, _ value: Value? = nil, comment: String? = nil) {
        self.key = key
        self.last = last
        self.value = value
        self.comment = comment.map(annotation)
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.key == right.key && left.value == right.value && left.comment == right.comment && left.last == right.last
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(key)
        hasher.combine(last)
        hasher.combine(value)
        hasher.combine(comment)
    }
}

/// The longest comment the kernel's tools read back, in bytes.
public let longestComment = 127

/// A comment that `nft` can print and read again: no quotes, no control characters, at most 127 bytes.
func annotation(_ text: String) -> String {
    let bytes = text.utf8Span.span
    if bytes.count <= longestComment, bytes.indices.allSatisfy({ isPrintable(bytes[$0]) }) { return text }
    var kept = ""
    var count = 0
    for character in text.unicodeScalars {
        guard count < longestComment else { break }
        kept.unicodeScalars.append(character.isASCII && isPrintable(UInt8(character.value)) ? character : "?")
        count += 1
    }
    return kept
}

private func isPrintable(_ byte: UInt8) -> Bool { byte >= 0x20 && byte < 0x7f && byte != UInt8(ascii: "\"") }
