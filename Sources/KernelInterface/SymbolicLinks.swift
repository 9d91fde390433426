import Glibc
import SystemPackage

/// Symbolic links as the smallest of files: made with their whole content, read and removed by one system call each.
///
/// They lead nowhere. Who lists the directory and follows them, as `host-local` does, finds no file.
extension StateDirectory {
    /// What a link holds; nil where there is no such link, or something else of that name.
    public func linkContent(_ name: String) throws(KernelError) -> String? {
        let operation = "read link \(path)/\(name)"
        try FileName.check(name, for: operation)
        // PATH_MAX: no link is longer.
        var buffer = [UInt8](repeating: 0, count: 4096)
        do {
            let length = try systemCall(operation) {
                buffer.withUnsafeMutableBytes { bytes in
                    readlinkat(
                        descriptor.rawValue, name, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
                }
            }
            return String(decoding: buffer[..<length], as: UTF8.self)
        } catch where error.errno == .noSuchFileOrDirectory || error.errno == .invalidArgument {
            return nil
        }
    }

    /// Makes a link; `EEXIST` where something has the name already, and then nothing changes.
    ///
    /// - Parameter content: 1 to 4095 bytes, none of them NUL.
    public func makeLink(_ name: String, _ content: String) throws(KernelError) {
        let operation = "make link \(path)/\(name)"
        try FileName.check(name, for: operation)
        try systemCall(operation) { symlinkat(content, descriptor.rawValue, name) }
    }

    /// Makes a link, in place of what has the name already.
    public func replaceLink(_ name: String, _ content: String) throws(KernelError) {
        let temporary = try withFreeName { candidate throws(KernelError) in
            try makeLink(candidate, content)
            return candidate
        }
        do throws(KernelError) {
            try rename(temporary, to: name)
        } catch {
            try remove(temporary)
            throw error
        }
    }

    /// Moves a file into another directory of the same filesystem, in place of what has the name there.
    public func move(_ name: String, to other: borrowing StateDirectory) throws(KernelError) {
        let operation = "move \(path)/\(name) to \(other.path)"
        try FileName.check(name, for: operation)
        let (source, destination) = (descriptor.rawValue, other.descriptor.rawValue)
        try systemCall(operation) { renameat(source, name, destination, name) }
    }

    /// Whether the name is taken, by whatever it is.
    public func contains(_ name: String) throws(KernelError) -> Bool {
        let operation = "look up \(path)/\(name)"
        try FileName.check(name, for: operation)
        return try changeTime(of: name) != nil
    }

    /// When a file last changed in any way, its name included, as a time since 1970; nil where there is none.
    ///
    /// The kernel's own note (`st_ctim`), which no program can set.
    public func changeTime(of name: String) throws(KernelError) -> Duration? {
        let operation = "examine \(path)/\(name)"
        try FileName.check(name, for: operation)
        var status = stat()
        do {
            try systemCall(operation) { fstatat(descriptor.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) }
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
        return .seconds(status.st_ctim.tv_sec) + .nanoseconds(status.st_ctim.tv_nsec)
    }
}
