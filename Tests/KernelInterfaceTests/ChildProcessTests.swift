import Glibc
import KernelInterface
import SystemPackage
import Testing

@Suite struct ChildProcessTests {
    @Test func `output, error output, input and status of a program are kept apart`() throws {
        let captured = try ChildProcess.capture("sh", ["-c", "cat; echo wrong >&2; exit 3"], input: Array("in".utf8))
        #expect(captured.status == .exited(3))
        #expect(captured.text == "in")
        #expect(captured.errorText == "wrong\n")
    }

    @Test func `arguments and environment arrive as they are`() throws {
        let captured = try ChildProcess.capture(
            "/bin/sh", ["-c", "printf '%s|' \"$@\"; env", "sh", "a b", "", "*"], environment: ["ONLY": "x=y z"])
        #expect(captured.text.hasPrefix("a b||*|"))
        #expect(captured.text.contains("ONLY=x=y z\n"))
        #expect(!captured.text.contains("HOME="))
    }

    @Test func `a missing program is ENOENT and named`() {
        let error = #expect(throws: KernelError.self) { _ = try ChildProcess.capture("/nonexistent/plugin", []) }
        #expect(error?.errno == .noSuchFileOrDirectory)
        #expect(error?.operation.contains("/nonexistent/plugin") == true)
    }

    @Test func `more input than a pipe holds and more output than a pipe holds do not block`() throws {
        let input = [UInt8](repeating: 7, count: 1 << 20)
        #expect(try ChildProcess.capture("cat", [], input: input).standardOutput == input)
        #expect(try ChildProcess.capture("true", [], input: input).status.isSuccess)
    }

    @Test func `a program that writes without end is stopped`() {
        #expect(errno { try ChildProcess.capture("yes", [], outputLimit: 100_000) } == .fileTooLarge)
    }

    @Test func `a program that does not end is stopped at its timeout`() {
        #expect(errno { try ChildProcess.capture("sleep", ["60"], timeout: .milliseconds(50)) } == .timedOut)
        let closed = ["-c", "exec >&- 2>&-; exec sleep 60"]
        #expect(errno { try ChildProcess.capture("sh", closed, timeout: .milliseconds(50)) } == .timedOut)
    }

    @Test func `a grandchild that keeps the pipe open does not hold up the result`() throws {
        let captured = try ChildProcess.capture("sh", ["-c", "sleep 30 & echo $!"], timeout: .seconds(20))
        #expect(captured.status.isSuccess)
        let grandchild = try #require(Int32(captured.text.dropLast()))
        #expect(try ProcessIdentity(pid: grandchild)?.signal(.kill) == true)
    }

    @Test func `a child has three descriptors, none of the parent's`() throws {
        // On purpose without O_CLOEXEC: as a careless library would open it.
        let leaked = open("/dev/null", O_RDONLY)
        defer { close(leaked) }
        let captured = try ChildProcess.capture("/bin/sh", ["-c", "ls /proc/$$/fd"])
        #expect(captured.text == "0\n1\n2\n")
    }

    @Test func `a child starts with no signal blocked or ignored`() throws {
        let previous = signal(SIGPIPE, SIG_IGN)
        defer { signal(SIGPIPE, previous) }
        let status = try ChildProcess.capture("cat", ["/proc/self/status"]).text
        for field in ["SigBlk:", "SigIgn:"] {
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(field) })
            let signals = try #require(UInt64(line.split(separator: "\t")[1], radix: 16))
            // 32 and 33 are glibc's own, which posix_spawn leaves ignored.
            #expect(signals & ~(1 << 31 | 1 << 32) == 0, "\(line)")
        }
    }

    @Test func `a new session is led by the child`() throws {
        for newSession in [true, false] {
            let child = try ChildProcess.spawn(executable: "sleep", arguments: ["60"], newSession: newSession)
            #expect((getsid(child.pid) == child.pid) == newSession)
            try child.signal(.kill)
            #expect(try child.wait() == .signalled(.kill))
        }
    }

    @Test func `output is appended to a file`() throws {
        try withTemporaryDirectory { path in
            for word in ["one", "two"] {
                let child = try ChildProcess.spawn(
                    executable: "echo", arguments: [word], standardOutput: .file("\(path)/log"))
                #expect(try child.wait().isSuccess)
            }
            let directory = try StateDirectory.open(path, create: false)
            #expect(try directory.read("log", limit: 100) == Array("one\ntwo\n".utf8))
        }
    }

    @Test(.needsRoot) func `a child starts in the calling thread's network namespace`() throws {
        let fresh = try NetworkNamespace.anonymous()
        #expect(try fresh.output(of: "readlink", "/proc/self/ns/net") == "net:[\(fresh.inode)]\n")
    }

    @Test func `a process is recognised by its start, signalled, and its end is seen before it is waited for`() throws {
        let child = try ChildProcess.spawn(executable: "sleep", arguments: ["60"])
        let identity = try #require(child.identity)
        #expect(identity.isRunning)
        #expect(!identity.waitForEnd(timeout: .milliseconds(20)))
        let impostor = ProcessIdentity(pid: child.pid, startTime: identity.startTime + 1)
        #expect(!impostor.isRunning)
        #expect(try !impostor.signal(.kill))
        #expect(try identity.signal(.terminate))
        #expect(identity.waitForEnd(timeout: .seconds(20)))
        #expect(!identity.isRunning)
        #expect(try child.wait() == .signalled(.terminate))
        #expect(try !identity.signal(.kill))
        #expect(child.identity == nil)
        #expect(errno { try child.wait() } == .noChildProcess)
    }

    @Test func `this process knows itself`() {
        #expect(ProcessIdentity.current.pid == getpid())
        #expect(ProcessIdentity.current.isRunning)
    }
}
