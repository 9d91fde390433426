import NetworkAddresses
import Nftables
import PacketPath
import Testing

private let packet = Packet(from: at("10.244.1.2", 40000), to: at("10.96.0.10", 80), .tcp, input: interface("veth1", 7))
private let filter = Hook(.filter, .forward, priority: 10)

/// A table of one base chain `forward` and what it leads to.
private func table(
    policy: Hook.Policy = .accept, chains: [String: [Rule]] = [:], sets: [String: NamedSet] = [:], _ rules: Rule...
) -> Ruleset {
    var ruleset = Ruleset(TableName(.inet, "test"), sets: sets, chains: chains.mapValues { Chain($0) })
    ruleset.chains["forward"] = Chain(hook: Hook(.filter, .forward, priority: 10, policy: policy), rules)
    return ruleset
}

/// The same with instructions that no statement of ours makes.
private func foreign(_ instructions: Instruction..., then more: Rule...) -> Ruleset {
    var ruleset = table()
    ruleset.chains["forward"]!.rules = [Rule(instructions: instructions, comment: nil, handle: 4)] + more
    return ruleset
}

@Suite struct RulesetEvaluatorTests {
    @Test(arguments: [
        (Statement.match(.destination(.ipv4), .address(ip("10.96.0.10"))), true),
        (.match(.destination(.ipv4), .address(ip("10.96.0.11"))), false),
        (.match(.destination(.ipv4), .prefix(prefix("10.96.0.0/12"))), true),
        (.match(.destination(.ipv4), .prefix(prefix("10.112.0.0/12")), negated: true), true),
        (.match(.source(.ipv6), .prefix(prefix("::/0"))), false),
        (.match(.destinationPort, .ports(port(79)...port(80))), true),
        (.match(.destinationPort, .ports(port(81)...port(90))), false),
        (.match(.destinationPort, .ports(port(1)...port(80)), negated: true), false),
        (.match(.sourcePort, .port(port(40000))), true),
        (.match(.transportProtocol, .transport(.udp)), false),
        (.match(.transportProtocol, .protocolNumber(6)), true),
        (.match(.networkProtocol, .family(.ipv6)), false),
        (.match(.inputInterfaceName, .interface(InterfaceName("veth1")!)), true),
        (.match(.inputInterfaceName, .interface(InterfaceName("veth10")!)), false),
        (.match(.outputInterfaceName, .interface(InterfaceName("veth1")!), negated: true), true),
        (.match(.packetMark, .mark(MaskedMark(0, mask: 0xff))), true),
        (.match(.conntrackState, .states([.established, .related])), false),
        (.match(.conntrackState, .states([.new])), true),
        (.match(.conntrackState, .states([.new]), negated: true), false),
        (.match(.conntrackStatus, .destinationTranslated), true),
        (.match(.conntrackMark, .mark(MaskedMark(0x0050_0000, mask: 0x0ff0_0000))), true),
        (.match(.originalDestination(.ipv4), .address(ip("10.96.0.10"))), true),
        (.match(.originalDestination(.ipv6), .prefix(prefix("::/0")), negated: true), false),
        (.match(.replySource(.ipv4), .address(ip("10.244.2.9"))), true),
        (.match(.replySourcePort, .port(port(8080))), true),
        (.match(.originalDestinationPort, .port(port(80))), true),
        (.match(.sourceAddressType, .local), false),
        (.match(.destinationAddressType, .local), true),
    ])
    func `a condition holds where the kernel says so`(condition: Statement, holds: Bool) {
        let connection = Connection(
            original: packet.tuple,
            reply: ConnectionTuple(source: ip("10.244.2.9"), port(8080), destination: ip("10.244.1.2"), port(40000), 6),
            status: [.destinationTranslated, .destinationDecided], mark: 0xf05f_ffff)
        let result = table(Rule(condition, .drop)).evaluate(
            "forward", packet, connection, localAddresses: [ip("10.96.0.10")])
        #expect(result.map(\.outcome) == [holds ? .drop : .accept])
    }

    @Test func `without a connection only the state can be asked, and it is invalid`() {
        let evaluator = { (rule: Rule) in
            let ruleset = table(rule)
            return RulesetEvaluator(ruleset, in: RulesetElements([ruleset]))
                .evaluate(chain: "forward", packet, nil).map(\.outcome)
        }
        #expect(evaluator(Rule(.match(.conntrackState, .states([.invalid])), .drop)) == [.drop])
        #expect(evaluator(Rule(.match(.conntrackMark, .mark(MaskedMark(0, mask: .max))), .drop)) == [.accept])
    }

    @Test func `a jump comes back, a goto does not, and the base chain's policy has the last word`() {
        let inner: [String: [Rule]] = [
            "empty": [],
            "returns": [Rule(.return), Rule(.accept)],
            "nested": [Rule(.verdict(.jump("returns"))), Rule(.verdict(.goto("empty"))), Rule(.accept)],
        ]
        let outcome = { (policy: Hook.Policy, rules: [Rule]) in
            var ruleset = table(policy: policy, chains: inner)
            ruleset.chains["forward"]!.rules = rules
            return ruleset.evaluate("forward", packet).map(\.outcome)
        }
        #expect(outcome(.accept, [Rule(.verdict(.jump("nested"))), Rule(.drop)]) == [.drop])
        #expect(outcome(.accept, [Rule(.verdict(.goto("nested"))), Rule(.drop)]) == [.accept])
        #expect(outcome(.drop, [Rule(.verdict(.goto("nested"))), Rule(.accept)]) == [.drop])
        #expect(outcome(.drop, [Rule(.verdict(.jump("empty"))), Rule(.accept)]) == [.accept])
        #expect(outcome(.drop, [Rule(.return), Rule(.accept)]) == [.drop])
    }

    @Test func `sixteen jumps deep is as far as it goes`() {
        let depth = { (count: Int) in
            var chains: [String: [Rule]] = ["c\(count)": [Rule(.accept)]]
            for level in 0..<count { chains["c\(level)"] = [Rule(.verdict(.jump("c\(level + 1)")))] }
            return table(policy: .drop, chains: chains, Rule(.verdict(.jump("c0")))).evaluate("forward", packet)
                .map(\.outcome)
        }
        #expect(depth(15) == [.accept])
        #expect(depth(16) == [.drop])
    }

    @Test func `hits name the rule, its comment and the elements that were found`() throws {
        let key = ElementKey(.number(42), .address(ip("10.244.1.2")))
        let profile = Rule(
            .lookup([.constant(42), .originalSource(.ipv4)], set: "members4"), .return, comment: "np:shop/front:in:0.1")
        let ruleset = table(
            chains: ["profile": [Rule(.match(.transportProtocol, .transport(.udp)), .drop), profile, Rule(.drop)]],
            sets: [
                "members4": NamedSet(.init(key: [.number, .ipv4Address]), [Element(key, comment: "pod shop/web")]),
                "egress4": NamedSet(
                    .init(key: [.ipv4Address], data: .verdict),
                    [Element(.init(.address(ip("10.244.1.2"))), .verdict(.jump("profile")), comment: "pod shop/web")]),
            ],
            Rule(.dispatch([.originalSource(.ipv4)], map: "egress4")), Rule(.counter))
        let evaluation = try #require(ruleset.evaluate("forward", packet).first)
        #expect(evaluation.outcome == .accept)
        #expect(
            evaluation.hits.map(\.location) == [
                "inet test forward rule 1", "inet test profile rule 2", "inet test forward rule 2",
            ])
        #expect(evaluation.hits.map(\.rule.comment) == [nil, "np:shop/front:in:0.1", nil])
        #expect(evaluation.hits.map { $0.elements.map(\.element.comment) } == [["pod shop/web"], ["pod shop/web"], []])
        #expect(evaluation.deciding == nil)
    }

    @Test func `an interval is found by any key in it`() {
        let cidr = NamedSet(
            .init(key: [.ipv4Address], isInterval: true),
            [
                Element(.init(.address(ip("10.96.0.0"))), through: .init(.address(ip("10.96.255.255")))),
                Element(.init(.address(ip("192.0.2.1")))),
            ])
        let outcome = { (destination: String) in
            table(sets: ["cidr": cidr], Rule(.lookup([.destination(.ipv4)], set: "cidr"), .drop))
                .evaluate("forward", Packet(from: at("10.0.0.1", 1), to: at(destination, 1), .udp)).map(\.outcome)
        }
        #expect(outcome("10.96.255.255") == [.drop])
        #expect(outcome("10.97.0.0") == [.accept])
        #expect(outcome("192.0.2.1") == [.drop])
        #expect(outcome("192.0.2.2") == [.accept])
    }

    @Test func `a random pick gives one evaluation for each endpoint`() {
        let frontend: [Field] = [.destination(.ipv4), .transportProtocol, .destinationPort]
        let endpoints = (0..<3).map { index in
            Element(
                .init(.address(ip("10.96.0.10")), .transport(.tcp), .port(port(80)), .number(UInt32(index))),
                .data(.init(.address(ip("10.244.\(index).5")), .port(port(8080 + index)))),
                comment: "pod shop/web-\(index)")
        }
        let ruleset = table(
            sets: [
                "endpoints4": NamedSet(
                    .init(
                        key: [.ipv4Address, .transportProtocol, .port, .number], data: .values([.ipv4Address, .port])),
                    endpoints)
            ],
            Rule(.destinationNAT(.ipv4, frontend + [.random(below: 3)], map: "endpoints4")), Rule(.drop))
        let results = ruleset.evaluate("forward", packet)
        #expect(results.map(\.translation) == (0..<3).map { .destination(ip("10.244.\($0).5"), port(8080 + $0)) })
        #expect(results.map { $0.draws.map(\.number) } == [[0], [1], [2]])
        #expect(
            results.map { $0.hits.flatMap(\.elements).map(\.element.comment) } == (0..<3).map { ["pod shop/web-\($0)"] }
        )
    }

    @Test func `marks are written where rules write them`() throws {
        let ruleset = table(Rule(.setConntrackMark(MaskedMark(0x0050_0000, mask: 0x0ff0_0000))))
        let connection = Connection(original: packet.tuple, mark: 0xffff_0000)
        #expect(ruleset.evaluate("forward", packet, connection).map(\.connection?.mark) == [0xf05f_0000])
    }

    // MARK: - Not knowing

    @Test func `an instruction that is not understood makes the outcome unknown`() {
        #expect(
            foreign(.unknown("queue"), then: Rule(.accept)).evaluate("forward", packet).map(\.outcome) == [
                .unknown("inet test forward handle 4: has an expression 'queue' that is not understood")
            ])
    }

    @Test func `a condition in doubt matters only where it leads elsewhere`() {
        let harmless = foreign(.unknown("match"), .verdict(.accept), then: Rule(.counter))
        #expect(harmless.evaluate("forward", packet).map(\.outcome) == [.accept])
        let fatal = foreign(.unknown("match"), .counter, .verdict(.drop))
        #expect(
            fatal.evaluate("forward", packet).map(\.outcome) == [
                .unknown("inet test forward handle 4: has an expression 'match' that is not understood")
            ])
        let elsewhere = foreign(
            .meta(.transportProtocol, into: 0), .compare(.equal, 0, [17]), .unknown("match"), .verdict(.drop))
        #expect(elsewhere.evaluate("forward", packet).map(\.outcome) == [.accept])
        let other = foreign(
            .unknown("match"), .meta(.transportProtocol, into: 0), .compare(.equal, 0, [17]), .verdict(.drop))
        #expect(other.evaluate("forward", packet).map(\.outcome) == [.accept])
    }

    @Test func `a limit before a log is harmless, before a drop it is not`() {
        #expect(
            table(Rule(.limit(rate: 5, burst: 5), .log(prefix: "x", group: 1)), Rule(.drop))
                .evaluate("forward", packet).map(\.outcome) == [.drop])
        #expect(
            table(Rule(.limit(rate: 5, burst: 5), .drop)).evaluate("forward", packet).map(\.outcome) == [
                .unknown("inet test forward rule 1: lets only so many packets a second through")
            ])
    }

    @Test func `bytes that only a packet on the wire has are not made up`() {
        // ip ttl < 5 drop
        let timeToLive = foreign(
            .payload(.network, offset: 8, length: 1, into: 0), .compare(.less, 0, [5]), .verdict(.drop))
        #expect(
            timeToLive.evaluate("forward", packet).map(\.outcome) == [
                .unknown("inet test forward handle 4: depends on bytes that only the packet itself has")
            ])
        // tcp flags & (syn | ack) == syn drop
        let syn = foreign(
            .payload(.transport, offset: 13, length: 1, into: 0),
            .bitwise(from: 0, into: 0, mask: [0x12], xor: [0]), .compare(.equal, 0, [0x02]), .verdict(.drop))
        #expect(syn.evaluate("forward", packet).map(\.outcome) == [.drop])
    }

    @Test func `a set whose keys are not understood is not looked into`() {
        #expect(
            foreign(.lookup(set: "__set0", key: 0, inverted: false), .verdict(.drop)).evaluate("forward", packet)
                .map(\.outcome) == [
                    .unknown(
                        "inet test forward handle 4: looks into set __set0, whose keys are of a type that is not understood"
                    )
                ])
    }
}
