import CLinux
import Glibc
import SystemPackage

/// A process, recognised again even by another program: its number and when it started.
///
/// The number alone is given to a new process some time after the old one ended.
public struct ProcessIdentity: Hashable, Sendable {
    public let pid: Int32
    /// Clock ticks since boot (`/proc/PID/stat`, field 22).
    public let startTime: UInt64

    public init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// The process that now has this number; nil where there is none.
    public init?(pid: Int32) {
        guard let startTime = ChildProcess.startTime(pid: pid) else { return nil }
        self.init(pid: pid, startTime: startTime)
    }

    /// The process that runs this code.
    public static var current: ProcessIdentity { ProcessIdentity(pid: getpid())! }

    /// Whether the process still runs; one that ended and was not waited for does not.
    public var isRunning: Bool { !waitForEnd(timeout: .zero) }

    /// Sends a signal; false where the process is gone, and then no other process of its number is hit.
    @discardableResult
    public func signal(_ signal: Signal) throws(KernelError) -> Bool {
        guard let handle = handle() else { return false }
        do {
            try systemCall("send signal \(signal.rawValue) to process \(pid)") {
                fairlead_pidfd_send_signal(handle.rawValue, signal.rawValue)
            }
            return true
        } catch where error.errno == .noSuchProcess {
            return false
        }
    }

    /// Waits until the process has ended, whoever its parent is; false where it still runs after the timeout.
    public func waitForEnd(timeout: Duration) -> Bool {
        guard let handle = handle() else { return true }
        return waitUntilReadable(handle.rawValue, timeout: timeout)
    }

    /// A descriptor that means this process for ever, nil where it is gone already.
    private func handle() -> Descriptor? {
        let raw = fairlead_pidfd_open(pid)
        guard raw >= 0 else { return nil }
        let descriptor = Descriptor(owning: raw)
        // Compared after opening: from here on the number cannot pass to another process unnoticed.
        guard ChildProcess.startTime(pid: pid) == startTime else { return nil }
        return descriptor
    }
}

/// A signal's number.
public struct Signal: RawRepresentable, Hashable, Sendable {
    public let rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let hangup = Signal(rawValue: SIGHUP)
    public static let interrupt = Signal(rawValue: SIGINT)
    public static let kill = Signal(rawValue: SIGKILL)
    public static let terminate = Signal(rawValue: SIGTERM)
}
