/// Why some bytes are no JSON, and where.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    public let reason: String
    /// The offset of the byte at fault.
    public let offset: Int

    public var description: String { "\(reason) at byte \(offset)" }
}

extension JSONValue {
    /// Input longer than this is refused unread; 8 MiB hold the attachment list of 60,000 pods.
    public static let sizeLimit = 8 << 20
    /// Deeper nesting is refused, because each level takes stack: hostile input must not end the process.
    static let depthLimit = 128

    /// Parses one JSON document (RFC 8259), and nothing after it.
    public init(parsing bytes: [UInt8]) throws(JSONError) {
        guard bytes.count <= Self.sizeLimit else {
            throw JSONError(reason: "document longer than \(Self.sizeLimit) bytes", offset: Self.sizeLimit)
        }
        var parser = JSONParser(bytes: bytes)
        self = try parser.document()
    }

    public init(parsing text: String) throws(JSONError) { try self.init(parsing: Array(text.utf8)) }
}

private struct JSONParser {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(JSONError) -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw fault("unexpected text after the document") }
        return value
    }

    private func fault(_ reason: String) -> JSONError { JSONError(reason: reason, offset: position) }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    /// Steps over `byte` where it is next.
    private mutating func accept(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        guard depth < JSONValue.depthLimit else { throw fault("nesting deeper than \(JSONValue.depthLimit) levels") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"): return .number(try number())
        case .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return .number(try number())
        case nil: throw fault("unexpected end of the document")
        default: throw fault("unexpected character")
        }
    }

    private mutating func word(_ word: String, _ value: JSONValue) throws(JSONError) -> JSONValue {
        guard bytes[position...].starts(with: word.utf8) else { throw fault("unexpected character") }
        position += word.utf8.count
        return value
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
        position += 1
        var members: [JSONObject.Member] = []
        skipSpace()
        if accept(UInt8(ascii: "}")) { return JSONObject(members: []) }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw fault("expected a key in quotes") }
            let key = try string()
            skipSpace()
            guard accept(UInt8(ascii: ":")) else { throw fault("expected ':' after a key") }
            members.append(.init(key: key, value: try value(depth: depth + 1)))
            skipSpace()
            if accept(UInt8(ascii: "}")) { return JSONObject(members: members) }
            guard accept(UInt8(ascii: ",")) else { throw fault("expected ',' or '}' in an object") }
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> [JSONValue] {
        position += 1
        var elements: [JSONValue] = []
        skipSpace()
        if accept(UInt8(ascii: "]")) { return [] }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if accept(UInt8(ascii: "]")) { return elements }
            guard accept(UInt8(ascii: ",")) else { throw fault("expected ',' or ']' in an array") }
        }
    }

    private mutating func number() throws(JSONError) -> JSONNumber {
        let start = position
        _ = accept(UInt8(ascii: "-"))
        if !accept(UInt8(ascii: "0")) { try digits() }
        if accept(UInt8(ascii: ".")) { try digits() }
        if accept(UInt8(ascii: "e")) || accept(UInt8(ascii: "E")) {
            if !accept(UInt8(ascii: "+")) { _ = accept(UInt8(ascii: "-")) }
            try digits()
        }
        return JSONNumber(checked: String(decoding: bytes[start..<position], as: UTF8.self))
    }

    private mutating func digits() throws(JSONError) {
        let start = position
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw fault("expected a digit") }
    }

    private mutating func string() throws(JSONError) -> String {
        position += 1
        var start = position
        // Nearly every string has no escape and is decoded in one go; invalid UTF-8 is repaired as Go's decoder does.
        var text = ""
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                text += String(decoding: bytes[start..<position], as: UTF8.self)
                position += 1
                return text
            case UInt8(ascii: "\\"):
                text += String(decoding: bytes[start..<position], as: UTF8.self)
                position += 1
                text.unicodeScalars.append(try escape())
                start = position
            case 0..<0x20: throw fault("control character in a string")
            default: position += 1
            }
        }
        throw fault("unexpected end of a string")
    }

    private mutating func escape() throws(JSONError) -> Unicode.Scalar {
        guard let byte = next else { throw fault("unexpected end of a string") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): return try unicodeEscape()
        default:
            position -= 1
            throw fault("unknown escape")
        }
    }

    /// The scalar of `\uXXXX` or of a surrogate pair of them; half a pair becomes U+FFFD, as in Go's decoder.
    private mutating func unicodeEscape() throws(JSONError) -> Unicode.Scalar {
        let first = try fourHexDigits()
        if let scalar = Unicode.Scalar(first) { return scalar }
        let retreat = position
        if first < 0xdc00, accept(UInt8(ascii: "\\")), accept(UInt8(ascii: "u")) {
            let second = try fourHexDigits()
            if (0xdc00...0xdfff).contains(second),
                let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
            {
                return scalar
            }
        }
        position = retreat
        return "\u{fffd}"
    }

    private mutating func fourHexDigits() throws(JSONError) -> UInt32 {
        guard position + 4 <= bytes.count else { throw fault("expected four hexadecimal digits") }
        let digits = String(decoding: bytes[position..<position + 4], as: UTF8.self)
        guard digits.utf8.first != UInt8(ascii: "+"), let value = UInt32(digits, radix: 16) else {
            throw fault("expected four hexadecimal digits")
        }
        position += 4
        return value
    }
}
