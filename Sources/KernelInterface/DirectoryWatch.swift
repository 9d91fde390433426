import CLinux
import Glibc
import SystemPackage

/// What has changed in a directory since it was last asked.
public struct DirectoryChanges: Hashable, Sendable {
    /// The names that came, went or got new content, each once, sorted.
    public var names: [String]
    /// False where more happened than the kernel keeps: then the directory has to be read anew.
    public var isComplete: Bool
    /// Whether the directory itself was moved away, or removed and closed by all who had it open: nothing will be told
    /// any more.
    public var isGone: Bool

    /// Whether nothing happened.
    public var isEmpty: Bool { names.isEmpty && isComplete && !isGone }
}

/// Tells which names in a directory change (inotify); not those in directories within it.
///
/// A file counts as changed when its writer closes it, and not at every write: half of a file is nobody's concern.
public struct DirectoryWatch: ~Copyable, Sendable {
    private let descriptor: Descriptor
    private let path: String

    private init(owning descriptor: consuming Descriptor, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    /// Watches a directory; it tells what happens from now on, so list the directory after opening the watch.
    public static func open(_ path: String) throws(KernelError) -> DirectoryWatch {
        let operation = "watch directory \(path)"
        let raw = try systemCall(operation) { inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK)) }
        let descriptor = Descriptor(owning: raw)
        // IN_ATTRIB: a file may become readable.
        let events =
            IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF
            | IN_MOVE_SELF | IN_ONLYDIR
        try systemCall(operation) { inotify_add_watch(raw, path, UInt32(events)) }
        return DirectoryWatch(owning: descriptor, path: path)
    }

    /// To wait on together with other things (`poll`); readable when `next` has something.
    public var fileDescriptor: Int32 { descriptor.rawValue }

    /// What has changed since the last call, after waiting for the first change; empty where the timeout passes before.
    ///
    /// - Parameter timeout: Nil waits for ever.
    public func next(timeout: Duration? = nil) throws(KernelError) -> DirectoryChanges {
        var changes = DirectoryChanges(names: [], isComplete: true, isGone: false)
        guard waitUntilReadable(descriptor.rawValue, timeout: timeout) else { return changes }
        var names: Set<String> = []
        while let events = try readEvents() {
            // struct inotify_event: watch, mask, cookie, and the length of the name that follows.
            var rest = events[...]
            while rest.count >= 16 {
                let mask = rest.number(at: 4)
                let length = Int(rest.number(at: 12))
                let name = rest.dropFirst(16).prefix(length).prefix { $0 != 0 }
                if !name.isEmpty { names.insert(String(decoding: name, as: UTF8.self)) }
                if mask & UInt32(IN_Q_OVERFLOW) != 0 { changes.isComplete = false }
                // IN_IGNORED: the kernel has taken the watch away, because the directory is.
                if mask & UInt32(IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED) != 0 { changes.isGone = true }
                rest = rest.dropFirst(16 + length)
            }
        }
        changes.names = names.sorted()
        return changes
    }

    /// Nil where there are no events.
    private func readEvents() throws(KernelError) -> [UInt8]? {
        do {
            return try descriptor.read(upTo: 1 << 16, for: "watch directory \(path)")
        } catch where error.errno == .wouldBlock {
            return nil
        }
    }
}

extension ArraySlice<UInt8> {
    /// Four bytes in the host's order, `offset` from the slice's beginning.
    fileprivate func number(at offset: Int) -> UInt32 {
        let bytes = dropFirst(offset).prefix(4)
        let number = bytes.reduce(0) { $0 << 8 | UInt32($1) }
        return UInt32(bigEndian: 1) == 1 ? number : number.byteSwapped
    }
}
