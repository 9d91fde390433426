import Glibc
import SystemPackage

/// A lock on a file, held while the value lives (`flock`).
public struct FileLock: ~Copyable, Sendable {
    private let descriptor: Descriptor

    init(locking file: consuming Descriptor, timeout: Duration, for operation: String) throws(KernelError) {
        let deadline = ContinuousClock.now + timeout
        // flock has no timeout of its own. Short waits first, because a lease is written in less than a millisecond.
        var pause = Duration.microseconds(100)
        while flock(file.rawValue, LOCK_EX | LOCK_NB) != 0 {
            let code = Errno(rawValue: errno)
            guard code == .wouldBlock || code == .interrupted else {
                throw KernelError(operation: operation, errno: code)
            }
            let now = ContinuousClock.now
            guard now < deadline else { throw KernelError(operation: operation, errno: .timedOut) }
            usleep(UInt32(min(pause, deadline - now).microseconds))
            pause = min(pause * 2, .milliseconds(5))
        }
        descriptor = file
    }

    /// A lock on the calling thread's network namespace, for programs that take turns there by agreement.
    ///
    /// It is on the namespace itself (nsfs takes `flock` like any file), so there is no file to make, to find or to
    /// leave behind. `ETIMEDOUT` where another holds it all the time.
    public static func ofNetworkNamespace(timeout: Duration) throws(KernelError) -> FileLock {
        let operation = "lock the network namespace"
        return try FileLock(
            locking: .open("/proc/thread-self/ns/net", O_RDONLY, for: operation), timeout: timeout, for: operation)
    }

    deinit {
        // Said and not left to close: a child process between fork and exec may hold the same open file.
        flock(descriptor.rawValue, LOCK_UN)
    }
}

extension Duration {
    /// Whole microseconds, rounded up so that a short wait is not none at all.
    var microseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000 + (attoseconds + 999_999_999_999) / 1_000_000_000_000
    }

    /// Whole milliseconds for `poll`, rounded up.
    var pollMilliseconds: Int32 { Int32(clamping: (max(microseconds, 0) + 999) / 1000) }
}
