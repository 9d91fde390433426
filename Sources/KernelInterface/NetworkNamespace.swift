import CLinux
import Glibc
import SystemPackage

/// A network namespace, held open by a descriptor so that it stays even when its name or its last process goes.
///
/// A thread, not a process, is in a namespace. So the only way in is `withEntered`, synchronous and back again: an
/// `await` could resume on another thread. Enter to open a socket; the socket then stays in the namespace by itself.
public struct NetworkNamespace: ~Copyable, Sendable {
    let descriptor: Descriptor
    /// The namespace's number, as `readlink /proc/PID/ns/net` prints it; unique among living namespaces.
    public let inode: UInt64

    private init(
        owning descriptor: consuming Descriptor, for operation: @autoclosure () -> String
    ) throws(KernelError) {
        var status = stat()
        let raw = descriptor.rawValue
        try systemCall(operation()) { fstat(raw, &status) }
        self.descriptor = descriptor
        inode = UInt64(status.st_ino)
    }

    /// The namespace of the calling thread.
    public static func current() throws(KernelError) -> NetworkNamespace {
        let operation = "open the current network namespace"
        let descriptor = try Descriptor.open("/proc/thread-self/ns/net", O_RDONLY, for: operation)
        return try NetworkNamespace(owning: descriptor, for: operation)
    }

    /// The namespace a file stands for, such as `/run/netns/blue` or `/proc/42/ns/net`; `EINVAL` for any other file.
    public static func open(_ path: String) throws(KernelError) -> NetworkNamespace {
        let operation = "open network namespace \(path)"
        // A runtime may hand over any path; without O_NONBLOCK a FIFO would block for ever.
        let descriptor = try Descriptor.open(path, O_RDONLY | O_NONBLOCK, for: operation)
        let raw = descriptor.rawValue
        // Asked before the ioctl, because to a device of another kind its number means something else.
        guard try systemCall(operation, { fairlead_is_namespace(raw) }) == 1,
            fairlead_namespace_kind(raw) == fairlead_CLONE_NEWNET
        else { throw KernelError(operation: operation, errno: .invalidArgument) }
        return try NetworkNamespace(owning: descriptor, for: operation)
    }

    /// The namespace of a process.
    public static func of(process pid: Int32) throws(KernelError) -> NetworkNamespace {
        try open("/proc/\(pid)/ns/net")
    }

    /// A fresh namespace without a name: only a loopback interface, down. It goes with its last descriptor or process.
    public static func anonymous() throws(KernelError) -> NetworkNamespace {
        try leavingAgain { () throws(KernelError) in
            try systemCall("create a network namespace") { fairlead_unshare(fairlead_CLONE_NEWNET) }
            return try current()
        }
    }

    /// Runs `body` with the calling thread in this namespace.
    public func withEntered<Result: ~Copyable>(
        _ body: () throws(KernelError) -> Result
    ) throws(KernelError) -> Result {
        try Self.leavingAgain { () throws(KernelError) in
            try systemCall("enter network namespace \(inode)") {
                fairlead_setns(descriptor.rawValue, fairlead_CLONE_NEWNET)
            }
            return try body()
        }
    }

    /// Runs `body`, which may change the calling thread's namespace, and puts the thread back where it was.
    static func leavingAgain<Result: ~Copyable>(
        _ body: () throws(KernelError) -> Result
    ) throws(KernelError) -> Result {
        let home = try current()
        defer {
            // A thread left in a foreign namespace would program it as if it were its own: nothing may run on.
            if fairlead_setns(home.descriptor.rawValue, fairlead_CLONE_NEWNET) != 0 {
                fatalError("cannot return to network namespace \(home.inode): \(Errno(rawValue: errno))")
            }
        }
        return try body()
    }
}
