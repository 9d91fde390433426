/// Observations counted by size, as Prometheus has them.
public struct Histogram: Sendable {
    private let bounds: [Double]
    /// One for each bound, and one for what exceeds them all.
    private var counts: [UInt64]
    private var sum = 0.0

    /// - Parameter bounds: The upper bound of each bucket, ascending.
    public init(bounds: [Double]) {
        self.bounds = bounds
        counts = Array(repeating: 0, count: bounds.count + 1)
    }

    public mutating func observe(_ value: Double) {
        counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
        sum += value
    }

    public var count: UInt64 { counts.reduce(0, +) }

    fileprivate func write(_ name: String, _ labels: Labels, to page: inout Exposition) {
        var soFar: UInt64 = 0
        for (bound, count) in zip(bounds, counts) {
            soFar += count
            page.sample("\(name)_bucket", labels + [("le", Exposition.text(bound))], Double(soFar))
        }
        page.sample("\(name)_bucket", labels + [("le", "+Inf")], Double(count))
        page.sample("\(name)_sum", labels, sum)
        page.sample("\(name)_count", labels, Double(count))
    }
}

typealias Labels = [(name: String, value: String)]

/// A page of metrics in Prometheus' text format, version 0.0.4.
struct Exposition {
    private(set) var text = ""

    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    mutating func sample(_ name: String, _ labels: Labels = [], _ value: Double) {
        text += name
        if !labels.isEmpty {
            text += "{" + labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",") + "}"
        }
        text += " \(Self.text(value))\n"
    }

    mutating func gauge(_ name: String, _ help: String, _ samples: [(Labels, Double)]) {
        family(name, "gauge", help)
        for (labels, value) in samples { sample(name, labels, value) }
    }

    mutating func counter(_ name: String, _ help: String, _ samples: [(Labels, Double)]) {
        family(name, "counter", help)
        for (labels, value) in samples { sample(name, labels, value) }
    }

    mutating func histogram(_ name: String, _ help: String, _ samples: [(Labels, Histogram)]) {
        family(name, "histogram", help)
        for (labels, histogram) in samples { histogram.write(name, labels, to: &self) }
    }

    static func text(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
        return value.isInfinite ? (value > 0 ? "+Inf" : "-Inf") : "\(value)"
    }

    private static func escaped(_ text: String) -> String {
        guard text.contains(where: { "\\\"\n".contains($0) }) else { return text }
        return text.reduce(into: "") { result, character in
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
    }
}
