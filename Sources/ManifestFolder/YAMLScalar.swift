import KubernetesObjects

/// What a plain scalar of YAML means: a boolean, a number, nothing, or the text itself.
///
/// The rules are those of `kubectl` and the API server (YAML 1.1 as `sigs.k8s.io/yaml` has it), so that a file means
/// here what it means there: an unquoted `on` is true and `010` is eight.
enum YAMLScalar {
    static func value(of text: String) -> FieldValue {
        // Nearly all scalars are words; only these bytes begin anything else.
        guard let first = text.utf8.first else { return .null }
        switch first {
        case UInt8(ascii: "~"): return text == "~" ? .null : .string(text)
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."), 0x30...0x39:
            return number(text) ?? .string(text)
        default: return word(text)
        }
    }

    private static func word(_ text: String) -> FieldValue {
        guard text.utf8.count <= 5 else { return .string(text) }
        switch text {
        case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON": return .bool(true)
        case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF": return .bool(false)
        case "null", "Null", "NULL": return .null
        default: return .string(text)
        }
    }

    private static func number(_ text: String) -> FieldValue? {
        let digits = text.filter { $0 != "_" }
        if let number = integer(digits) { return .integer(number) }
        guard isDecimal(digits), let number = Double(digits), number.isFinite else { return nil }
        // Converted to JSON, 80.0 is 80.
        if let whole = Int(exactly: number), number.magnitude < 9_007_199_254_740_992 { return .integer(whole) }
        return .double(number)
    }

    private static func integer(_ text: String) -> Int? {
        var digits = Substring(text)
        var sign = ""
        if let first = digits.first, first == "-" || first == "+" {
            sign = first == "-" ? "-" : ""
            digits.removeFirst()
        }
        // `Int(_:radix:)` would take a second sign.
        guard let first = digits.utf8.first, (0x30...0x39).contains(first) else { return nil }
        let prefixes: [(String, Int)] = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)]
        for (prefix, radix) in prefixes where digits.hasPrefix(prefix) {
            let rest = digits.dropFirst(2)
            guard let first = rest.first, first != "-", first != "+" else { return nil }
            return Int(sign + rest, radix: radix)
        }
        let isOctal = first == 0x30 && digits.utf8.count > 1
        return Int(sign + digits, radix: isOctal ? 8 : 10)
    }

    /// Whether this is a decimal number: digits with at most one point, then perhaps an exponent.
    private static func isDecimal(_ text: String) -> Bool {
        var rest = Substring(text).utf8
        func digits() -> Int {
            let count = rest.prefix { (0x30...0x39).contains($0) }.count
            rest = rest.dropFirst(count)
            return count
        }
        func sign() {
            if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
                rest = rest.dropFirst()
            }
        }
        sign()
        let whole = digits()
        var fraction = 0
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            fraction = digits()
        }
        guard whole + fraction > 0 else { return false }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            sign()
            guard digits() > 0 else { return false }
        }
        return rest.isEmpty
    }
}
