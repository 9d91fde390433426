public import JSONText

/// Where and why a text is no JSON or no YAML.
public struct SyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Counted from 1.
    public var line: Int
    public var message: String

    public init(line: Int, message: String) {
        self.line = line
        self.message = message
    }

    public var description: String { "line \(line): \(message)" }
}

extension FieldValue {
    /// Reads one JSON value and nothing after it.
    public init(json bytes: [UInt8]) throws(SyntaxError) {
        do throws(JSONError) {
            self = try JSONReader.document(in: bytes, at: Self.beginning(of: bytes))
        } catch {
            throw SyntaxError(error, in: bytes)
        }
    }

    /// Reads JSON values one after the other, as in a file of several manifests or a watch's stream.
    public static func all(json bytes: [UInt8]) throws(SyntaxError) -> [FieldValue] {
        var reader = JSONReader<FieldValue>(bytes, at: beginning(of: bytes))
        var values: [FieldValue] = []
        do throws(JSONError) {
            while !reader.isAtEnd() { values.append(try reader.value()) }
        } catch {
            throw SyntaxError(error, in: bytes)
        }
        return values
    }

    /// Some editors begin a file with a byte order mark.
    private static func beginning(of bytes: [UInt8]) -> Int { bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0 }
}

extension SyntaxError {
    fileprivate init(_ error: JSONError, in bytes: [UInt8]) {
        let line = bytes[..<min(error.offset, bytes.count)].count { $0 == UInt8(ascii: "\n") } + 1
        self.init(line: line, message: error.reason)
    }
}

extension FieldValue: JSONTree {
    public static var repairsText: Bool { false }

    public static func number(reading text: String, isWhole: Bool) -> FieldValue? {
        if isWhole, let number = Int(text) { return .integer(number) }
        guard let number = Double(text), number.isFinite else { return nil }
        return .double(number)
    }

    public static var emptyObject: FieldObject { FieldObject() }

    public static func append(_ key: String, _ value: FieldValue, to object: inout FieldObject) {
        object.entries.append(.init(key: key, value: value))
    }
}
