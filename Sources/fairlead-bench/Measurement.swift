import Foundation

/// Durations of one operation, repeated.
struct Measurement {
    private(set) var samples: [Duration] = []

    mutating func add(_ duration: Duration) { samples.append(duration) }

    mutating func time<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        let clock = ContinuousClock()
        let start = clock.now
        let result = try await body()
        samples.append(clock.now - start)
        return result
    }

    /// The duration that this share of the samples does not exceed.
    func percentile(_ share: Double) -> Duration {
        let sorted = samples.sorted()
        return sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }

    var median: Duration { percentile(0.5) }
}

extension Duration {
    /// In milliseconds, with as many digits as mean something.
    var milliseconds: String {
        let value = Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15
        return String(format: value < 10 ? "%8.3f ms" : "%8.1f ms", value)
    }
}

/// One line of a report: what, how long, and what is to be reached.
func report(_ what: String, _ value: String, target: String = "") {
    let name = what.padding(toLength: 62, withPad: " ", startingAt: 0)
    print("  \(name) \(value)\(target.isEmpty ? "" : "   (target \(target))")")
}

/// Megabytes of memory that this process has in use, and the most it ever had.
func residentMemory() -> (now: Int, peak: Int) {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    func value(_ key: String) -> Int {
        let line = status.split(separator: "\n").first { $0.hasPrefix(key) }
        return (line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) } ?? 0) / 1024
    }
    return (value("VmRSS:"), value("VmHWM:"))
}
