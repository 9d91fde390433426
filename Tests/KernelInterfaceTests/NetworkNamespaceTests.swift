import Glibc
import KernelInterface
import SystemPackage
import Testing

@Suite(.needsRoot) struct NetworkNamespaceTests {
    @Test func `a fresh namespace holds only a loopback interface, and the thread is back where it was`() throws {
        let before = try NetworkNamespace.current().inode
        let fresh = try NetworkNamespace.anonymous()
        #expect(fresh.inode != before)
        #expect(try NetworkNamespace.current().inode == before)
        #expect(try fresh.output(of: "ls", "/proc/self/net/dev_snmp6") == "lo\n")
    }

    @Test func `inside withEntered the thread is in the namespace, also after an error outside again`() throws {
        let before = try NetworkNamespace.current().inode
        let fresh = try NetworkNamespace.anonymous()
        let inside = try fresh.withEntered { () throws(KernelError) in try NetworkNamespace.current().inode }
        #expect(inside == fresh.inode)
        let failed = errno {
            try fresh.withEntered { () throws(KernelError) in
                throw KernelError(operation: "test", errno: .ioError)
            }
        }
        #expect(failed == .ioError)
        #expect(try NetworkNamespace.current().inode == before)
    }

    @Test func `a namespace is opened by the path of a process`() throws {
        let own = try NetworkNamespace.current()
        #expect(try NetworkNamespace.of(process: getpid()).inode == own.inode)
        #expect(try NetworkNamespace.open("/proc/self/ns/net").inode == own.inode)
    }

    @Test(arguments: ["/dev/null", "/etc/passwd", "/proc/self/ns/mnt", "/tmp"])
    func `a file that is no network namespace is refused with EINVAL`(path: String) {
        #expect(errno { try NetworkNamespace.open(path) } == .invalidArgument)
    }

    @Test func `a FIFO is refused without waiting for a writer`() throws {
        try withTemporaryDirectory { directory in
            mkfifo("\(directory)/fifo", 0o600)
            #expect(errno { try NetworkNamespace.open("\(directory)/fifo") } == .invalidArgument)
        }
    }

    @Test func `a missing file is ENOENT, and the error names it`() {
        let error = #expect(throws: KernelError.self) { _ = try NetworkNamespace.open("/run/netns/fairlead-no-such") }
        #expect(error?.errno == .noSuchFileOrDirectory)
        #expect(error?.description.contains("/run/netns/fairlead-no-such") == true)
    }

    @Test func `a named namespace is listed by ip, taken once, and removed`() throws {
        let name = "fairlead-test-\(getpid())"
        defer { _ = try? NetworkNamespace.remove(named: name) }
        let made = try NetworkNamespace.create(named: name)
        let listed = try ChildProcess.capture("ip", ["netns", "list"]).text
        #expect(listed.split(separator: "\n").contains { $0.split(separator: " ").first ?? "" == name })
        #expect(try NetworkNamespace.names().contains(name))
        let inodeByName = try NetworkNamespace.open(named: name)?.inode
        #expect(inodeByName == made.inode)
        #expect(errno { try NetworkNamespace.create(named: name) } == .fileExists)
        // The failed attempt did not take the first one's name away.
        #expect(try NetworkNamespace.open(NetworkNamespace.path(named: name)).inode == made.inode)

        #expect(try NetworkNamespace.remove(named: name))
        #expect(try !NetworkNamespace.remove(named: name))
        #expect(try !NetworkNamespace.names().contains(name))
        let inodeOfGone = try NetworkNamespace.open(named: name)?.inode
        #expect(inodeOfGone == nil)
    }

    @Test func `what a crash between file and mount leaves is removed too`() throws {
        let name = "fairlead-crash-\(getpid())"
        _ = try NetworkNamespace.create(named: name)
        umount2(NetworkNamespace.path(named: name), Int32(MNT_DETACH))
        #expect(try NetworkNamespace.remove(named: name))
    }

    @Test(arguments: ["", ".", "..", "a/b", "../x", "a\0b", String(repeating: "n", count: 256)])
    func `a hostile name reaches no file`(name: String) {
        #expect(errno { try NetworkNamespace.create(named: name) } == .invalidArgument)
        #expect(errno { try NetworkNamespace.remove(named: name) } == .invalidArgument)
        #expect(errno { try NetworkNamespace.open(named: name) } == .invalidArgument)
    }
}
