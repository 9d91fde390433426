import CLinux
import Glibc
import SystemPackage

/// A lock on a file, held while the value lives (`flock`).
public struct FileLock: ~Copyable, Sendable {
    private let descriptor: Descriptor

    /// - Parameter shared: Whether others may have a shared one at the same time.
    init(
        locking file: consuming Descriptor, shared: Bool = false, timeout: Duration, for operation: String
    ) throws(KernelError) {
        let milliseconds = Int(timeout.pollMilliseconds)
        guard fairlead_flock(file.rawValue, shared ? LOCK_SH : LOCK_EX, milliseconds) == 0 else {
            throw KernelError(operation: operation, errno: Errno(rawValue: errno))
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
