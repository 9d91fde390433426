import CLinux
import Glibc
import SystemPackage

/// A directory of small files that survive a crash whole: each is there with all its content, or not at all.
///
/// Names are single path components, checked on every use, so that a name that came from outside (a container's ID, a
/// network's name) can never reach out of the directory. Symbolic links are not followed.
public struct StateDirectory: ~Copyable, Sendable {
    /// The path it was opened by, for messages.
    public let path: String
    let descriptor: Descriptor

    private init(owning descriptor: consuming Descriptor, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    /// Opens a directory, and with `create` first makes it and its missing parents with `mode`.
    public static func open(_ path: String, create: Bool, mode: UInt32 = 0o755) throws(KernelError) -> StateDirectory {
        let operation = "open directory \(path)"
        // Looked for first: once it is there, which is nearly always, its parents are as well.
        if create {
            do {
                return StateDirectory(
                    owning: try Descriptor.open(path, O_RDONLY | O_DIRECTORY, for: operation), path: path)
            } catch where error.errno == .noSuchFileOrDirectory {
                try makeAll(path, mode: mode)
            }
        }
        return StateDirectory(owning: try Descriptor.open(path, O_RDONLY | O_DIRECTORY, for: operation), path: path)
    }

    private static func makeAll(_ path: String, mode: UInt32) throws(KernelError) {
        var position = path.utf8.startIndex
        while position != path.utf8.endIndex {
            position = path.utf8[position...].dropFirst().firstIndex(of: UInt8(ascii: "/")) ?? path.utf8.endIndex
            let parent = String(path[..<position])
            if mkdir(parent, mode) != 0, errno != EEXIST, errno != EISDIR {
                throw KernelError(operation: "create directory \(parent)", errno: Errno(rawValue: errno))
            }
        }
    }

    /// A directory within this one; `ENOENT` where it is missing and not to be created.
    public func subdirectory(
        _ name: String, create: Bool, mode: UInt32 = 0o755
    ) throws(KernelError) -> StateDirectory {
        let operation = "open directory \(path)/\(name)"
        try FileName.check(name, for: operation)
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
        let inner = "\(path)/\(name)"
        if create {
            if let opened = try descriptor.openIfPresent(name, flags, for: operation) {
                return StateDirectory(owning: opened, path: inner)
            }
            if mkdirat(descriptor.rawValue, name, mode) != 0, errno != EEXIST {
                throw KernelError(operation: "create directory \(inner)", errno: Errno(rawValue: errno))
            }
        }
        return StateDirectory(owning: try descriptor.open(name, flags, for: operation), path: inner)
    }

    /// The names in the directory, in no order, without half-made files of ours and without names that are not UTF-8.
    public func entries() throws(KernelError) -> [String] {
        try allEntries().filter { !$0.hasPrefix(Self.unfinishedPrefix) }
    }

    func allEntries() throws(KernelError) -> [String] {
        let operation = "list directory \(path)"
        // A descriptor of its own, because the reading position belongs to the open file.
        let listed = try descriptor.open(".", O_RDONLY | O_DIRECTORY, for: operation)
        var names: [String] = []
        // The kernel fills the buffer with whole records; each says its length (`struct linux_dirent64`).
        var buffer = [UInt8](repeating: 0, count: 1 << 15)
        while true {
            let filled = try systemCall(operation) {
                buffer.withUnsafeMutableBytes { fairlead_getdents64(listed.rawValue, $0.baseAddress, UInt($0.count)) }
            }
            guard filled > 0 else { return names }
            var record = buffer[..<Int(filled)]
            while record.count > 19 {
                let length = Int(record[record.startIndex + 16]) | Int(record[record.startIndex + 17]) << 8
                let name = record.prefix(length).dropFirst(19).prefix { $0 != 0 }
                if let name = String(validating: name, as: UTF8.self), FileName.isValid(name) {
                    names.append(name)
                }
                record = record.dropFirst(length)
            }
        }
    }

    /// When a name was last made or removed in the directory, as a time since 1970.
    ///
    /// Since Linux 6.13 it differs after every change once it was asked for; before, two changes within a timer tick
    /// (1 to 10 ms) may look like one.
    public func modificationTime() throws(KernelError) -> Duration {
        var status = stat()
        try systemCall("examine directory \(path)") { fstat(descriptor.rawValue, &status) }
        return .seconds(status.st_mtim.tv_sec) + .nanoseconds(status.st_mtim.tv_nsec)
    }

    /// A file's content, nil where there is no such file, `EFBIG` where it is longer than `limit` bytes.
    ///
    /// - Parameter followingLinks: Whether the name may be a symbolic link, as in a directory a person edits.
    public func read(_ name: String, limit: Int, followingLinks: Bool = false) throws(KernelError) -> [UInt8]? {
        let operation = "read \(path)/\(name)"
        try FileName.check(name, for: operation)
        // Without O_NONBLOCK a FIFO under that name would block for ever.
        let flags = O_RDONLY | O_NONBLOCK | (followingLinks ? 0 : O_NOFOLLOW)
        guard let file = try descriptor.openIfPresent(name, flags, for: operation) else { return nil }
        var status = stat()
        try systemCall(operation) { fstat(file.rawValue, &status) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let isDirectory = status.st_mode & S_IFMT == S_IFDIR
            throw KernelError(operation: operation, errno: isDirectory ? .isDirectory : .invalidArgument)
        }
        return try file.readAll(limit: limit, for: operation)
    }

    /// Removes a file; false where there was none.
    @discardableResult
    public func remove(_ name: String) throws(KernelError) -> Bool {
        try remove(name, flags: 0)
    }

    /// Removes a name whatever it is, a directory with all that is in it; false where there was nothing.
    @discardableResult
    public func removeAll(_ name: String) throws(KernelError) -> Bool {
        do throws(KernelError) {
            return try remove(name)
        } catch where error.errno == .isDirectory {
            return try removeSubdirectory(name)
        }
    }

    /// Removes a directory within this one with all that is in it; false where there was none.
    @discardableResult
    public func removeSubdirectory(_ name: String) throws(KernelError) -> Bool {
        do {
            let inner = try subdirectory(name, create: false)
            for entry in try inner.allEntries() { try inner.removeAll(entry) }
        } catch where error.errno == .noSuchFileOrDirectory {
            return false
        }
        return try remove(name, flags: AT_REMOVEDIR)
    }

    private func remove(_ name: String, flags: Int32) throws(KernelError) -> Bool {
        let operation = "remove \(path)/\(name)"
        try FileName.check(name, for: operation)
        do {
            try systemCall(operation) { unlinkat(descriptor.rawValue, name, flags) }
            return true
        } catch where error.errno == .noSuchFileOrDirectory {
            return false
        } catch where error.errno == .readOnlyFileSystem {
            // Said before the kernel has looked whether there is anything to remove.
            if try contains(name) { throw error }
            return false
        }
    }

    /// Gives a file another name, in place of a file that already has that name.
    public func rename(_ name: String, to newName: String) throws(KernelError) {
        let operation = "rename \(path)/\(name) to \(newName)"
        try FileName.check(name, for: operation)
        try FileName.check(newName, for: operation)
        do {
            try systemCall(operation) { renameat(descriptor.rawValue, name, descriptor.rawValue, newName) }
        } catch where error.errno == .readOnlyFileSystem {
            // Said before the kernel has looked whether there is anything to rename.
            if try contains(name) { throw error }
            throw KernelError(operation: operation, errno: .noSuchFileOrDirectory)
        }
    }

    /// Takes the lock named `name`, made when missing; `ETIMEDOUT` where another holds it all the time.
    ///
    /// The corresponding C function is `flock`: the lock ends with its value, and with the process.
    ///
    /// - Parameter shared: Whether others may have a shared one at the same time.
    public func lock(_ name: String, shared: Bool = false, timeout: Duration) throws(KernelError) -> FileLock {
        let operation = "lock \(path)/\(name)"
        try FileName.check(name, for: operation)
        // For reading: on a filesystem that has become read-only what is there can still be locked.
        let flags = O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK
        return try FileLock(
            locking: descriptor.open(name, flags, mode: 0o644, for: operation), shared: shared, timeout: timeout,
            for: operation)
    }
}

/// A file's content; nil where there is none of that path.
///
/// Links are followed: the kubelet's files are links into a folder that it replaces as a whole.
public func readFile(_ path: String, limit: Int) throws(KernelError) -> [UInt8]? {
    let name = path.split(separator: "/").last.map(String.init) ?? ""
    let folder = String(path.dropLast(name.utf8.count))
    do {
        return try StateDirectory.open(folder.isEmpty ? "." : folder, create: false)
            .read(name, limit: limit, followingLinks: true)
    } catch where error.errno == .noSuchFileOrDirectory {
        return nil
    }
}
