import CLinux
import Glibc
import SystemPackage

/// Namespaces with names: bind mounts in `/run/netns`, as `ip netns` makes and lists them.
extension NetworkNamespace {
    static let nameDirectory = "/run/netns"

    /// The path by which another program opens the namespace of this name.
    public static func path(named name: String) -> String { "\(nameDirectory)/\(name)" }

    /// Creates a namespace and gives it a name; `EEXIST` where the name is taken.
    ///
    /// Equivalent to `ip netns add`.
    public static func create(named name: String) throws(KernelError) -> NetworkNamespace {
        let operation = "create network namespace \(name)"
        try FileName.check(name, for: operation)
        let path = path(named: name)
        try prepareNameDirectory(for: operation)
        // The mount needs a file to cover. O_EXCL makes the name's owner unambiguous when two ask at once.
        _ = try Descriptor.open(path, O_RDONLY | O_CREAT | O_EXCL, for: operation)
        do throws(KernelError) {
            return try leavingAgain { () throws(KernelError) in
                try systemCall(operation) { fairlead_unshare(fairlead_CLONE_NEWNET) }
                try systemCall(operation) {
                    mount("/proc/thread-self/ns/net", path, "none", UInt(MS_BIND), nil)
                }
                return try current()
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Opens the namespace of this name; nil where there is none.
    public static func open(named name: String) throws(KernelError) -> NetworkNamespace? {
        try FileName.check(name, for: "open network namespace \(name)")
        do {
            return try open(path(named: name))
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Takes the name away; the namespace itself ends with its last process and descriptor. False where there is none.
    ///
    /// Equivalent to `ip netns delete`. Also removes what a crash between file and mount left.
    @discardableResult
    public static func remove(named name: String) throws(KernelError) -> Bool {
        let operation = "remove network namespace \(name)"
        try FileName.check(name, for: operation)
        let path = path(named: name)
        do throws(KernelError) {
            // EINVAL: a plain file that was never mounted upon.
            try systemCall(operation) { umount2(path, Int32(MNT_DETACH) | fairlead_UMOUNT_NOFOLLOW) }
        } catch where error.errno == .invalidArgument {
        } catch where error.errno == .noSuchFileOrDirectory {
            return false
        }
        try systemCall(operation) { unlink(path) }
        return true
    }

    /// The names there are, sorted.
    public static func names() throws(KernelError) -> [String] {
        do {
            return try StateDirectory.open(nameDirectory, create: false).entries().sorted()
        } catch where error.errno == .noSuchFileOrDirectory {
            return []
        }
    }

    /// Makes `/run/netns` a shared mount, so that names made here and by `ip netns` in other mount namespaces are seen
    /// by all and can be removed by all.
    private static func prepareNameDirectory(for operation: String) throws(KernelError) {
        if mkdir(nameDirectory, 0o755) != 0, errno != EEXIST {
            throw KernelError(operation: operation, errno: Errno(rawValue: errno))
        }
        let share = { mount("", nameDirectory, "none", UInt(MS_SHARED | MS_REC), nil) }
        if share() == 0 { return }
        // EINVAL: not a mount point yet. Bound onto itself it becomes one.
        try systemCall(operation) { mount(nameDirectory, nameDirectory, "none", UInt(MS_BIND | MS_REC), nil) }
        try systemCall(operation, share)
    }
}
