/// The tree every decoder produces, whether it reads YAML or JSON.
///
/// Objects are read from this tree and from nothing else, so that a manifest and an API server's answer are the same
/// thing by the time anything is decided.
public enum FieldValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case double(Double)
    case string(String)
    case array([FieldValue])
    case object(FieldObject)
}

/// A map of the tree, in the order it was written.
public struct FieldObject: Hashable, Sendable {
    public struct Entry: Hashable, Sendable {
        public var key: String
        public var value: FieldValue

        public init(key: String, value: FieldValue) {
            self.key = key
            self.value = value
        }
    }

    /// What was written, repeated keys included: a reader must be able to refuse them.
    public var entries: [Entry]

    public init(_ entries: [Entry] = []) { self.entries = entries }

    /// The value of the first entry of that name.
    ///
    /// Setting replaces it where it stands, or appends; setting nil removes it.
    public subscript(key: String) -> FieldValue? {
        // Objects have few keys: comparing them costs less than hashing one.
        get { entries.first { $0.key == key }?.value }
        set {
            let index = entries.firstIndex { $0.key == key }
            switch (index, newValue) {
            case (let index?, let value?): entries[index].value = value
            case (let index?, nil): entries.remove(at: index)
            case (nil, let value?): entries.append(Entry(key: key, value: value))
            case (nil, nil): break
            }
        }
    }

    /// A key that is written more than once, if there is one.
    public var repeatedKey: String? {
        if entries.count <= 8 {
            for index in entries.indices.dropFirst()
            where entries[..<index].contains(where: { $0.key == entries[index].key }) {
                return entries[index].key
            }
            return nil
        }
        var seen: Set<String> = []
        return entries.first { !seen.insert($0.key).inserted }?.key
    }
}

extension FieldValue {
    /// The value under `key` of a map; nil for anything that is no map.
    ///
    /// Setting makes a map of anything that is none, as patching an absent `status` needs.
    public subscript(key: String) -> FieldValue? {
        get {
            guard case .object(let object) = self else { return nil }
            return object[key]
        }
        set {
            var object = FieldObject()
            if case .object(let present) = self { object = present }
            object[key] = newValue
            self = .object(object)
        }
    }

    public var string: String? {
        guard case .string(let text) = self else { return nil }
        return text
    }

    public var array: [FieldValue]? {
        guard case .array(let elements) = self else { return nil }
        return elements
    }

    /// What this is, for messages: `a string`, `a map`.
    var typeName: String {
        switch self {
        case .null: "nothing"
        case .bool: "a boolean"
        case .integer, .double: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "a map"
        }
    }

    /// The value itself where it is short, its type where it is not.
    var excerpt: String {
        switch self {
        case .null, .array, .object: typeName
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .double(let value): "\(value)"
        case .string(let text): Self.quoted(text)
        }
    }

    /// Text between quotation marks, cut to 60 characters, with nothing in it that could move a terminal's cursor.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars.prefix(60) { result += scalar.escaped(asASCII: false) }
        return result + (text.unicodeScalars.count > 60 ? "…\"" : "\"")
    }
}

extension FieldValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: FieldValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, FieldValue)...) {
        self = .object(FieldObject(elements.map { .init(key: $0.0, value: $0.1) }))
    }
}
