/// How long to wait before the next attempt: longer after each failure, and never the same for all nodes.
///
/// Decorrelated jitter: each delay is drawn between `least` and three times the one before. A cluster's agents, which
/// all lose the server in one moment, come back spread over time.
struct Backoff: Sendable {
    static let least = Duration.milliseconds(200)
    static let most = Duration.seconds(30)

    private var random: SeededGenerator
    private var previous = least

    /// - Parameter seed: Two backoffs of the same seed wait alike.
    init(seed: UInt64) { random = SeededGenerator(state: seed) }

    mutating func next() -> Duration {
        previous = draw(from: Self.least, upTo: min(previous * 3, Self.most))
        return previous
    }

    mutating func reset() { previous = Self.least }

    mutating func draw(from low: Duration, upTo high: Duration) -> Duration {
        .milliseconds(draw(from: low.milliseconds, upTo: max(low, high).milliseconds))
    }

    mutating func draw(from low: Int64, upTo high: Int64) -> Int64 { Int64.random(in: low...high, using: &random) }
}

extension Duration {
    var milliseconds: Int64 { components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000 }
}

/// SplitMix64: even enough for delays, and the same again for the same seed.
struct SeededGenerator: RandomNumberGenerator, Sendable {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
