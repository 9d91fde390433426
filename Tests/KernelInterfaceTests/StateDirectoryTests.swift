import Glibc
import KernelInterface
import Synchronization
import SystemPackage
import Testing

@Suite struct StateDirectoryTests {
    @Test func `a created file has its content, its mode and nothing beside it`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            try directory.create("10.1.0.2", Array("pod\r\neth0".utf8), mode: 0o600)
            #expect(try directory.read("10.1.0.2", limit: 100) == Array("pod\r\neth0".utf8))
            #expect(try directory.entries() == ["10.1.0.2"])
            #expect(try ChildProcess.capture("ls", ["-A", path]).text == "10.1.0.2\n")
            #expect(try ChildProcess.capture("stat", ["-c", "%a", "\(path)/10.1.0.2"]).text == "600\n")
        }
    }

    @Test func `a file is created once, and the first content stays`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            try directory.create("lease", [1])
            let error = #expect(throws: KernelError.self) { try directory.create("lease", [2]) }
            #expect(error?.errno == .fileExists)
            #expect(error?.description.contains("\(path)/lease") == true)
            #expect(try directory.read("lease", limit: 9) == [1])
        }
    }

    @Test func `of many who create the same name at once exactly one succeeds`() async throws {
        let path = "/tmp/fairlead-race-\(getpid())"
        _ = try StateDirectory.open(path, create: true)
        defer {
            let parent = try? StateDirectory.open("/tmp", create: false)
            _ = try? parent?.removeSubdirectory("fairlead-race-\(getpid())")
        }
        let winners = await withTaskGroup(of: [Int].self) { group in
            for contender in 0..<16 {
                group.addTask {
                    guard let directory = try? StateDirectory.open(path, create: false) else { return [] }
                    return (0..<20).filter { (try? directory.create("\($0)", [UInt8(contender)])) != nil }
                }
            }
            return await group.reduce(into: []) { $0 += $1 }
        }
        #expect(winners.sorted() == Array(0..<20))
    }

    @Test func `replacing shows the new content and leaves no temporary file`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            try directory.replace("state", [1])
            try directory.replace("state", [2, 3])
            #expect(try directory.read("state", limit: 9) == [2, 3])
            #expect(try ChildProcess.capture("ls", ["-A", path]).text == "state\n")
        }
    }

    @Test func `an unfinished file of a dead process is no entry`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            _ = try ChildProcess.capture("touch", ["\(path)/.unfinished-abc", "\(path)/whole"])
            #expect(try directory.entries() == ["whole"])
        }
    }

    @Test func `many entries are all listed`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            let names = (0..<2000).map { "lease-\($0)" }
            _ = try ChildProcess.capture("touch", names.map { "\(path)/\($0)" })
            #expect(try directory.entries().sorted() == names.sorted())
        }
    }

    @Test(arguments: ["", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b", String(repeating: "n", count: 256)])
    func `a hostile name is refused by every operation`(name: String) throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            try directory.create("good", [])
            #expect(errno { try directory.create(name, []) } == .invalidArgument)
            #expect(errno { try directory.replace(name, []) } == .invalidArgument)
            #expect(errno { try directory.read(name, limit: 1) } == .invalidArgument)
            #expect(errno { try directory.remove(name) } == .invalidArgument)
            #expect(errno { try directory.removeSubdirectory(name) } == .invalidArgument)
            #expect(errno { try directory.rename(name, to: "x") } == .invalidArgument)
            #expect(errno { try directory.rename("good", to: name) } == .invalidArgument)
            #expect(errno { try directory.subdirectory(name, create: true) } == .invalidArgument)
            #expect(errno { try directory.lock(name, timeout: .zero) } == .invalidArgument)
            #expect(try directory.entries() == ["good"])
        }
    }

    @Test func `a name of 255 bytes is a name`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            let name = String(repeating: "n", count: 255)
            try directory.create(name, [1])
            try directory.replace(name, [2])
            #expect(try directory.read(name, limit: 1) == [2])
        }
    }

    @Test func `absence is nil or false, not an error`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            #expect(try directory.read("none", limit: 1) == nil)
            #expect(try !directory.remove("none"))
            #expect(try !directory.removeSubdirectory("none"))
            #expect(errno { try directory.subdirectory("none", create: false) } == .noSuchFileOrDirectory)
        }
    }

    @Test func `more than the limit, a directory, a FIFO and a symbolic link are no content`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            try directory.create("five", [1, 2, 3, 4, 5])
            #expect(try directory.read("five", limit: 5)?.count == 5)
            #expect(errno { try directory.read("five", limit: 4) } == .fileTooLarge)
            _ = try directory.subdirectory("inner", create: true)
            #expect(errno { try directory.read("inner", limit: 4) } == .isDirectory)
            mkfifo("\(path)/fifo", 0o600)
            #expect(errno { try directory.read("fifo", limit: 4) } == .invalidArgument)
            symlink("five", "\(path)/link")
            #expect(errno { try directory.read("link", limit: 5) } == .tooManySymbolicLinkLevels)
            #expect(try directory.read("link", limit: 5, followingLinks: true)?.count == 5)
        }
    }

    @Test func `missing parents are made, and a tree is removed without leaving it through links`() throws {
        try withTemporaryDirectory { path in
            let leaf = try StateDirectory.open("\(path)/a/b/c", create: true)
            try leaf.create("file", [])
            _ = try StateDirectory.open("\(path)/a/b/c/", create: true)
            let top = try StateDirectory.open(path, create: false)
            try top.create("kept", [])
            symlink("\(path)", "\(path)/a/b/up")
            #expect(try top.removeSubdirectory("a"))
            #expect(try top.entries() == ["kept"])
        }
    }

    @Test func `a lock excludes, ends with its value, and waiting for it ends in time`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            do {
                let held = try directory.lock("lock", timeout: .zero)
                let start = ContinuousClock.now
                #expect(errno { try directory.lock("lock", timeout: .milliseconds(60)) } == .timedOut)
                let waited = ContinuousClock.now - start
                #expect(waited >= .milliseconds(60) && waited < .seconds(5))
                _ = consume held
            }
            _ = try directory.lock("lock", timeout: .zero)
        }
    }

    @Test func `shared locks are beside each other, and beside no other`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            let first = try directory.lock("lock", shared: true, timeout: .zero)
            let second = try directory.lock("lock", shared: true, timeout: .zero)
            #expect(errno { try directory.lock("lock", timeout: .milliseconds(30)) } == .timedOut)
            _ = consume first
            #expect(errno { try directory.lock("lock", timeout: .milliseconds(30)) } == .timedOut)
            _ = consume second
            let alone = try directory.lock("lock", timeout: .zero)
            #expect(errno { try directory.lock("lock", shared: true, timeout: .milliseconds(30)) } == .timedOut)
            _ = consume alone
        }
    }

    @Test func `of a crowd at a lock one has it at a time, and each gets its turns`() async throws {
        let path = "/tmp/fairlead-crowd-\(getpid())"
        let directory = try StateDirectory.open(path, create: true)
        defer {
            let parent = try? StateDirectory.open("/tmp", create: false)
            _ = try? parent?.removeSubdirectory("fairlead-crowd-\(getpid())")
        }
        let most = try await withThrowingTaskGroup(of: Int.self) { group in
            let inside = Counter()
            for _ in 0..<8 {
                group.addTask {
                    let own = try StateDirectory.open(path, create: false)
                    for _ in 0..<100 {
                        let lock = try own.lock("lock", timeout: .seconds(60))
                        inside.enter()
                        inside.leave()
                        _ = consume lock
                    }
                    return inside.most
                }
            }
            return try await group.reduce(0, max)
        }
        #expect(most == 1)
        #expect(try directory.entries() == ["lock"])
    }

    @Test func `who waits gets the lock when it is free`() async throws {
        let path = "/tmp/fairlead-lock-\(getpid())"
        defer {
            let parent = try? StateDirectory.open("/tmp", create: false)
            _ = try? parent?.removeSubdirectory("fairlead-lock-\(getpid())")
        }
        let directory = try StateDirectory.open(path, create: true)
        let held = try directory.lock("lock", timeout: .zero)
        let waiter = Task.detached {
            let directory = try StateDirectory.open(path, create: false)
            _ = try directory.lock("lock", timeout: .seconds(30))
        }
        try await Task.sleep(for: .milliseconds(50))
        _ = consume held
        try await waiter.value
    }

    @Test func `a child process does not keep its parent's lock`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            let held = try directory.lock("lock", timeout: .zero)
            let child = try ChildProcess.spawn(executable: "sleep", arguments: ["60"])
            _ = consume held
            #expect(errno { _ = try directory.lock("lock", timeout: .zero) } == nil)
            try child.signal(.kill)
            try child.wait()
        }
    }
}

/// How many are in a place at a time.
private final class Counter: Sendable {
    private let state = Mutex((now: 0, most: 0))

    var most: Int { state.withLock { $0.most } }

    func enter() {
        state.withLock { state in
            state.now += 1
            state.most = max(state.most, state.now)
        }
    }

    func leave() { state.withLock { $0.now -= 1 } }
}
