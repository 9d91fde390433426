/// A point in time by both clocks: one to show, one to measure with.
public struct Moment: Hashable, Sendable {
    /// Nanoseconds since 1970, which somebody may set.
    public var wall: Int64
    /// The time since some fixed moment, which only ever grows.
    public var steady: Duration

    public init(wall: Int64, steady: Duration) {
        self.wall = wall
        self.steady = steady
    }

    /// Seconds since 1970.
    public var seconds: Double { Double(wall) / 1e9 }
}

extension Duration {
    /// In seconds, as metrics have it.
    public var inSeconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
