import Glibc
public import NetworkAddresses
import SystemPackage

/// What tells that a pod's network is no more.
public enum NamespaceEnd {
    /// Whether a pod's network namespace is provably gone: what its path stood for is not there, and neither is the
    /// host's end of its veth, which the kernel removes with the namespace.
    ///
    /// Both, because each alone proves nothing: a namespace lives on with a process in it after its name is taken away,
    /// this process may not see the path, and a person may have deleted the veth. What cannot be told counts as alive.
    ///
    /// - Parameters:
    ///   - path: what the runtime called the namespace; empty where it was not told.
    ///   - inode: the namespace's number when the pod was attached: a path such as `/proc/42/ns/net` may by now stand
    ///     for another. Nil where it was not noted.
    ///   - links: of the node.
    public static func isProven(
        path: String, inode: UInt64?, hostInterface: InterfaceName, links: borrowing RouteSocket
    ) throws(KernelError) -> Bool {
        guard !path.isEmpty, isElsewhere(path, inode) else { return false }
        return try links.link(named: hostInterface) == nil
    }

    private static func isElsewhere(_ path: String, _ inode: UInt64?) -> Bool {
        do throws(KernelError) {
            let found = try NetworkNamespace.open(path)
            return inode.map { $0 != found.inode } ?? false
        } catch {
            // EINVAL: a name whose mount is gone is a plain file.
            if error.errno == .invalidArgument { return true }
            return error.errno == .noSuchFileOrDirectory && isVisible(path)
        }
    }

    /// Whether a file of this path would be seen if it were there: a process in a container sees only some folders.
    private static func isVisible(_ path: String) -> Bool {
        // The folder of a process goes with the process.
        if path.hasPrefix("/proc/") { return true }
        return access(String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex)), F_OK) == 0
    }
}
