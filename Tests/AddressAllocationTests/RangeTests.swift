import NetworkAddresses
import Testing

@testable import AddressAllocation

private func range(
    _ subnet: String, _ first: String? = nil, _ last: String? = nil, gateway: String? = nil
) throws -> AddressRange {
    try AddressRange(
        subnet: IPPrefix(subnet)!, first: first.map { IPAddress($0)! }, last: last.map { IPAddress($0)! },
        gateway: gateway.map { IPAddress($0)! })
}

private func texts(_ addresses: some Sequence<IPAddress>) -> [String] { addresses.map(\.description) }

@Suite struct RangeTests {
    @Test(
        arguments: [
            ("10.1.2.0/24", "10.1.2.1-10.1.2.254", "10.1.2.1", 253),
            ("10.1.0.0/16", "10.1.0.1-10.1.255.254", "10.1.0.1", 65533),
            ("10.1.2.4/30", "10.1.2.5-10.1.2.6", "10.1.2.5", 1), ("fd00::/126", "fd00::1-fd00::3", "fd00::1", 2),
            ("fd00:1::/64", "fd00:1::1-fd00:1::ffff:ffff:ffff:ffff", "fd00:1::1", (1 << 64) - 2),
        ] as [(String, String, String, UInt128)])
    func `what is not given is filled in`(subnet: String, text: String, gateway: String, capacity: UInt128) throws {
        let range = try range(subnet)
        #expect(range.description == text && range.gateway == IPAddress(gateway) && range.capacity == capacity)
    }

    @Test func `a gateway outside the range takes none of its addresses`() throws {
        #expect(try range("10.1.2.0/24", "10.1.2.10", "10.1.2.19").capacity == 10)
        #expect(try range("10.1.2.0/24", "10.1.2.10", "10.1.2.19", gateway: "10.1.2.15").capacity == 9)
        #expect(try range("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", gateway: "::5").capacity == .max)
    }

    @Test(arguments: [
        ("10.1.2.0/31", nil, nil, "Network 10.1.2.0/31 too small to allocate from"),
        ("10.1.2.3/32", nil, nil, "Network 10.1.2.3/32 too small to allocate from"),
        ("fd00::/127", nil, nil, "Network fd00::/127 too small to allocate from"),
        (
            "10.1.2.3/24", nil, nil,
            "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0"
        ),
        ("10.1.2.0/24", "10.1.3.1", nil, "RangeStart 10.1.3.1 not in network 10.1.2.0/24"),
        ("10.1.2.0/24", nil, "fd00::1", "RangeEnd fd00::1 not in network 10.1.2.0/24"),
        ("10.1.2.0/24", "10.1.2.9", "10.1.2.8", "RangeStart 10.1.2.9 is behind RangeEnd 10.1.2.8"),
    ])
    func `what makes no range is refused in host-local's words`(
        subnet: String, first: String?, last: String?, message: String
    ) {
        let error = #expect(throws: RangeError.self) { try range(subnet, first, last) }
        #expect(error?.description == message)
    }

    @Test func `sets and their ranges must fit together`() throws {
        let message = { (ranges: [AddressRange]) in
            (#expect(throws: RangeError.self) { try RangeSet(ranges) })?.description
        }
        #expect(message([]) == "empty range set")
        #expect(try message([range("10.1.0.0/24"), range("fd00::/64")]) == "mixed address families")
        #expect(
            try message([range("10.1.0.0/24", nil, "10.1.0.9"), range("10.1.0.0/24", "10.1.0.9")])
                == "subnets 10.1.0.1-10.1.0.9 and 10.1.0.9-10.1.0.254 overlap")
        let sets = try [
            RangeSet([range("10.1.0.0/24")]), RangeSet([range("10.2.0.0/24")]),
            RangeSet([range("10.3.0.0/24"), range("10.1.0.0/16", "10.1.0.254")]),
        ]
        let error = #expect(throws: RangeError.self) { try RangeSet.checkDisjoint(sets) }
        #expect(error?.description == "range set 0 overlaps with 2")
        #expect(throws: Never.self) { try RangeSet.checkDisjoint(Array(sets.dropFirst())) }
    }
}

@Suite struct CandidateTests {
    @Test func `addresses come round robin, without the gateway`() throws {
        let set = try RangeSet([range("10.1.2.0/29")])
        #expect(texts(set.candidates(after: nil)) == (2...6).map { "10.1.2.\($0)" })
        #expect(texts(set.candidates(after: IPAddress("10.1.2.4"))) == [5, 6, 2, 3, 4].map { "10.1.2.\($0)" })
        #expect(texts(set.candidates(after: IPAddress("10.1.2.6"))) == (2...6).map { "10.1.2.\($0)" })
        #expect(texts(set.candidates(after: IPAddress("10.9.9.9"))) == (2...6).map { "10.1.2.\($0)" })
    }

    @Test func `ranges follow each other and the last one is followed by the first`() throws {
        let set = try RangeSet([
            range("10.1.2.0/24", "10.1.2.7", "10.1.2.8"), range("10.0.0.0/24", "10.0.0.1", "10.0.0.2"),
            range("10.5.0.0/24", "10.5.0.9", "10.5.0.9"),
        ])
        let all = ["10.1.2.7", "10.1.2.8", "10.0.0.2", "10.5.0.9"]
        #expect(texts(set.candidates(after: nil)) == all)
        for turn in 0..<4 {
            let last = IPAddress(all[turn])
            #expect(texts(set.candidates(after: last)) == Array((all + all)[(turn + 1)...(turn + 4)]))
        }
    }

    @Test func `a set of nothing but gateways has no candidates`() throws {
        let set = try RangeSet([
            range("10.1.2.0/24", "10.1.2.1", "10.1.2.1"), range("10.2.2.0/24", "10.2.2.1", "10.2.2.1"),
        ])
        for last in [nil, IPAddress("10.1.2.1"), IPAddress("10.2.2.1")] {
            #expect(texts(set.candidates(after: last)) == [])
        }
        #expect(set.capacity == 0)
    }

    @Test func `the end of the address space ends no walk`() throws {
        let set = try RangeSet([range("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126")])
        #expect(texts(set.candidates(after: nil)).map { $0.suffix(4) } == ["fffe", "ffff"])
    }
}

@Suite struct AddressRequestTests {
    @Test func `each set takes the address that was asked for in it`() throws {
        let sets = try [
            RangeSet([range("10.1.0.0/24")]), RangeSet([range("10.2.0.0/24")]), RangeSet([range("fd00::/64")]),
        ]
        let asked = ["fd00::7", "10.1.0.7", "10.1.0.7"].map { IPAddress($0)! }
        let request = try AddressRequest(sets: sets, requested: asked)
        #expect(request.named == [IPAddress("10.1.0.7"), nil, IPAddress("fd00::7")])
        let left = #expect(throws: RangeError.self) {
            try AddressRequest(sets: sets, requested: asked + [IPAddress("10.1.0.8")!, IPAddress("10.9.0.1")!])
        }
        #expect(left?.description == "failed to allocate all requested IPs: 10.1.0.8 10.9.0.1")
        let gateway = #expect(throws: RangeError.self) {
            try AddressRequest(sets: sets, requested: [IPAddress("10.2.0.1")!])
        }
        #expect(gateway?.description == "failed to allocate for range 1: requested ip 10.2.0.1 is subnet's gateway")
    }

    @Test func `a freed address rests for its time and not over a boot`() {
        let coolDown = CoolDown(rest: .seconds(30))
        #expect(coolDown.isResting(freed: .seconds(100), now: .seconds(100)))
        #expect(coolDown.isResting(freed: .seconds(100), now: .milliseconds(129_999)))
        #expect(!coolDown.isResting(freed: .seconds(100), now: .seconds(130)))
        #expect(!coolDown.isResting(freed: .seconds(100), now: .seconds(99)))
        #expect(!CoolDown(rest: .zero).isResting(freed: .seconds(100), now: .seconds(100)))
    }
}
