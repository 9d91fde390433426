/// A moment as the API server writes it: RFC 3339, to the second.
public struct Timestamp: Hashable, Comparable, Sendable {
    public var secondsSince1970: Int64

    public init(secondsSince1970: Int64) { self.secondsSince1970 = secondsSince1970 }

    public static func < (left: Self, right: Self) -> Bool { left.secondsSince1970 < right.secondsSince1970 }
}

extension Timestamp: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        guard let moment = Timestamp(try field.read(as: String.self)) else {
            throw field.error("\(field.value.excerpt) is no time (2026-01-31T12:00:00Z)")
        }
        self = moment
    }
}

extension Timestamp: LosslessStringConvertible {
    /// Parses `2026-01-31T12:00:00Z`, with fractions of a second passed over and offsets such as `+02:00` applied.
    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>, upTo limit: Int) -> Int? {
            guard range.upperBound <= bytes.count else { return nil }
            var value = 0
            for byte in bytes[range] {
                guard (0x30...0x39).contains(byte) else { return nil }
                value = value * 10 + Int(byte - 0x30)
            }
            return value <= limit ? value : nil
        }
        guard (20...40).contains(bytes.count), bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
            bytes[10] | 0x20 == UInt8(ascii: "t"), bytes[13] == UInt8(ascii: ":"), bytes[16] == UInt8(ascii: ":"),
            let year = number(0..<4, upTo: 9999), let month = number(5..<7, upTo: 12), month > 0,
            let day = number(8..<10, upTo: 31), day > 0, let hour = number(11..<13, upTo: 23),
            let minute = number(14..<16, upTo: 59), let second = number(17..<19, upTo: 60)
        else { return nil }
        var zone = 19
        if bytes[zone] == UInt8(ascii: ".") {
            zone += 1
            while zone < bytes.count, (0x30...0x39).contains(bytes[zone]) { zone += 1 }
        }
        var offset = 0
        switch zone < bytes.count ? bytes[zone] : 0 {
        case UInt8(ascii: "Z"), UInt8(ascii: "z"):
            guard bytes.count == zone + 1 else { return nil }
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            guard bytes.count == zone + 6, bytes[zone + 3] == UInt8(ascii: ":"),
                let hours = number(zone + 1..<zone + 3, upTo: 23), let minutes = number(zone + 4..<zone + 6, upTo: 59)
            else { return nil }
            offset = (hours * 60 + minutes) * (bytes[zone] == UInt8(ascii: "-") ? -60 : 60)
        default: return nil
        }
        let clock = hour * 3600 + minute * 60 + second - offset
        secondsSince1970 = Int64(Self.days(year: year, month: month, day: day) * 86400 + clock)
    }

    /// In UTC, as the API server writes it.
    public var description: String {
        let day = Int(secondsSince1970 >= 0 ? secondsSince1970 / 86400 : (secondsSince1970 - 86399) / 86400)
        let second = Int(secondsSince1970) - day * 86400
        let (year, month, dayOfMonth) = Self.date(ofDay: day)
        func padded(_ value: Int, _ width: Int) -> String {
            String(repeating: "0", count: max(0, width - String(value).count)) + String(value)
        }
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(dayOfMonth, 2))T\(padded(second / 3600, 2)):"
            + "\(padded(second / 60 % 60, 2)):\(padded(second % 60, 2))Z"
    }

    // Both directions count from 1 March of year 0, so that the leap day comes last: 719468 days before 1970,
    // 146097 days in each 400 years.

    private static func days(year: Int, month: Int, day: Int) -> Int {
        let year = month <= 2 ? year - 1 : year
        let era = (year >= 0 ? year : year - 399) / 400
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719468
    }

    private static func date(ofDay day: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = day + 719468
        let era = (shifted >= 0 ? shifted : shifted - 146096) / 146097
        let dayOfEra = shifted - era * 146097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }
}

/// A moment to the nanosecond.
public struct PreciseTime: Hashable, Sendable {
    public var nanosecondsSince1970: Int64

    public init(nanosecondsSince1970: Int64) { self.nanosecondsSince1970 = nanosecondsSince1970 }

    /// Parses `2026-01-31T12:00:00.123456789Z`; nil also for what is centuries from now, which 64 bits do not hold.
    public init?(_ text: String) {
        guard let whole = Timestamp(text), abs(whole.secondsSince1970) < 9_000_000_000 else { return nil }
        var fraction: Int64 = 0
        if let point = text.utf8.firstIndex(of: UInt8(ascii: ".")) {
            var unit: Int64 = 100_000_000
            for byte in text.utf8[text.utf8.index(after: point)...].prefix(9) {
                guard (0x30...0x39).contains(byte) else { break }
                fraction += Int64(byte - 0x30) * unit
                unit /= 10
            }
        }
        nanosecondsSince1970 = whole.secondsSince1970 * 1_000_000_000 + fraction
    }
}
