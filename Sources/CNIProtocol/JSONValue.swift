/// A JSON value that keeps what it does not understand.
///
/// A plugin passes on keys that it does not know, in the order and the notation in which they came, and matches the
/// keys that it knows in any case. `Codable` can do neither, and FoundationEssentials would double the size of a binary
/// that is started once per pod operation (6 MB to 14 MB, 12 ms to 16 ms when its pages are cold), so the tree is our
/// own.
public enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case number(JSONNumber)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// What the value is, in words for messages.
    var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    public var string: String? { if case .string(let text) = self { text } else { nil } }
    public var array: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
    public var object: JSONObject? { if case .object(let object) = self { object } else { nil } }
    public var integer: Int? { if case .number(let number) = self { number.integer } else { nil } }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral text: String) { self = .string(text) }
    public init(integerLiteral number: Int) { self = .number(JSONNumber(number)) }
    public init(booleanLiteral truth: Bool) { self = .bool(truth) }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral members: (String, JSONValue)...) { self = .object(JSONObject(members)) }
}

/// A number in the notation in which it came, so that passing it on loses nothing.
public struct JSONNumber: Hashable, Sendable {
    /// Digits as JSON allows them.
    let text: String

    public init(_ number: Int) { text = String(number) }

    init(checked text: String) { self.text = text }

    /// The number, where it is whole and fits; `1e3` and `1500.0` are whole.
    public var integer: Int? { Int(text) ?? Double(text).flatMap(Int.init(exactly:)) }
}

/// An object whose members keep their order and whose keys match in any case.
///
/// The reference plugins are written in Go, whose decoder ignores the case of keys; container runtimes came to rely on
/// it (`HostPort`, `bandWidth`). Of several keys that match, the last one counts, as there.
public struct JSONObject: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    public struct Member: Hashable, Sendable {
        public var key: String
        public var value: JSONValue
    }

    public private(set) var members: [Member]

    public init(_ members: [(String, JSONValue)] = []) {
        self.members = members.map { Member(key: $0.0, value: $0.1) }
    }

    public init(dictionaryLiteral members: (String, JSONValue)...) { self.init(members) }

    init(members: [Member]) { self.members = members }

    mutating func append(_ member: Member) { members.append(member) }

    public var isEmpty: Bool { members.isEmpty }

    /// The value of the last key that matches; setting replaces every key that matches, nil removes them.
    public subscript(key: String) -> JSONValue? {
        get { members.last { $0.key.matches(key) }?.value }
        set {
            let place = members.firstIndex { $0.key.matches(key) }
            members.removeAll { $0.key.matches(key) }
            if let newValue {
                members.insert(Member(key: key, value: newValue), at: place ?? members.endIndex)
            }
        }
    }

    /// The object without the members whose keys match one of these.
    public func dropping(_ keys: [String]) -> JSONObject {
        JSONObject(members: members.filter { member in !keys.contains { member.key.matches($0) } })
    }
}

extension String {
    /// Whether two keys are the same but for the case of ASCII letters.
    fileprivate func matches(_ other: String) -> Bool {
        if self == other { return true }
        let left = utf8
        let right = other.utf8
        return left.count == right.count && zip(left, right).allSatisfy { $0.lowercasedASCII == $1.lowercasedASCII }
    }
}

extension UInt8 {
    fileprivate var lowercasedASCII: UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) ? self | 0x20 : self
    }
}
