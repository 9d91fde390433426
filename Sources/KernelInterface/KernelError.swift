import Glibc
public import SystemPackage

/// A refusal by the kernel: what was asked, the error number, and the kernel's own words where it gave any.
public struct KernelError: Error, Hashable, Sendable {
    /// What was attempted, with the object's name: `add route 10.1.0.0/24 via vxlan0`.
    public var operation: String
    public var errno: Errno
    /// The extended acknowledgement of a netlink request (`NLMSGERR_ATTR_MSG`).
    public var kernelMessage: String?

    public init(operation: String, errno: Errno, kernelMessage: String? = nil) {
        self.operation = operation
        self.errno = errno
        self.kernelMessage = kernelMessage
    }
}

extension KernelError: CustomStringConvertible {
    public var description: String {
        let detail = kernelMessage.map { " (kernel: \($0))" } ?? ""
        return "\(operation): \(errno)\(detail)"
    }
}

extension Errno {
    /// `ENODEV`, for which swift-system has only macOS's words ("operation not supported by device").
    public static var noSuchDevice: Errno { Errno(rawValue: Glibc.ENODEV) }
}

/// Makes a system call, again where a signal interrupted it, and turns -1 into the error it means.
@discardableResult
func systemCall<Result: SignedInteger>(
    _ operation: @autoclosure () -> String, _ body: () -> Result
) throws(KernelError) -> Result {
    while true {
        let result = body()
        guard result == -1 else { return result }
        // Read before anything else runs: building the operation's text may allocate and change it.
        let code = errno
        guard code != EINTR else { continue }
        throw KernelError(operation: operation(), errno: Errno(rawValue: code))
    }
}
