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

    /// Puts it in the place of what has that name now, with the folders that lead there.
    fileprivate func replace(_ name: String, in path: String) throws {
        let parts = name.split(separator: "/").map(String.init)
        let folder = try StateDirectory.open(([path] + parts.dropLast()).joined(separator: "/"), create: true)
        try folder.removeAll(parts.last!)
        try put(at: "\(path)/\(name)")
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
        #expect(try bench.text("10.1.2.2") == nil)
        #expect(try bench.text("10.1.2.3") == "b\r\neth0")
        try bench.write("10.1.2.77", "theirs\r\neth0")
        try bench.release(owner("a"))
        #expect(try bench.leases == ["10.1.2.3", "10.1.2.77"])
    }

    /// Where the bookkeeping of a store has names of its own.
    static let bookkeeping = [
        ".fairlead", ".fairlead/complete", ".fairlead/by-owner", ".fairlead/by-owner/a@eth0", ".fairlead/by-owner/b@eth0",
        ".fairlead/by-owner/stray", ".fairlead/former-boot", ".fairlead/former-boot/a@eth0", ".fairlead/resting",
        ".fairlead/resting/33", ".fairlead/resting/33/10.1.2.3", ".fairlead/resting/1",
    ]

    @Test(arguments: bookkeeping, Obstacle.allCases)
    func `bookkeeping that is none of ours is made again from the leases`(name: String, obstacle: Obstacle) throws {
        let bench = try Bench.set(pool("10.1.2.0/28"))
        for id in ["a", "b", "c"] { try bench.reserve(owner(id), rest: .seconds(30)) }
        try bench.release(owner("b"), rest: .seconds(30))
        try obstacle.replace(name, in: bench.files.path)
        #expect(try bench.store.exhaustedSet(of: bench.request.sets) == nil)
        #expect(throws: LeaseError.self) { try bench.reserve(owner("a"), rest: .seconds(30)) }
        // The first free one, which may have lost its rest.
        #expect(try ["10.1.2.3", "10.1.2.5"].contains(bench.reserve(owner("d"), rest: .seconds(30))[0]))
        try bench.release(owner("a"), rest: .seconds(30))
        #expect(try bench.store.releaseAll(except: [owner("d")]).map(\.description) == ["10.1.2.4"])
        try bench.release(owner("d"), rest: .seconds(30))
        #expect(try bench.leases == [])
    }

    @Test func `a DEL comes first where the bookkeeping is none of ours`() throws {
        for name in Self.bookkeeping {
            for obstacle in Obstacle.allCases {
                let bench = try Bench.set(pool("10.1.2.0/28"))
                try bench.reserve(owner("a"))
                try obstacle.replace(name, in: bench.files.path)
                try bench.release(owner("a"), rest: .seconds(30))
                #expect(try bench.leases == [], "\(obstacle) at \(name)")
            }
        }
    }

    /// Thousands of turns of a store in whose folder somebody else writes what he likes.
    @Test(arguments: [1, 2, 3] as [UInt64]) func `whatever lies in the folder, no address is given out twice`(
        seed: UInt64
    ) throws {
        let bench = try Bench.set(pool("10.1.2.0/27"), pool("fd00::/124"))
        var random = SplitMix(seed: seed)
        var held: [String: [String]] = [:]
        let foreign = ["10.1.2.7", "10.1.2.9", "fd00::5", "notes", "last_reserved_ip.0", "last_reserved_ip.1"]
        for turn in 0..<1500 {
            let id = "c\(Int.random(in: 0..<12, using: &random))"
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                do {
                    let given = try bench.reserve(owner(id), rest: .seconds(30), now: .seconds(1000 + turn))
                    #expect(held[id] == nil && Set(given).isDisjoint(with: held.values.joined()), "\(given) in turn \(turn)")
                    held[id] = given
                } catch {
                    #expect(held[id] != nil || "\(error)".contains("no IP addresses available"), "\(error) in turn \(turn)")
                }
            case 5..<8:
                try bench.release(owner(id), rest: .seconds(30), now: .seconds(1000 + turn))
                held[id] = nil
            case 8:
                let valid = held.keys.filter { _ in Bool.random(using: &random) }
                _ = try bench.store.releaseAll(except: Set(valid.map { owner($0) }), now: .seconds(1000 + turn))
                held = held.filter { valid.contains($0.key) }
            default:
                let taken = held.values.joined()
                let name = (Self.bookkeeping + foreign.filter { !taken.contains($0) }).randomElement(using: &random)!
                // Where an obstacle lies already in the way there is no folder to put another into.
                try? Obstacle.allCases.randomElement(using: &random)!.replace(name, in: bench.files.path)
            }
            for (id, addresses) in held {
                for address in addresses { #expect(try bench.text(address) == "\(id)\r\neth0", "turn \(turn)") }
            }
        }
        for number in 0..<12 { try bench.release(owner("c\(number)")) }
        #expect(try bench.leases.filter { !foreign.contains($0) } == [])
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

/// A generator whose numbers repeat with its seed.
private struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
