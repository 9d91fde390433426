/// The way from an object's root to one of its fields, printed as `spec.ports[0].port`.
public indirect enum FieldPath: Sendable, CustomStringConvertible {
    case root
    case key(FieldPath, String)
    case index(FieldPath, Int)

    public var description: String {
        switch self {
        case .root: ""
        case .key(.root, let key): Self.printable(key)
        case .key(let parent, let key): "\(parent).\(Self.printable(key))"
        case .index(let parent, let index): "\(parent)[\(index)]"
        }
    }

    /// Keys come from whoever wrote the file: what is not a plain word is quoted.
    private static func printable(_ key: String) -> String {
        let isPlain = key.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || "-_/".utf8.contains(byte)
        }
        return isPlain && !key.isEmpty && key.utf8.count <= 60 ? key : FieldValue.quoted(key)
    }
}

/// A field that cannot be used, and why.
public struct FieldError: Error, Hashable, Sendable {
    public var field: String
    public var message: String

    public init(field: FieldPath, message: String) {
        self.field = field.description
        self.message = message
    }

    /// The same error, with what it leads to.
    func adding(_ consequence: String) -> FieldError {
        var error = self
        error.message += "; " + consequence
        return error
    }
}

/// The fields that were passed over while an object was read.
public final class FieldProblems {
    public private(set) var found: [FieldError] = []

    public init() {}

    public func add(_ problem: FieldError) { found.append(problem) }
}

/// A value that can be read from one field.
public protocol FieldReadable {
    init(reading field: FieldReader) throws(FieldError)
}

/// One field of an object being read: its value and the way to it.
///
/// Absent and null are the same, as they are for the API server.
public struct FieldReader {
    public let value: FieldValue
    public let path: FieldPath
    /// Collects what is passed over, for all readers of one object.
    public let problems: FieldProblems

    public init(_ value: FieldValue, path: FieldPath = .root, problems: FieldProblems) {
        self.value = value
        self.path = path
        self.problems = problems
    }

    public var isAbsent: Bool { value == .null }

    /// The field of that name; absent in a map that is absent itself.
    public subscript(key: String) -> FieldReader {
        get throws(FieldError) {
            FieldReader(try map()?[key] ?? .null, path: .key(path, key), problems: problems)
        }
    }

    /// The field's map, nil where it is absent.
    public func map() throws(FieldError) -> FieldObject? {
        switch value {
        case .null: return nil
        case .object(let object): return object
        default: throw mismatch("a map")
        }
    }

    /// The fields of a list; none where it is absent.
    public func elements() throws(FieldError) -> [FieldReader] {
        switch value {
        case .null: return []
        case .array(let elements):
            return elements.enumerated().map { index, element in
                FieldReader(element, path: .index(path, index), problems: problems)
            }
        default: throw mismatch("a list")
        }
    }

    /// The field's value, which must be there.
    public func read<Value: FieldReadable>(as type: Value.Type = Value.self) throws(FieldError) -> Value {
        guard !isAbsent else { throw error("is missing") }
        return try Value(reading: self)
    }

    /// The field's value, or `fallback`, of which one must be there.
    public func read<Value: FieldReadable>(default fallback: Value?) throws(FieldError) -> Value {
        if let fallback, isAbsent { return fallback }
        return try read()
    }

    public func readIfPresent<Value: FieldReadable>(as type: Value.Type = Value.self) throws(FieldError) -> Value? {
        isAbsent ? nil : try Value(reading: self)
    }

    /// The list's elements without those that cannot be read, each of which is noted.
    public func readUsable<Value: FieldReadable>(as type: Value.Type = Value.self) throws(FieldError) -> [Value] {
        try elements().compactMap { element in element.noting { () throws(FieldError) in try element.read() } }
    }

    /// What `body` reads, or nil and a note.
    public func noting<Value>(_ body: () throws(FieldError) -> Value) -> Value? {
        do {
            return try body()
        } catch {
            problems.add(error)
            return nil
        }
    }

    /// The value that `table` has for the field's text; `fallback` where the field is absent.
    public func choice<Value>(
        _ table: KeyValuePairs<String, Value>, default fallback: Value
    ) throws(FieldError) -> Value {
        guard let text = try readIfPresent(as: String.self) else { return fallback }
        guard let match = table.first(where: { $0.key == text }) else {
            let known = table.map(\.key).joined(separator: ", ")
            throw error("\(value.excerpt) is none of \(known)")
        }
        return match.value
    }

    public func error(_ message: String) -> FieldError { FieldError(field: path, message: message) }

    /// The error of a field that holds another type than `expected`.
    public func mismatch(_ expected: String) -> FieldError {
        switch value {
        case .null: error("is missing")
        case .array, .object: error("is \(value.typeName), not \(expected)")
        case .bool, .integer, .double, .string: error("is \(value.typeName) (\(value.excerpt)), not \(expected)")
        }
    }

    /// The first key of the map that is none of `known`.
    ///
    /// Where a field that is not understood could narrow what is allowed, passing over it would widen it.
    public func unknownKey(besides known: Set<String>) throws(FieldError) -> FieldPath? {
        try map()?.entries.first { !known.contains($0.key) && $0.value != .null }.map { .key(path, $0.key) }
    }
}
