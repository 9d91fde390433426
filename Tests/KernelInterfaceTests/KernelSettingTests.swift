import KernelInterface
import SystemPackage
import Testing

@Suite struct KernelSettingTests {
    @Test(.needsRoot) func `a setting belongs to the namespace the thread is in`() throws {
        let forwarding = ["net", "ipv4", "conf", "lo", "forwarding"]
        let (left, right) = (try NetworkNamespace.anonymous().inode, try NetworkNamespace.current().inode)
        #expect(left != right)
        let one = try NetworkNamespace.anonymous()
        let other = try NetworkNamespace.anonymous()
        try one.withEntered { () throws(KernelError) in try KernelSetting.write(forwarding, "1") }
        try other.withEntered { () throws(KernelError) in try KernelSetting.write(forwarding, "0") }
        #expect(try one.withEntered { () throws(KernelError) in try KernelSetting.read(forwarding) } == "1")
        #expect(try other.withEntered { () throws(KernelError) in try KernelSetting.read(forwarding) } == "0")
    }

    @Test func `a missing setting is nil to read and ENOENT to write`() throws {
        let missing = ["net", "ipv4", "conf", "no-such-link", "forwarding"]
        #expect(try KernelSetting.read(missing) == nil)
        #expect(errno { try KernelSetting.write(missing, "1") } == .noSuchFileOrDirectory)
    }

    @Test(arguments: [[], ["net", ".."], ["net", ""], ["net/ipv4"], ["."], ["net\0"]])
    func `a path that leads elsewhere is refused`(path: [String]) {
        #expect(errno { try KernelSetting.read(path) } == .invalidArgument)
        #expect(errno { try KernelSetting.write(path, "1") } == .invalidArgument)
    }
}
