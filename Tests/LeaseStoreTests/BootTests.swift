import KernelInterface
import NetworkAddresses
import Testing

@testable import AddressAllocation
@testable import LeaseStore

/// One folder through several boots. Leases are as old as their files, so a boot that is to come lies in the future.
private struct Machine: ~Copyable {
    let bench: Bench
    private(set) var boot = Boot(identifier: "boot 1", time: .zero)

    /// As after an ADD in the first boot, so that there is an index.
    static func used(_ sets: RangeSet...) throws -> Machine {
        let machine = Machine(bench: try Bench.set(sets))
        try machine.reserve("first")
        try machine.release("first")
        return machine
    }

    private init(bench: consuming Bench) { self.bench = bench }

    mutating func reboot() {
        boot = Boot(identifier: "boot \(Int.random(in: 2 ... .max))", time: Boot.current.time + .seconds(1_000_000))
    }

    /// The boot goes on and time passes, so that leases are of it.
    mutating func settle() { boot.time = .zero }

    func store() throws -> LeaseStore { try LeaseStore.open(bench.folder.path, network: "net", boot: boot) }

    @discardableResult
    func reserve(_ id: String, named: String? = nil) throws -> [String] {
        let request = try AddressRequest(
            sets: bench.request.sets, requested: [named].compactMap { $0.flatMap { IPAddress($0) } })
        return try store().reserve(request, for: owner(id), coolDown: CoolDown(rest: .zero)).map(\.description)
    }

    func release(_ id: String) throws { try store().release(owner(id), coolDown: CoolDown(rest: .zero)) }

    func isExhausted() throws -> Bool { try store().exhaustedSet(of: bench.request.sets) != nil }
}

@Suite struct BootTests {
    @Test func `leases of an earlier boot are given out once nothing else is left`() throws {
        var machine = try Machine.used(pool("10.1.2.0/29"))
        for id in ["a", "b", "c"] { try machine.reserve(id) }
        machine.reboot()
        #expect(try machine.bench.leases.count == 3)
        // Two addresses have no lease; the three dead ones wait until those are gone.
        machine.settle()
        #expect(try machine.reserve("d") == ["10.1.2.6"] && machine.reserve("e") == ["10.1.2.2"])
        machine.reboot()
        #expect(try !machine.isExhausted())
    }

    @Test func `all of a full pool comes into use again`() throws {
        var machine = try Machine.used(pool("10.1.2.0/29"), pool("fd00::/125"))
        let before = try ["a", "b", "c", "d", "e"].map { try machine.reserve($0) }
        #expect(try machine.isExhausted())
        machine.reboot()
        #expect(try !machine.isExhausted())
        let after = try ["f", "g", "h", "i", "j"].map { try machine.reserve($0) }
        #expect(Set(after.map(\.[0])) == Set(before.map(\.[0])))
        machine.settle()
        #expect(throws: LeaseError.self) { try machine.reserve("k") }
        #expect(try machine.isExhausted())
        for id in ["f", "g", "h", "i", "j"] { try machine.release(id) }
        #expect(try machine.bench.indexed == [])
        #expect(try machine.bench.leases.filter { $0.hasPrefix("10.") } == [])
    }

    @Test func `a container that comes again after a reboot gets an address, and DEL of one that does not frees its own`()
        throws
    {
        var machine = try Machine.used(pool("10.1.2.0/24"))
        try machine.reserve("podman")
        try machine.reserve("gone")
        machine.reboot()
        let again = try machine.reserve("podman")
        #expect(again == ["10.1.2.5"])
        machine.settle()
        #expect(throws: LeaseError.self) { try machine.reserve("podman") }
        try machine.release("gone")
        #expect(try machine.bench.leases == again && machine.bench.indexed == ["podman@eth0"])
    }

    @Test func `an address asked for by name is taken from an owner of an earlier boot, and from no other`() throws {
        var machine = try Machine.used(pool("10.1.2.0/24"))
        try machine.reserve("old", named: "10.1.2.9")
        #expect(throws: LeaseError.self) { try machine.reserve("new", named: "10.1.2.9") }
        machine.reboot()
        #expect(try machine.reserve("new", named: "10.1.2.9") == ["10.1.2.9"])
        #expect(try machine.bench.text("10.1.2.9") == "new\r\neth0" && machine.bench.indexed == ["new@eth0"])
    }

    @Test func `leases that host-local made since the reboot live`() throws {
        var machine = try Machine.used(pool("10.1.2.0/29"))
        for id in ["a", "b", "c"] { try machine.reserve(id) }
        machine.reboot()
        // Nobody of ours has run yet in this boot.
        try machine.bench.write("10.1.2.6", "theirs\r\neth0")
        try machine.bench.write("10.1.2.2", "theirs too\r\neth0")
        let given = try ["d", "e", "f"].map { try machine.reserve($0)[0] }
        #expect(Set(given) == ["10.1.2.3", "10.1.2.4", "10.1.2.5"])
        #expect(throws: LeaseError.self) { try machine.reserve("g") }
    }

    @Test func `a folder that was host-local's alone holds no dead leases`() throws {
        let bench = try Bench.set([pool("10.1.2.0/30")])
        try bench.write("10.1.2.2", "theirs\r\neth0")
        let boot = Boot(identifier: "boot 9", time: Boot.current.time + .seconds(1_000_000))
        let store = try LeaseStore.open(bench.folder.path, network: "net", boot: boot)
        #expect(throws: LeaseError.self) { try store.reserve(bench.request, for: owner("a")) }
        #expect(try store.exhaustedSet(of: bench.request.sets) != nil)
    }

    @Test func `leases that outlive boots are never dead`() throws {
        var machine = try Machine.used(pool("10.1.2.0/30"))
        try machine.reserve("a")
        machine.reboot()
        let store = try LeaseStore.open(machine.bench.folder.path, network: "net", boot: nil)
        #expect(throws: LeaseError.self) { try store.reserve(machine.bench.request, for: owner("b")) }
        #expect(try store.addresses(of: owner("a")) == [IPAddress("10.1.2.2")!])
    }

    @Test func `a process that was killed while it set a boot's leases aside has lost none`() throws {
        var machine = try Machine.used(pool("10.1.2.0/29"))
        for id in ["a", "b", "c"] { try machine.reserve(id) }
        machine.reboot()
        let own = try StateDirectory.open("\(machine.bench.files.path)/.fairlead", create: false)
        let former = try own.subdirectory("former-boot", create: true)
        try own.subdirectory("by-owner", create: false).move("b@eth0", to: former)
        let given = try ["d", "e", "f", "g", "h"].map { try machine.reserve($0)[0] }
        #expect(Set(given).count == 5)
        // And it finds what it did not move.
        try machine.release("b")
        #expect(try machine.bench.leases.count == 5)
    }
}
