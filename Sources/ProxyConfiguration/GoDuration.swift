public import KubernetesObjects

/// A span of time as Go writes it, and so Kubernetes: `1h30m`, `1.5s`, `0`.
public struct GoDuration: Hashable, Sendable, LosslessStringConvertible, FieldReadable {
    public var duration: Duration

    public init(_ duration: Duration) { self.duration = duration }

    private static let units: KeyValuePairs<String, Double> = [
        "ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9,
    ]

    /// Parses a sequence of decimal numbers with units; a bare `0` needs none.
    public init?(_ text: String) {
        var rest = text[...]
        let isNegative = rest.hasPrefix("-")
        if isNegative || rest.hasPrefix("+") { rest = rest.dropFirst() }
        guard !rest.isEmpty, rest.utf8.count <= 100 else { return nil }
        var nanoseconds = 0.0
        if rest != "0" {
            while !rest.isEmpty {
                let digits = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
                rest = rest.dropFirst(digits.count)
                let unit = rest.prefix { !($0.isASCII && $0.isNumber || $0 == ".") }
                rest = rest.dropFirst(unit.count)
                guard digits.contains(where: \.isNumber), let number = Double(digits),
                    let factor = Self.units.first(where: { $0.key == unit })?.value
                else { return nil }
                nanoseconds += number * factor
            }
        }
        // Go counts nanoseconds in 63 bits.
        guard nanoseconds < Double(Int64.max) else { return nil }
        duration = .nanoseconds((isNegative ? -1 : 1) * Int64(nanoseconds.rounded()))
    }

    public init(reading field: FieldReader) throws(FieldError) {
        let text = try field.read(as: String.self)
        guard let value = GoDuration(text) else {
            throw field.error("\"\(text.prefix(60))\" is no duration (1h30m, 5s)")
        }
        self = value
    }

    /// As Go prints it: `1h30m0s`, `1.5s`, `100ms`.
    public var description: String {
        let (seconds, attoseconds) = duration.components
        var nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
        if nanoseconds == 0 { return "0s" }
        let sign = nanoseconds < 0 ? "-" : ""
        nanoseconds = abs(nanoseconds)
        if nanoseconds < 1_000_000_000 {
            let unit: (String, Int64) =
                nanoseconds < 1000 ? ("ns", 1) : nanoseconds < 1_000_000 ? ("µs", 1000) : ("ms", 1_000_000)
            return sign + Self.decimal(nanoseconds, unit.1) + unit.0
        }
        let minutes = nanoseconds / 60_000_000_000
        var text = sign
        if minutes >= 60 { text += "\(minutes / 60)h" }
        if minutes > 0 { text += "\(minutes % 60)m" }
        return text + Self.decimal(nanoseconds % 60_000_000_000, 1_000_000_000) + "s"
    }

    private static func decimal(_ value: Int64, _ unit: Int64) -> String {
        guard value % unit != 0 else { return String(value / unit) }
        var fraction = String(value % unit + unit).dropFirst()
        while fraction.hasSuffix("0") { fraction.removeLast() }
        return "\(value / unit).\(fraction)"
    }
}
