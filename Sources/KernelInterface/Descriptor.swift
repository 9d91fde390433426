import Glibc
import SystemPackage

/// A file descriptor with one owner, closed at the end of its life.
struct Descriptor: ~Copyable, Sendable {
    let rawValue: Int32

    init(owning rawValue: Int32) { self.rawValue = rawValue }

    deinit { close(rawValue) }

    /// Opens a path; never inherited by a child process.
    static func open(
        _ path: String, _ flags: Int32, mode: mode_t = 0, for operation: @autoclosure () -> String
    ) throws(KernelError) -> Descriptor {
        Descriptor(owning: try systemCall(operation()) { Glibc.open(path, flags | O_CLOEXEC, mode) })
    }

    /// Opens a name in this directory; nil where there is none.
    func openIfPresent(
        _ name: String, _ flags: Int32, for operation: @autoclosure () -> String
    ) throws(KernelError) -> Descriptor? {
        do {
            return try open(name, flags, for: operation())
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Opens a name in this directory; never inherited by a child process.
    func open(
        _ name: String, _ flags: Int32, mode: mode_t = 0, for operation: @autoclosure () -> String
    ) throws(KernelError) -> Descriptor {
        Descriptor(owning: try systemCall(operation()) { openat(rawValue, name, flags | O_CLOEXEC, mode) })
    }

    /// Writes all the bytes.
    func write(_ bytes: [UInt8], for operation: @autoclosure () -> String) throws(KernelError) {
        var written = 0
        while written < bytes.count {
            written += try systemCall(operation()) {
                // The kernel copies the bytes before returning.
                bytes.withUnsafeBytes { Glibc.write(rawValue, $0.baseAddress! + written, $0.count - written) }
            }
        }
    }

    /// Reads up to `count` bytes; none at the end.
    func read(upTo count: Int, for operation: @autoclosure () -> String) throws(KernelError) -> [UInt8] {
        var failure: KernelError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            // The buffer is `count` bytes long and the kernel says how many of them it filled.
            do throws(KernelError) {
                initialized = try systemCall(operation()) { Glibc.read(rawValue, buffer.baseAddress, count) }
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Reads to the end, or fails with `EFBIG` where that is more than `limit` bytes away.
    func readAll(limit: Int, for operation: @autoclosure () -> String) throws(KernelError) -> [UInt8] {
        var content: [UInt8] = []
        while true {
            // One more than is left, so that an exact fit is told from too much. Little first: most files are small.
            let chunk = try read(
                upTo: min(limit - content.count + 1, content.count < 1 << 12 ? 1 << 12 : 1 << 16), for: operation())
            guard !chunk.isEmpty else { return content }
            content += chunk
            guard content.count <= limit else { throw KernelError(operation: operation(), errno: .fileTooLarge) }
        }
    }

    /// The same file under a number above standard error's, where spawning may have to rearrange 0, 1 and 2.
    consuming func aboveStandardStreams() throws(KernelError) -> Descriptor {
        guard rawValue <= 2 else { return self }
        return Descriptor(owning: try systemCall("duplicate descriptor") { fcntl(rawValue, F_DUPFD_CLOEXEC, 3) })
    }
}
