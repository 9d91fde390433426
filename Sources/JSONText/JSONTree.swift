/// What JSON is read into: a tree that keeps the order of an object's keys and those that are given twice.
///
/// The decoders at hand drop both. Two trees need them: manifests, where a repeated key must be refused, and CNI's
/// documents, whose unknown keys are passed on as they came. Most of it is what the cases of an enumeration give.
public protocol JSONTree {
    associatedtype Object

    /// Whether text that is no Unicode is repaired, as Go's decoder does, instead of refused.
    static var repairsText: Bool { get }

    static var null: Self { get }
    static func bool(_ value: Bool) -> Self
    static func string(_ text: String) -> Self
    static func array(_ elements: [Self]) -> Self
    static func object(_ object: Object) -> Self

    /// - Parameter text: The number as it is written, well-formed.
    /// - Parameter isWhole: Whether it has neither a fraction nor an exponent.
    /// - Returns: nil where the tree has no room for it.
    static func number(reading text: String, isWhole: Bool) -> Self?

    static var emptyObject: Object { get }
    static func append(_ key: String, _ value: Self, to object: inout Object)
}

/// Why some bytes are no JSON, and where.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    public let reason: String
    /// The offset of the byte at fault.
    public let offset: Int

    public init(reason: String, offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    public var description: String { "\(reason) at byte \(offset)" }
}
