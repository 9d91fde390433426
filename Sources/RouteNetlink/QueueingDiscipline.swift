/// A token bucket filter at the root of a link (`tbf`): what leaves the link leaves at this rate.
public struct TokenBucket: Hashable, Sendable {
    /// Bytes a second.
    public var rate: UInt64
    /// Bytes that may leave at once after a pause.
    public var burst: UInt32
    /// Bytes that wait for their turn; what comes when so many wait is dropped.
    public var limit: UInt32

    public init(rate: UInt64, burst: UInt32, limit: UInt32) {
        self.rate = rate
        self.burst = burst
        self.limit = limit
    }
}
