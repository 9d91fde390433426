/// How long to gather events before the next pass: not at all while little happens, longer while much does.
///
/// An event after a quiet moment is carried out at once. One soon after the last pass waits for others, twice as long
/// each time: under a storm, such as a service that flaps a thousand times a second, there are at most some twenty passes
/// a second, each with the last state of everything.
public struct CoalescingWindow: Sendable {
    public static let widest = Duration.milliseconds(50)

    private var width = Duration.zero
    private var lastPass: ContinuousClock.Instant?

    public init() {}

    /// How long to wait from now on.
    public mutating func pause(at now: ContinuousClock.Instant) -> Duration {
        if let lastPass, now - lastPass < Self.widest {
            width = min(max(width * 2, .milliseconds(1)), Self.widest)
        } else {
            width = .zero
        }
        return width
    }

    /// A pass has ended.
    public mutating func passed(at now: ContinuousClock.Instant) { lastPass = now }
}
