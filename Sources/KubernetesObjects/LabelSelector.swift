/// A choice of objects by their labels; without requirements it chooses all.
///
/// Held in canonical form, so that two selectors that ask for the same thing in another order are equal and one hash.
public struct LabelSelector: Hashable, Sendable {
    /// What one key must satisfy.
    public struct Requirement: Hashable, Comparable, Sendable {
        public enum Operator: Int, Hashable, Sendable {
            case `in`
            /// Also satisfied by objects that lack the key.
            case notIn
            case exists
            case doesNotExist
        }

        public let key: String
        public let `operator`: Operator
        /// Sorted, without repetitions; empty for `exists` and `doesNotExist`.
        public let values: [String]

        public init(_ key: String, _ operator: Operator, _ values: [String] = []) {
            self.key = key
            self.operator = `operator`
            self.values = Set(values).sorted()
        }

        public func matches(_ labels: [String: String]) -> Bool {
            switch `operator` {
            case .in: labels[key].map(values.contains) ?? false
            case .notIn: !(labels[key].map(values.contains) ?? false)
            case .exists: labels[key] != nil
            case .doesNotExist: labels[key] == nil
            }
        }

        public static func < (left: Self, right: Self) -> Bool {
            if left.key != right.key { return left.key < right.key }
            if left.operator != right.operator { return left.operator.rawValue < right.operator.rawValue }
            return left.values.lexicographicallyPrecedes(right.values)
        }
    }

    /// Sorted, without repetitions.
    public let requirements: [Requirement]

    public init(_ requirements: [Requirement]) {
        self.requirements = Set(requirements).sorted()
    }

    public init(matchLabels: [String: String] = [:], matchExpressions: [Requirement] = []) {
        self.init(matchLabels.map { Requirement($0.key, .in, [$0.value]) } + matchExpressions)
    }

    /// The selector `{}`.
    public static let everything = LabelSelector([])

    /// Whether this chooses all objects.
    public var isEmpty: Bool { requirements.isEmpty }

    public func matches(_ labels: [String: String]) -> Bool {
        requirements.allSatisfy { $0.matches(labels) }
    }
}

extension LabelSelector: CustomStringConvertible {
    /// In the notation of `kubectl get -l`, `app=web,tier in (a,b),!legacy`; `everything` where nothing is required.
    ///
    /// Two selectors have the same text only if they are equal.
    public var description: String {
        isEmpty ? "everything" : requirements.map(\.description).joined(separator: ",")
    }
}

extension LabelSelector.Requirement: CustomStringConvertible {
    public var description: String {
        let key = Self.unambiguous(self.key)
        let list = values.map(Self.unambiguous).joined(separator: ",")
        return switch `operator` {
        case .in where values.count == 1: "\(key)=\(list)"
        case .in: "\(key) in (\(list))"
        case .notIn: "\(key) notin (\(list))"
        case .exists: key
        case .doesNotExist: "!\(key)"
        }
    }

    /// Text that is no valid label, which old objects may hold, is quoted: commas and blanks of its own must not count.
    private static func unambiguous(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || "-_./".utf8.contains(byte)
        }
        return isPlain ? text : text.debugDescription
    }
}

extension LabelSelector: FieldReadable {
    /// Reads a selector; anything in it that is not understood makes the whole unreadable.
    ///
    /// A selector without one of its requirements chooses more than was asked for.
    public init(reading field: FieldReader) throws(FieldError) {
        if let unknown = try field.unknownKey(besides: ["matchLabels", "matchExpressions"]) {
            throw FieldError(field: unknown, message: "is no field of a selector")
        }
        self.init(
            matchLabels: try field["matchLabels"].readIfPresent() ?? [:],
            matchExpressions: try field["matchExpressions"].readIfPresent() ?? [])
    }
}

extension LabelSelector.Requirement: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        if let unknown = try field.unknownKey(besides: ["key", "operator", "values"]) {
            throw FieldError(field: unknown, message: "is no field of a requirement")
        }
        let name: String = try field["operator"].read()
        let values = try field["values"]
        let texts: [String] = try values.readIfPresent() ?? []
        switch name {
        case "In", "NotIn":
            guard !texts.isEmpty else { throw values.error("is empty, but \(name) needs values") }
            self.init(try field["key"].read(), name == "In" ? .in : .notIn, texts)
        case "Exists", "DoesNotExist":
            guard texts.isEmpty else { throw values.error("holds values, but \(name) takes none") }
            self.init(try field["key"].read(), name == "Exists" ? .exists : .doesNotExist)
        default:
            throw try field["operator"].error(
                "\(FieldValue.quoted(name)) is none of In, NotIn, Exists, DoesNotExist")
        }
    }
}
