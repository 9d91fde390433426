import Glibc

/// A start of a kernel.
public struct Boot: Hashable, Sendable {
    /// A name that no other start of any machine has; nil where `/proc` does not tell.
    public var identifier: String?
    /// When it was, as a time since 1970, by the clock as it was set when this was asked.
    public var time: Duration

    public init(identifier: String?, time: Duration) {
        self.identifier = identifier
        self.time = time
    }

    /// The running kernel's.
    public static var current: Boot {
        var (clock, uptime) = (timespec(), timespec())
        clock_gettime(CLOCK_REALTIME, &clock)
        clock_gettime(CLOCK_BOOTTIME, &uptime)
        let identifier = try? KernelSetting.read(["kernel", "random", "boot_id"])
        return Boot(
            identifier: identifier ?? nil,
            time: .seconds(clock.tv_sec - uptime.tv_sec) + .nanoseconds(clock.tv_nsec - uptime.tv_nsec))
    }
}
