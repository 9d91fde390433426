import CLinux
import Glibc
import SystemPackage

/// How files come to be in a `StateDirectory`: finished first, named afterwards.
extension StateDirectory {
    /// Makes a file that must not exist yet; `EEXIST` where it does, and then nothing changes.
    ///
    /// The name appears with the whole content or not at all, also after a crash or a power cut.
    ///
    /// - Parameter synchronized: Whether to wait until the content is on the disk. Without that wait, of milliseconds, a
    ///   power cut can leave an empty file; nothing else can.
    public func create(
        _ name: String, _ contents: [UInt8], mode: UInt32 = 0o644, synchronized: Bool = true
    ) throws(KernelError) {
        let operation = "create \(path)/\(name)"
        try FileName.check(name, for: operation)
        try withFinishedFile(
            contents, mode: mode, synchronized: synchronized, for: operation
        ) { source throws(KernelError) in
            try link(source, as: name, for: operation)
        }
    }

    /// Makes a file or replaces it; a reader sees the old content or the new, never a mixture.
    ///
    /// - Parameter synchronized: As for `create`.
    public func replace(
        _ name: String, _ contents: [UInt8], mode: UInt32 = 0o644, synchronized: Bool = true
    ) throws(KernelError) {
        let operation = "replace \(path)/\(name)"
        try FileName.check(name, for: operation)
        try withFinishedFile(
            contents, mode: mode, synchronized: synchronized, for: operation
        ) { source throws(KernelError) in
            // link(2) cannot replace and rename(2) needs a name, so the finished file gets one for an instant.
            let temporary = try withFreeName { candidate throws(KernelError) in
                try link(source, as: candidate, for: operation)
                return candidate
            }
            do throws(KernelError) {
                try systemCall(operation) { renameat(descriptor.rawValue, temporary, descriptor.rawValue, name) }
            } catch {
                unlinkat(descriptor.rawValue, temporary, 0)
                throw error
            }
        }
    }

    /// Writes a file in place, made when missing; a process killed in the middle can leave a mixture.
    ///
    /// For content that is worth nothing once it is wrong, such as a position to start a search at: replacing a file
    /// makes ext4 write the new one to the disk, which takes a hundred times as long.
    public func overwrite(_ name: String, _ contents: [UInt8], mode: UInt32 = 0o644) throws(KernelError) {
        let operation = "write \(path)/\(name)"
        try FileName.check(name, for: operation)
        let file = try descriptor.open(name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, mode: mode, for: operation)
        let raw = file.rawValue
        try file.write(contents, for: operation)
        var status = stat()
        try systemCall(operation) { fstat(raw, &status) }
        if Int(status.st_size) > contents.count { try systemCall(operation) { ftruncate(raw, off_t(contents.count)) } }
    }

    /// Removes half-made files that killed processes left; for whoever holds the lock that makers of files hold.
    public func removeUnfinished() throws(KernelError) {
        for name in try allEntries() where name.hasPrefix(Self.unfinishedPrefix) { try remove(name) }
    }

    /// Beginning of the names of files that are not finished; `entries` leaves them out.
    static let unfinishedPrefix = ".unfinished-"

    /// Runs `body` with a path to a file that has its content, safely on disk, but not yet a name.
    private func withFinishedFile(
        _ contents: [UInt8], mode: UInt32, synchronized: Bool, for operation: String,
        _ body: (String) throws(KernelError) -> Void
    ) throws(KernelError) {
        guard let unnamed = try openUnnamed(mode: mode, for: operation) else {
            var temporary = ""
            let named = try withFreeName { candidate throws(KernelError) in
                temporary = candidate
                return try descriptor.open(candidate, O_WRONLY | O_CREAT | O_EXCL, mode: mode, for: operation)
            }
            defer { unlinkat(descriptor.rawValue, temporary, 0) }
            return try finish(named, contents, synchronized: synchronized, for: operation, body)
        }
        try finish(unnamed, contents, synchronized: synchronized, for: operation, body)
    }

    /// A file without a name: nothing can be left behind, however the process ends.
    ///
    /// Nil on filesystems that have only files with names (NFS, older overlayfs).
    private func openUnnamed(mode: UInt32, for operation: String) throws(KernelError) -> Descriptor? {
        do {
            return try descriptor.open(".", O_WRONLY | fairlead_O_TMPFILE, mode: mode, for: operation)
        } catch where error.errno == .notSupported {
            return nil
        }
    }

    private func finish(
        _ file: borrowing Descriptor, _ contents: [UInt8], synchronized: Bool, for operation: String,
        _ body: (String) throws(KernelError) -> Void
    ) throws(KernelError) {
        let raw = file.rawValue
        try file.write(contents, for: operation)
        if synchronized { try systemCall(operation) { fsync(raw) } }
        try body("/proc/self/fd/\(raw)")
    }

    private func link(_ source: String, as name: String, for operation: String) throws(KernelError) {
        try systemCall(operation) { linkat(AT_FDCWD, source, descriptor.rawValue, name, AT_SYMLINK_FOLLOW) }
    }

    /// Tries `body` with one name after the other until one is not taken.
    func withFreeName<Result: ~Copyable>(
        _ body: (String) throws(KernelError) -> Result
    ) throws(KernelError) -> Result {
        while true {
            do {
                return try body(Self.unfinishedPrefix + String(UInt64.random(in: .min ... .max), radix: 36))
            } catch where error.errno == .fileExists {}
        }
    }
}
