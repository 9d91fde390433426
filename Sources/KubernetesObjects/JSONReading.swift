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
        var reader = JSONReader(bytes: bytes)
        self = try reader.document()
        guard reader.isAtEnd() else { throw reader.error("there is more after the value") }
    }

    /// Reads JSON values one after the other, as in a file of several manifests or a watch's stream.
    public static func all(json bytes: [UInt8]) throws(SyntaxError) -> [FieldValue] {
        var reader = JSONReader(bytes: bytes)
        var values: [FieldValue] = []
        while !reader.isAtEnd() { values.append(try reader.document()) }
        return values
    }
}

/// Reads JSON (RFC 8259) into trees.
///
/// Written here because the decoders at hand drop the order of keys and those that are repeated, and a repeated key
/// must be refused.
private struct JSONReader {
    /// Deeper values than any object has would only use up the stack.
    static let depthLimit = 128

    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
        // Some editors begin a file with a byte order mark.
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { position = 3 }
    }

    func error(_ message: String) -> SyntaxError {
        let line = bytes[..<min(position, bytes.count)].count { $0 == UInt8(ascii: "\n") } + 1
        return SyntaxError(line: line, message: message)
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipBlanks() {
        while position < bytes.count, [0x20, 0x0a, 0x0d, 0x09].contains(bytes[position]) { position += 1 }
    }

    mutating func isAtEnd() -> Bool {
        skipBlanks()
        return position >= bytes.count
    }

    mutating func document() throws(SyntaxError) -> FieldValue { try value(depth: 0) }

    private mutating func value(depth: Int) throws(SyntaxError) -> FieldValue {
        guard depth < Self.depthLimit else { throw error("values are nested more than \(Self.depthLimit) deep") }
        skipBlanks()
        switch current {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), .some(0x30...0x39): return try number()
        case nil: throw error("ends where a value should be")
        case .some: throw error("holds something else where a value should be")
        }
    }

    private mutating func word(_ text: String, _ value: FieldValue) throws(SyntaxError) -> FieldValue {
        guard bytes[position...].starts(with: text.utf8) else {
            throw error("holds something else where a value should be")
        }
        position += text.utf8.count
        return value
    }

    private mutating func object(depth: Int) throws(SyntaxError) -> FieldObject {
        var object = FieldObject()
        position += 1
        skipBlanks()
        if current == UInt8(ascii: "}") {
            position += 1
            return object
        }
        while true {
            skipBlanks()
            guard current == UInt8(ascii: "\"") else { throw error("lacks a key in quotation marks") }
            let key = try string()
            skipBlanks()
            guard current == UInt8(ascii: ":") else { throw error("lacks ':' after a key") }
            position += 1
            object.entries.append(.init(key: key, value: try value(depth: depth + 1)))
            guard try continues(until: UInt8(ascii: "}")) else { return object }
        }
    }

    private mutating func array(depth: Int) throws(SyntaxError) -> [FieldValue] {
        var elements: [FieldValue] = []
        position += 1
        skipBlanks()
        if current == UInt8(ascii: "]") {
            position += 1
            return elements
        }
        while true {
            elements.append(try value(depth: depth + 1))
            guard try continues(until: UInt8(ascii: "]")) else { return elements }
        }
    }

    /// Passes over a comma, or over the end.
    private mutating func continues(until end: UInt8) throws(SyntaxError) -> Bool {
        skipBlanks()
        guard let byte = current, byte == UInt8(ascii: ",") || byte == end else {
            throw error("lacks ',' or '\(Character(UnicodeScalar(end)))'")
        }
        position += 1
        return byte != end
    }

    private mutating func number() throws(SyntaxError) -> FieldValue {
        let start = position
        var isWhole = true
        if current == UInt8(ascii: "-") { position += 1 }
        let first = current
        guard digits() > 0, first != 0x30 || position - start <= (bytes[start] == 0x30 ? 1 : 2) else {
            throw error("holds a malformed number")
        }
        if current == UInt8(ascii: ".") {
            position += 1
            isWhole = false
            guard digits() > 0 else { throw error("holds a malformed number") }
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            position += 1
            isWhole = false
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            guard digits() > 0 else { throw error("holds a malformed number") }
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isWhole, let number = Int(text) { return .integer(number) }
        guard let number = Double(text), number.isFinite else { throw error("holds a number out of range") }
        return .double(number)
    }

    private mutating func digits() -> Int {
        let start = position
        while let byte = current, (0x30...0x39).contains(byte) { position += 1 }
        return position - start
    }

    private mutating func string() throws(SyntaxError) -> String {
        position += 1
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                defer { position += 1 }
                return try text(bytes[start..<position])
            case UInt8(ascii: "\\"): return try escapedString(after: bytes[start..<position])
            case ..<0x20: throw error("holds a control character in a string")
            default: position += 1
            }
        }
        throw error("ends within a string")
    }

    private func text(_ bytes: some Collection<UInt8>) throws(SyntaxError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw error("is no UTF-8") }
        return text
    }

    /// The rest of a string that has escapes in it.
    private mutating func escapedString(after beginning: ArraySlice<UInt8>) throws(SyntaxError) -> String {
        var result = Array(beginning)
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                defer { position += 1 }
                return try text(result)
            case UInt8(ascii: "\\"):
                position += 1
                result += UTF8.encode(try escape())?.map(\.self) ?? []
            case ..<0x20: throw error("holds a control character in a string")
            default:
                result.append(byte)
                position += 1
            }
        }
        throw error("ends within a string")
    }

    private mutating func escape() throws(SyntaxError) -> UnicodeScalar {
        let byte = current
        position += 1
        switch byte {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let unit = try codeUnit()
            if let scalar = UnicodeScalar(unit) { return scalar }
            // Beyond the first plane, JSON writes two surrogates.
            guard (0xd800..<0xdc00).contains(unit), bytes[position...].starts(with: Array("\\u".utf8)) else {
                throw error("holds half a surrogate pair")
            }
            position += 2
            let low = try codeUnit()
            guard (0xdc00..<0xe000).contains(low),
                let scalar = UnicodeScalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))
            else { throw error("holds half a surrogate pair") }
            return scalar
        default: throw error("holds an unknown escape in a string")
        }
    }

    private mutating func codeUnit() throws(SyntaxError) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = current, let digit = Character(UnicodeScalar(byte)).hexDigitValue, byte < 0x80 else {
                throw error("holds a malformed \\u escape")
            }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }
}
