/// Reads JSON (RFC 8259), one value after the other.
///
/// All of it is inlinable, so that each tree has a reader of its own that the compiler knows whole: an agent reads the
/// objects of a cluster with it.
public struct JSONReader<Tree: JSONTree> {
    /// Deeper nesting is refused, because each level takes stack: hostile input must not end the process.
    @inlinable public static var depthLimit: Int { 128 }

    @usableFromInline let bytes: [UInt8]
    @usableFromInline var position: Int

    /// - Parameter position: The offset of the byte to begin at.
    @inlinable
    public init(_ bytes: [UInt8], at position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    /// Reads one value, and nothing may come after it.
    @inlinable
    public static func document(in bytes: [UInt8], at position: Int = 0) throws(JSONError) -> Tree {
        var reader = JSONReader(bytes, at: position)
        let value = try reader.value()
        guard reader.isAtEnd() else { throw reader.fault("unexpected text after the document") }
        return value
    }

    /// Whether nothing but white space is left.
    @inlinable
    public mutating func isAtEnd() -> Bool {
        skipSpace()
        return position >= bytes.count
    }

    /// Reads the next value.
    @inlinable
    public mutating func value() throws(JSONError) -> Tree { try value(depth: 0) }

    @inlinable
    func fault(_ reason: String) -> JSONError { JSONError(reason: reason, offset: position) }

    @inlinable var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    @inlinable
    mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    /// Steps over `byte` where it is next.
    @inlinable
    mutating func accept(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    @inlinable
    mutating func value(depth: Int) throws(JSONError) -> Tree {
        guard depth < Self.depthLimit else { throw fault("nesting deeper than \(Self.depthLimit) levels") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return try number()
        case nil: throw fault("unexpected end of the document")
        case .some: throw fault("unexpected character")
        }
    }

    @inlinable
    mutating func word(_ word: String, _ value: Tree) throws(JSONError) -> Tree {
        guard bytes[position...].starts(with: word.utf8) else { throw fault("unexpected character") }
        position += word.utf8.count
        return value
    }

    @inlinable
    mutating func object(depth: Int) throws(JSONError) -> Tree.Object {
        var object = Tree.emptyObject
        position += 1
        skipSpace()
        if accept(UInt8(ascii: "}")) { return object }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw fault("expected a key in quotes") }
            let key = try string()
            skipSpace()
            guard accept(UInt8(ascii: ":")) else { throw fault("expected ':' after a key") }
            Tree.append(key, try value(depth: depth + 1), to: &object)
            skipSpace()
            if accept(UInt8(ascii: "}")) { return object }
            guard accept(UInt8(ascii: ",")) else { throw fault("expected ',' or '}' in an object") }
        }
    }

    @inlinable
    mutating func array(depth: Int) throws(JSONError) -> [Tree] {
        var elements: [Tree] = []
        position += 1
        skipSpace()
        if accept(UInt8(ascii: "]")) { return elements }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if accept(UInt8(ascii: "]")) { return elements }
            guard accept(UInt8(ascii: ",")) else { throw fault("expected ',' or ']' in an array") }
        }
    }

    @inlinable
    mutating func number() throws(JSONError) -> Tree {
        let start = position
        var isWhole = true
        _ = accept(UInt8(ascii: "-"))
        if !accept(UInt8(ascii: "0")) { try digits() }
        if accept(UInt8(ascii: ".")) {
            isWhole = false
            try digits()
        }
        if accept(UInt8(ascii: "e")) || accept(UInt8(ascii: "E")) {
            isWhole = false
            if !accept(UInt8(ascii: "+")) { _ = accept(UInt8(ascii: "-")) }
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        guard let number = Tree.number(reading: text, isWhole: isWhole) else { throw fault("number out of range") }
        return number
    }

    @inlinable
    mutating func digits() throws(JSONError) {
        let start = position
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw fault("expected a digit") }
    }
}

// MARK: - Strings

extension JSONReader {
    @inlinable
    mutating func string() throws(JSONError) -> String {
        position += 1
        var start = position
        // Nearly every string has no escape, and is decoded in one go.
        var text = ""
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                let rest = try decoded(bytes[start..<position])
                position += 1
                return text.isEmpty ? rest : text + rest
            case UInt8(ascii: "\\"):
                text += try decoded(bytes[start..<position])
                position += 1
                text.unicodeScalars.append(try escape())
                start = position
            case 0..<0x20: throw fault("control character in a string")
            default: position += 1
            }
        }
        throw fault("unexpected end of a string")
    }

    @inlinable
    func decoded(_ bytes: ArraySlice<UInt8>) throws(JSONError) -> String {
        if Tree.repairsText { return String(decoding: bytes, as: UTF8.self) }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw fault("text that is no UTF-8") }
        return text
    }

    @usableFromInline
    mutating func escape() throws(JSONError) -> Unicode.Scalar {
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

    /// The scalar of `\uXXXX`, or of a surrogate pair of them.
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
        guard Tree.repairsText else { throw fault("half a surrogate pair") }
        return "\u{fffd}"
    }

    private mutating func fourHexDigits() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Unicode.Scalar(byte).hexDigit else {
                throw fault("expected four hexadecimal digits")
            }
            value = value << 4 | digit
            position += 1
        }
        return value
    }
}

extension Unicode.Scalar {
    fileprivate var hexDigit: UInt32? {
        switch self {
        case "0"..."9": value - 0x30
        case "a"..."f": value - 0x61 + 10
        case "A"..."F": value - 0x41 + 10
        default: nil
        }
    }
}
