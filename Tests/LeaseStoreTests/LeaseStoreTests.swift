import KernelInterface
import NetworkAddresses
import Testing

@testable import AddressAllocation
@testable import LeaseStore

@Suite struct LeaseStoreTests {
    @Test func `a lease is host-local's file`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"), pool("fd00::/64"))
        #expect(try bench.reserve(owner("dummy")) == ["10.1.2.2", "fd00::2"])
        #expect(try bench.text("10.1.2.2") == "dummy\r\neth0" && bench.text("fd00::2") == "dummy\r\neth0")
        #expect(try bench.text("last_reserved_ip.0") == "10.1.2.2" && bench.text("last_reserved_ip.1") == "fd00::2")
        try bench.release(owner("dummy"))
        #expect(try bench.leases == [] && bench.indexed == [])
        #expect(try bench.text("last_reserved_ip.0") == "10.1.2.2")
        #expect(try bench.reserve(owner("next")) == ["10.1.2.3", "fd00::3"])
    }

    @Test func `an owner gets one address of each set and no second one`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        try bench.reserve(owner("c"))
        let error = #expect(throws: LeaseError.self) { try bench.reserve(owner("c")) }
        #expect(
            error?.description
                == "failed to allocate for range 0: 10.1.2.2 has been allocated to c, duplicate allocation is not allowed"
        )
        #expect(try bench.reserve(owner("c", "eth1")) == ["10.1.2.3"])
        try bench.release(owner("c"))
        #expect(try bench.leases == ["10.1.2.3"])
        #expect(try bench.store.addresses(of: owner("c", "eth1")) == [IPAddress("10.1.2.3")!])
        #expect(try bench.store.addresses(of: owner("c")) == [])
    }

    @Test func `a full set fails the whole request and frees what it had`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"), pool("10.2.2.0/30"))
        try bench.reserve(owner("a"))
        let error = #expect(throws: LeaseError.self) { try bench.reserve(owner("b")) }
        #expect(
            error?.description
                == "failed to allocate for range 1: no IP addresses available in range set: 10.2.2.1-10.2.2.2")
        #expect(try bench.leases == ["10.1.2.2", "10.2.2.2"] && bench.indexed == ["a@eth0"])
        #expect(try bench.store.exhaustedSet(of: bench.request.sets)?.description == "10.2.2.1-10.2.2.2")
        try bench.release(owner("a"))
        #expect(try bench.store.exhaustedSet(of: bench.request.sets) == nil)
        #expect(try bench.reserve(owner("b")) == ["10.1.2.3", "10.2.2.2"])
    }

    @Test func `an address asked for by name is the one or nothing is`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"), pool("10.2.2.0/24"))
        let named = try AddressRequest(sets: bench.request.sets, requested: [IPAddress("10.2.2.77")!])
        #expect(try bench.store.reserve(named, for: owner("a")) == [IPAddress("10.1.2.2")!, IPAddress("10.2.2.77")!])
        let error = #expect(throws: LeaseError.self) { try bench.store.reserve(named, for: owner("b")) }
        #expect(
            error?.description
                == "failed to allocate for range 1: requested IP address 10.2.2.77 is not available in range set "
                + "10.2.2.1-10.2.2.254")
        #expect(try bench.leases == ["10.1.2.2", "10.2.2.77"])
    }

    @Test func `releasing what nobody has is no error`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        for id in ["unknown", String(repeating: "x", count: 10_000)] { try bench.release(owner(id)) }
        #expect(try LeaseStore.openExisting(bench.folder.path, network: "other") == nil)
        #expect(try LeaseStore.openExisting("\(bench.folder.path)/none", network: "net") == nil)
    }

    @Test func `an empty file is nobody's and is taken over`() throws {
        let bench = try Bench.set(pool("10.1.2.0/29"))
        for last in 2...6 { try bench.write("10.1.2.\(last)", "") }
        #expect(try bench.store.exhaustedSet(of: bench.request.sets) == nil)
        for last in 2...6 { #expect(try bench.reserve(owner("c\(last)")) == ["10.1.2.\(last)"]) }
        #expect(throws: LeaseError.self) { try bench.reserve(owner("more")) }
    }
}

@Suite struct ForeignLeaseTests {
    @Test func `leases that host-local made are found and freed`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        try bench.write("10.1.2.2", "theirs\r\neth0")
        try bench.write("10.1.2.3", "old")
        try bench.write("last_reserved_ip.0", "10.1.2.3")
        #expect(try bench.reserve(owner("ours")) == ["10.1.2.4"])
        #expect(throws: LeaseError.self) { try bench.reserve(owner("theirs")) }
        try bench.release(owner("theirs"))
        try bench.release(owner("old", "net7"))
        #expect(try bench.leases == ["10.1.2.4"])
        // And again, once the index had been complete.
        try bench.write("10.1.2.9", "later\r\neth0")
        #expect(try bench.store.addresses(of: owner("later")) == [IPAddress("10.1.2.9")!])
        try bench.release(owner("later"))
        #expect(try bench.leases == ["10.1.2.4"])
    }

    @Test func `a lease that somebody removed or took is not the owner's`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        try bench.reserve(owner("a"))
        try bench.reserve(owner("b"))
        try bench.files.remove("10.1.2.2")
        #expect(try bench.reserve(owner("a")) == ["10.1.2.4"])
        try bench.write("10.1.2.3", "thief\r\neth0")
        try bench.release(owner("b"))
        #expect(try bench.text("10.1.2.3") == "thief\r\neth0")
    }

    @Test func `what killed processes left half made is swept`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        try bench.reserve(owner("a"))
        let folders = ["net", "net/.fairlead", "net/.fairlead/by-owner"].map { "\(bench.folder.path)/\($0)" }
        for folder in folders {
            try StateDirectory.open(folder, create: false).replace(".unfinished-0", Array("10.1.2.2\n".utf8))
        }
        try bench.reserve(owner("b"))
        for folder in folders {
            #expect(try StateDirectory.open(folder, create: false).read(".unfinished-0", limit: 100) == nil)
        }
    }

    @Test func `garbage collection keeps the valid and whatever is no lease`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        for id in ["a", "b", "c"] { try bench.reserve(owner(id)) }
        try bench.write("10.1.2.100", "old")
        try bench.write("10.1.2.101", "")
        try bench.write("notes", "b\r\neth0")
        #expect(try bench.store.releaseAll(except: [owner("b"), owner("old")]).count == 2)
        // The empty file was swept when the index was made.
        #expect(try bench.leases == ["10.1.2.3", "10.1.2.100"] && bench.indexed == ["b@eth0", "old@"])
        #expect(try bench.text("notes") == "b\r\neth0" && bench.text("last_reserved_ip.0") == "10.1.2.4")
        #expect(try bench.store.releaseAll(except: []).count == 2)
        #expect(try bench.leases == [])
    }
}

@Suite struct CoolDownTests {
    private func seconds(_ count: Int) -> Duration { .seconds(count) }

    @Test func `a freed address rests even when its turn has come`() throws {
        let bench = try Bench.set(pool("10.1.2.0/29"))
        let rest = seconds(30)
        for id in ["a", "b", "c"] { try bench.reserve(owner(id), rest: rest) }
        try bench.release(owner("a"), rest: rest, now: seconds(1000))
        #expect(try bench.reserve(owner("d"), rest: rest, now: seconds(1001)) == ["10.1.2.5"])
        #expect(try bench.reserve(owner("e"), rest: rest, now: seconds(1001)) == ["10.1.2.6"])
        try bench.release(owner("d"), rest: rest, now: seconds(1020))
        // Round robin comes to .2 first, which has not rested enough but longest.
        #expect(try bench.reserve(owner("f"), rest: rest, now: seconds(1025)) == ["10.1.2.2"])
        try bench.release(owner("e"), rest: rest, now: seconds(1026))
        // The cursor is at .2 and .5 has rested by now; .6 has not.
        #expect(try bench.reserve(owner("g"), rest: rest, now: seconds(1050)) == ["10.1.2.5"])
    }

    @Test func `an address asked for by name need not rest`() throws {
        let bench = try Bench.set(pool("10.1.2.0/24"))
        let named = try AddressRequest(sets: bench.request.sets, requested: [IPAddress("10.1.2.9")!])
        for _ in 0..<3 {
            #expect(try bench.store.reserve(named, for: owner("a"), now: seconds(1000)) == [IPAddress("10.1.2.9")!])
            try bench.release(owner("a"), rest: seconds(30))
        }
    }

    @Test func `what rested before the last boot rests no more`() throws {
        let bench = try Bench.set(pool("10.1.2.0/30"))
        try bench.reserve(owner("a"))
        try bench.release(owner("a"), rest: seconds(30), now: seconds(1_000_000))
        #expect(try bench.reserve(owner("b"), rest: seconds(30), now: seconds(5)) == ["10.1.2.2"])
    }

    @Test func `old periods are forgotten`() throws {
        let bench = try Bench.set(pool("fd00::/64"))
        for turn in 0..<50 {
            let now = seconds(1000 + turn * 10)
            try bench.reserve(owner("c\(turn)"), rest: seconds(30), now: now)
            try bench.release(owner("c\(turn)"), rest: seconds(30), now: now)
        }
        let resting = try StateDirectory.open("\(bench.files.path)/.fairlead/resting", create: false)
        let periods = try resting.entries()
        #expect(periods.count <= 2)
        let files = try periods.flatMap { try resting.subdirectory($0, create: false).entries() }
        #expect((1...6).contains(files.count))
    }
}

@Suite struct CostTests {
    @Test func `a long run of taken addresses is passed without looking at each`() throws {
        let bench = try Bench.set(pool("10.1.0.0/22", "10.1.0.2", "10.1.2.255"))
        for address in bench.request.sets[0].candidates(after: nil).dropLast() {
            try bench.files.create(address.description, Array("x\r\neth0".utf8), synchronized: false)
        }
        try bench.write("last_reserved_ip.0", "10.1.2.255")
        #expect(try bench.reserve(owner("last")) == ["10.1.2.255"])
        #expect(throws: LeaseError.self) { try bench.reserve(owner("one more")) }
        try bench.write("10.1.1.77", "")
        #expect(try bench.reserve(owner("empty")) == ["10.1.1.77"])
    }
}
