import Glibc
import SystemPackage

/// The settings under `/proc/sys`; those under `net` belong to the calling thread's network namespace.
public enum KernelSetting {
    /// A setting's text without the newline; nil where the kernel has none of that name (no IPv6, no such link).
    ///
    /// - Parameter path: Components, because interface names may hold dots: `["net", "ipv4", "conf", "eth0.5", "mtu"]`.
    public static func read(_ path: [String]) throws(KernelError) -> String? {
        let operation = "read setting \(path.joined(separator: "/"))"
        do {
            let file = try Descriptor.open(location(path, operation), O_RDONLY, for: operation)
            let bytes = try file.readAll(limit: 1 << 16, for: operation)
            return String(decoding: bytes.last == UInt8(ascii: "\n") ? bytes.dropLast() : bytes[...], as: UTF8.self)
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Sets a setting; `ENOENT` where the kernel has none of that name.
    public static func write(_ path: [String], _ value: String) throws(KernelError) {
        let operation = "write \(value) to setting \(path.joined(separator: "/"))"
        let file = try Descriptor.open(location(path, operation), O_WRONLY, for: operation)
        try file.write(Array(value.utf8), for: operation)
    }

    private static func location(_ path: [String], _ operation: String) throws(KernelError) -> String {
        guard !path.isEmpty else { throw KernelError(operation: operation, errno: .invalidArgument) }
        for component in path { try FileName.check(component, for: operation) }
        return "/proc/sys/" + path.joined(separator: "/")
    }
}
