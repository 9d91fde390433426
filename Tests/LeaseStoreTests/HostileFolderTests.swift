import Glibc
import KernelInterface
import NetworkAddresses
import Testing

@testable import AddressAllocation
@testable import LeaseStore

/// What may lie under the name of an address without being a lease.
enum Obstacle: CaseIterable {
    case folder, fullFolder, danglingLink, linkToLease, pipe, hugeFile, sparseFile, binary

    fileprivate func put(at path: String) throws {
        switch self {
        case .folder: mkdir(path, 0o755)
        case .fullFolder:
            mkdir(path, 0o755)
            mkdir("\(path)/10.1.2.3", 0o755)
        case .danglingLink: symlink("/nowhere/at/all", path)
        case .linkToLease: symlink("10.1.2.2", path)
        case .pipe: mkfifo(path, 0o644)
        case .hugeFile: try write(path, [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 20))
        case .sparseFile:
            try write(path, [])
            truncate(path, 1 << 40)
        case .binary: try write(path, [0xff, 0x00, 0x0d, 0x0a, 0xfe])
        }
    }

    private func write(_ path: String, _ bytes: [UInt8]) throws {
        let parts = path.split(separator: "/").map(String.init)
        try StateDirectory.open("/" + parts.dropLast().joined(separator: "/"), create: false)
            .create(parts.last!, bytes, synchronized: false)
    }
}

@Suite struct HostileFolderTests {
    @Test(arguments: Obstacle.allCases) func `what is no lease takes its address away and nothing else`(
        obstacle: Obstacle
    ) throws {
        let bench = try Bench.set(pool("10.1.2.0/29"))
        #expect(try bench.reserve(owner("a")) == ["10.1.2.2"])
        for last in [3, 5] { try obstacle.put(at: "\(bench.files.path)/10.1.2.\(last)") }
        #expect(try bench.reserve(owner("b")) == ["10.1.2.4"])
        #expect(try bench.reserve(owner("c")) == ["10.1.2.6"])
        #expect(throws: LeaseError.self) { try bench.reserve(owner("d")) }
        let named = try AddressRequest(sets: bench.request.sets, requested: [IPAddress("10.1.2.3")!])
        #expect(throws: LeaseError.self) { try bench.store.reserve(named, for: owner("d")) }
        #expect(try bench.store.exhaustedSet(of: bench.request.sets) != nil)
        for id in ["a", "b", "c", "d"] { try bench.release(owner(id)) }
        if obstacle != .binary { _ = try bench.store.releaseAll(except: []) }
        #expect(try bench.files.contains("10.1.2.3") && bench.files.contains("10.1.2.5"))
        #expect(try bench.reserve(owner("e")) == ["10.1.2.2"])
    }

    @Test(arguments: ["last_reserved_ip.0", "notes", "10.1.2.300", "::1%eth0", "lock.old"], Obstacle.allCases)
    func `what has another name does not matter`(name: String, obstacle: Obstacle) throws {
        let bench = try Bench.set(pool("10.1.2.0/29"))
        try obstacle.put(at: "\(bench.files.path)/\(name)")
        #expect(try bench.reserve(owner("a")) == ["10.1.2.2"])
        try bench.release(owner("a"))
        #expect(try bench.leases == [])
    }

    @Test(arguments: ["", "10.1.2.3 10.1.2.4", "300.1.1.1", "../../etc/passwd", String(repeating: "10.1.2.2 ", count: 400)])
    func `an index that lies is not believed`(content: String) throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        try bench.reserve(owner("a"))
        try bench.reserve(owner("b"))
        let index = try StateDirectory.open("\(bench.files.path)/.fairlead/by-owner", create: false)
        if content.isEmpty { try index.remove("a@eth0") } else { try index.replaceLink("a@eth0", content) }
        try bench.release(owner("a"))
        // The lie hides a lease at most until the folder is looked at anew; others keep theirs.
        #expect(try bench.text("10.1.2.3") == "b\r\neth0")
        try bench.write("10.1.2.77", "theirs\r\neth0")
        try bench.release(owner("a"))
        #expect(try bench.leases == ["10.1.2.3", "10.1.2.77"])
    }

    @Test func `one owner of a thousand leases has all of them freed`() throws {
        let bench = try Bench.set(pool("10.1.0.0/16"))
        for number in 0..<1000 {
            try bench.files.create("10.1.\(4 + number / 250).\(number % 250)", Array("many\r\neth0".utf8), synchronized: false)
        }
        #expect(try bench.reserve(owner("one")) == ["10.1.0.2"])
        #expect(throws: LeaseError.self) { try bench.reserve(owner("many")) }
        try bench.release(owner("many"))
        #expect(try bench.leases == ["10.1.0.2"] && bench.indexed == ["one@eth0"])
    }

    @Test func `a lock that nobody gives back is an error after a while`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        let lock = try bench.files.lock("lock", timeout: .zero)
        let store = try LeaseStore.open(bench.folder.path, network: "net", lockTimeout: .milliseconds(50))
        let errors = [
            #expect(throws: LeaseError.self) { try store.reserve(bench.request, for: owner("a")) },
            #expect(throws: LeaseError.self) { try store.release(owner("a")) },
            #expect(throws: LeaseError.self) { try store.releaseAll(except: []) },
        ]
        for error in errors {
            #expect(error == .busy("the leases in \(bench.files.path) are locked by another process"))
        }
        // Who only looks does not wait.
        #expect(try store.exhaustedSet(of: bench.request.sets) == nil)
        _ = consume lock
        #expect(try bench.reserve(owner("a")) == ["10.1.2.2"])
    }
}
