import Glibc
import KernelInterface
import NetworkAddresses
import Nftables
import PacketPath
import Testing

/// Numbers that look random and are the same for the same seed, so that a failure can be had again.
private struct Dice: RandomNumberGenerator {
    var state: UInt64

    init(seed: Int) { state = UInt64(seed) &+ 0x9e37_79b9_7f4a_7c15 }

    // SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func roll(_ sides: Int) -> Int { Int(next() % UInt64(sides)) }
    mutating func pick<Item>(_ items: [Item]) -> Item { items[roll(items.count)] }
}

/// Tables thrown together from the shapes we write: NAT by map, then conditions, sets, maps, jumps and marks.
private struct RandomRuleset {
    var dice: Dice
    let addresses = ["10.0.1.1", "10.0.1.2", "10.0.2.1", "10.1.0.1"].map(ip)
    let sixes = ["fd00::1:1", "fd00::1:2", "fd00::2:1"].map(ip)
    let ports = [53, 80, 443, 8080].map(port)

    mutating func address(_ family: AddressFamily) -> IPAddress { dice.pick(family == .ipv4 ? addresses : sixes) }

    mutating func family() -> AddressFamily { dice.roll(3) == 0 ? .ipv6 : .ipv4 }

    mutating func prefix(_ family: AddressFamily) -> IPPrefix {
        let length = family == .ipv4 ? dice.pick([8, 16, 24, 31, 32]) : dice.pick([16, 112, 127, 128])
        return IPPrefix(address(family), length: length)!.network
    }

    mutating func condition() -> Statement {
        let family = family()
        let negated = dice.roll(3) == 0
        switch dice.roll(14) {
        case 0: return .match(.destination(family), .prefix(prefix(family)), negated: negated)
        case 1: return .match(.originalDestination(family), .prefix(prefix(family)), negated: negated)
        case 2: return .match(.replySource(family), .address(address(family)), negated: negated)
        case 3:
            let bounds = [dice.pick(ports), dice.pick(ports)].sorted()
            return .match(.destinationPort, .ports(bounds[0]...bounds[1]), negated: negated)
        case 4: return .match(.replySourcePort, .port(dice.pick(ports)), negated: negated)
        case 5: return .match(.transportProtocol, .transport(dice.pick([.udp, .tcp])), negated: negated)
        case 6: return .match(.conntrackStatus, .destinationTranslated, negated: negated)
        case 7:
            return .match(
                .conntrackState, .states(dice.pick([.new, .established, [.new, .related]])), negated: negated)
        case 8:
            return .match(
                .conntrackMark, .mark(MaskedMark(UInt32(dice.roll(3)) << 20, mask: 0x0ff0_0000)), negated: negated)
        case 9: return .match(.networkProtocol, .family(family), negated: negated)
        case 10:
            return .lookup(
                [.constant(UInt32(dice.roll(3))), .replySource(family)], set: family == .ipv4 ? "members4" : "members6",
                negated: negated)
        case 11: return .lookup([.originalDestination(.ipv4)], set: "cidr4", negated: negated)
        case 12:
            return .match(
                .outputInterfaceName, .interface(InterfaceName(dice.pick(["eth0", "eth1"]))!), negated: negated)
        default: return .match(.destinationAddressType, .local, negated: negated)
        }
    }

    /// A rule of the chain of this number; it leads only to chains of higher numbers.
    mutating func rule(of level: Int) -> Rule {
        var statements = (0..<dice.roll(3)).map { _ in condition() }
        let targets = Array(level + 1..<6)
        switch dice.roll(8) {
        case 0: statements.append(.drop)
        case 1: statements.append(.accept)
        case 2: statements.append(.return)
        case 3: statements.append(.setConntrackMark(MaskedMark(UInt32(dice.roll(3)) << 20, mask: 0x0ff0_0000)))
        case 4 where level < 5: statements.append(.dispatch([.replySource(.ipv4)], map: "verdicts4"))
        case 5: statements.append(.reject)
        case _ where targets.isEmpty: statements.append(.counter)
        case 6: statements.append(.verdict(.jump("c\(dice.pick(targets))")))
        default: statements.append(.verdict(.goto("c\(dice.pick(targets))")))
        }
        return Rule(statements)
    }

    mutating func make() -> Ruleset {
        var ruleset = Ruleset(TableName(.inet, "fuzz"))
        for family in AddressFamily.allCases {
            let (suffix, type) = (family == .ipv4 ? "4" : "6", KeyType.address(family))
            var endpoints: [Element] = []
            for _ in 0..<4 {
                let value = ElementKey(.address(address(family)), .port(dice.pick(ports)))
                endpoints.append(
                    Element(
                        .init(.address(address(family)), .transport(.udp), .port(dice.pick(ports)), .number(0)),
                        .data(value)))
            }
            ruleset.sets["endpoints\(suffix)"] = NamedSet(
                .init(key: [type, .transportProtocol, .port, .number], data: .values([type, .port])), endpoints)
            ruleset.sets["members\(suffix)"] = NamedSet(
                .init(key: [.number, type]),
                (0..<4).map { _ in Element(.init(.number(UInt32(dice.roll(3))), .address(address(family)))) })
        }
        ruleset.sets["verdicts4"] = NamedSet(
            .init(key: [.ipv4Address], data: .verdict),
            addresses.filter { _ in dice.roll(2) == 0 }.map {
                Element(
                    .init(.address($0)),
                    .verdict(dice.pick([.jump("c5"), .goto("c5"), .drop, .accept, .return, .continue])))
            })
        ruleset.sets["cidr4"] = NamedSet(
            .init(key: [.ipv4Address], isInterval: true),
            [
                Element(
                    .init(.address(ip("10.0.1.2"))),
                    through: .init(.address(ip(dice.pick(["10.0.1.255", "10.0.2.1"])))))
            ])
        for level in 1..<6 { ruleset.chains["c\(level)"] = Chain((0..<dice.roll(4)).map { _ in rule(of: level) }) }
        ruleset.chains["nat"] = Chain(
            hook: Hook(.nat, .output, priority: -100),
            AddressFamily.allCases.map {
                Rule(
                    .destinationNAT(
                        $0, [.destination($0), .transportProtocol, .destinationPort, .constant(0)],
                        map: $0 == .ipv4 ? "endpoints4" : "endpoints6"))
            })
        ruleset.chains["filter"] = Chain(
            hook: Hook(.filter, .output, priority: 10, policy: dice.roll(4) == 0 ? .drop : .accept),
            (0..<2 + dice.roll(4)).map { _ in rule(of: 0) })
        return ruleset
    }
}

/// A namespace in which everything leads into a pair of devices and ends there, so that only rules decide what can be sent.
private struct Firing: ~Copyable {
    let namespace: NetworkNamespace
    let nftables: NftablesSocket
    static let sources = [AddressFamily.ipv4: ip("10.255.0.1"), .ipv6: ip("fd00::ff")]
    var nextPort = 10_000

    private init(_ namespace: consuming NetworkNamespace, _ nftables: consuming NftablesSocket) {
        self.namespace = namespace
        self.nftables = nftables
    }

    static func prepare() throws -> Firing {
        let namespace = try NetworkNamespace.anonymous()
        let nftables = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        for command in [
            "link set lo up", "link add eth0 type veth peer name far", "link set eth0 arp off", "link set far up",
            "address add 10.255.0.1/8 dev eth0", "address add fd00::ff/64 dev eth0 nodad", "link set eth0 up",
        ] {
            let result = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("ip", command.split(separator: " ").map(String.init), outputLimit: 1 << 16)
            }
            #expect(result.status.isSuccess, "ip \(command): \(result.errorText)")
        }
        return Firing(namespace, nftables)
    }

    /// The next packet to that place, and whether the kernel lets a socket send it.
    mutating func fire(at destination: SocketAddress) throws -> (Packet, sent: Bool) {
        nextPort += 1
        let source = SocketAddress(Self.sources[destination.address.family]!, port(nextPort))
        let domain = destination.address.family == .ipv4 ? AF_INET : AF_INET6
        let socket = try namespace.withEntered { () throws(KernelError) in
            Glibc.socket(domain, Int32(SOCK_DGRAM.rawValue), 0)
        }
        defer { close(socket) }
        #expect(withBytes(of: source) { bind(socket, $0, $1) } == 0)
        let result = withBytes(of: destination) { sendto(socket, "x", 1, 0, $0, $1) }
        if result < 0 { #expect(errno == EPERM, "\(String(cString: strerror(errno)))") }
        var packet = Packet(from: source, to: destination, .udp)
        packet.output = interface("eth0")
        return (packet, result == 1)
    }

    private func withBytes<Result>(
        of end: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var bytes: [UInt8]
        switch end.address {
        case .v4(let address): bytes = [2, 0] + end.port.bytes + address.bytes + [UInt8](repeating: 0, count: 8)
        case .v6(let address): bytes = [10, 0] + end.port.bytes + [0, 0, 0, 0] + address.bytes + [0, 0, 0, 0]
        }
        return bytes.withUnsafeMutableBytes {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
    }
}

@Suite(.needsRoot)
struct EvaluatorKernelTests {
    @Test(arguments: 0..<60)
    func `the evaluator lets pass what the kernel lets pass`(seed: Int) throws {
        var random = RandomRuleset(dice: Dice(seed: seed))
        var firing = try Firing.prepare()
        let ruleset = random.make()
        try firing.nftables.apply(ruleset.creation, to: ruleset.table)
        // As in the product: the rules as the kernel tells them.
        let observed = try #require(try firing.nftables.observe(ruleset.table))
        let traversal = HookTraversal(
            [observed], in: RulesetElements([observed], localAddresses: Array(Firing.sources.values)))
        for family in AddressFamily.allCases {
            for address in family == .ipv4 ? random.addresses : random.sixes {
                for number in random.ports {
                    let (packet, sent) = try firing.fire(at: SocketAddress(address, number))
                    let results = traversal.traverse(.output, packet, Connection(openedBy: packet))
                    #expect(results.count == 1)
                    #expect(
                        (results[0].outcome == .accept) == sent,
                        "to \(address) \(number): \(results[0].outcome), \(results[0].packet)\n\(ruleset.text)")
                }
            }
        }
        try firing.nftables.removeTable(ruleset.table)
    }

    @Test func `a chain that drops by its policy is read as such`() throws {
        let firing = try Firing.prepare()
        let ruleset = Ruleset(
            TableName(.inet, "closed"),
            chains: ["input": Chain(hook: Hook(.filter, .input, priority: 0, policy: .drop), [])])
        try firing.nftables.apply(ruleset.creation, to: ruleset.table)
        #expect(try firing.nftables.observe(ruleset.table) == ruleset)
    }
}
