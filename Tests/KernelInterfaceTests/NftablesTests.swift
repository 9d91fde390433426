import KernelInterface
import NetworkAddresses
import Nftables
import SystemPackage
import Testing

/// One table with every shape of statement, set and element that Fairlead writes.
let everyShape: Ruleset = {
    let (tcp, web) = (KeyPart.transport(.tcp), KeyPart.port(Port(80)!))
    let (vip4, vip6) = (IPAddress("10.96.0.10")!, IPAddress("fd00:10:96::a")!)
    let frontend: [Field] = [.destination(.ipv4), .transportProtocol, .destinationPort]
    let mask: UInt32 = 0x0ff0_0000
    return Ruleset(
        TableName(.inet, "shapes"),
        sets: [
            "frontends4": NamedSet(
                .init(key: [.ipv4Address, .transportProtocol, .port], data: .verdict),
                [
                    Element(.init(.address(vip4), tcp, web), .verdict(.goto("pick-2")), comment: "shop/web:http"),
                    Element(.init(.address(vip4), .transport(.udp), web), .verdict(.drop)),
                ]),
            "endpoints4": NamedSet(
                .init(key: [.ipv4Address, .transportProtocol, .port, .number], data: .values([.ipv4Address, .port])),
                (0..<2).map {
                    Element(
                        .init(.address(vip4), tcp, web, .number($0)),
                        .data(.init(.address(IPAddress("10.244.1.\($0 + 2)")!), .port(Port(8080)!))),
                        comment: "pod shop/web-\($0)")
                }),
            "endpoints6": NamedSet(
                .init(key: [.ipv6Address, .transportProtocol, .port, .number], data: .values([.ipv6Address, .port])),
                [
                    Element(
                        .init(.address(vip6), tcp, web, .number(0)),
                        .data(.init(.address(IPAddress("fd00::2")!), .port(Port(8080)!))))
                ]),
            "members4": NamedSet(
                .init(key: [.number, .ipv4Address]), [Element(.init(.number(42), .address(vip4)), comment: "pod a/b")]),
            "members6": NamedSet(.init(key: [.number, .ipv6Address])),
            "pods4": NamedSet(
                .init(key: [.ipv4Address], data: .verdict),
                [Element(.init(.address(IPAddress("10.244.1.2")!)), .verdict(.jump("profile")))]),
            "choices": NamedSet(
                .init(key: [.number], data: .verdict),
                (0..<2).map { Element(.init(.number($0)), .verdict(.goto("profile")), comment: "pod shop/web-\($0)") }),
            "ports": NamedSet(
                .init(key: [.interfaceName]), [Element(.init(.interface(InterfaceName("veth0")!)), comment: "pod a/b")]),
            "clients4": NamedSet(.init(key: [.ipv4Address], expiry: 10800)),
            "pairs4": NamedSet(
                .init(key: [.ipv4Address, .ipv4Address]), [Element(.init(.address(vip4), .address(vip4)))]),
            "cidr4": NamedSet(
                .init(key: [.ipv4Address], isInterval: true),
                [
                    Element(.init(.address(IPAddress("10.0.0.0")!)), through: .init(.address(IPAddress("10.0.3.255")!))),
                    Element(.init(.address(IPAddress("10.0.4.0")!)), through: .init(.address(IPAddress("10.0.4.7")!))),
                    Element(
                        .init(.address(IPAddress("192.0.0.0")!)), through: .init(.address(IPAddress("255.255.255.255")!))),
                ]),
            "cidr6": NamedSet(
                .init(key: [.ipv6Address], isInterval: true),
                [Element(.init(.address(IPAddress("::")!)), through: .init(.address(IPAddress("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")!)))]),
        ],
        chains: [
            "pick-2": Chain([
                Rule(.destinationNAT(.ipv4, frontend + [.random(below: 2)], map: "endpoints4")),
                Rule(
                    .destinationNAT(
                        .ipv6, [.destination(.ipv6), .transportProtocol, .destinationPort, .random(below: 2)],
                        map: "endpoints6")),
            ]),
            "refuse": Chain([Rule(.reject, comment: "no endpoints")]),
            "sticky": Chain([
                Rule(.lookup([.source(.ipv4)], set: "clients4"), .verdict(.goto("refuse"))),
                Rule(.remember(.source(.ipv4), set: "clients4")),
                Rule(
                    .match(.transportProtocol, .transport(.tcp)),
                    .destinationNATTo(SocketAddress(IPAddress("10.244.1.2")!, Port(8080)!))),
                Rule(
                    .match(.transportProtocol, .transport(.udp)),
                    .destinationNATTo(SocketAddress(IPAddress("fd00::2")!, Port(8080)!))),
            ]),
            "choose": Chain([Rule(.dispatch([.random(below: 2, from: 0)], map: "choices"))]),
            "profile": Chain(
                comment: "shop/allow-web",
                [
                    Rule(
                        .lookup([.constant(42), .originalSource(.ipv4)], set: "members4"),
                        .match(.transportProtocol, .transport(.tcp)),
                        .match(.replySourcePort, .ports(Port(8000)!...Port(8010)!)), .return,
                        comment: "np:shop/allow-web:in:0.0"),
                    Rule(.lookup([.constant(0), .originalSource(.ipv6)], set: "members6"), .return),
                    Rule(.lookup([.originalSource(.ipv4)], set: "cidr4", negated: true), .return),
                    Rule(
                        .match(.transportProtocol, .transport(.udp)), .match(.replySourcePort, .port(Port(53)!)), .return),
                    Rule(.limit(rate: 5, burst: 10), .log(prefix: "D|in|shop/allow-web", group: 5)),
                    Rule(.counter, .drop, comment: "isolated by shop/allow-web"),
                ]),
            "prerouting": Chain(
                hook: Hook(.nat, .prerouting, priority: -100),
                [
                    Rule(.dispatch(frontend, map: "frontends4")),
                    Rule(.match(.destination(.ipv4), .prefix(IPPrefix("10.96.0.0/16")!)), .drop),
                    Rule(.match(.destination(.ipv6), .prefix(IPPrefix("fd00:10:96::/112")!)), .drop),
                ]),
            "postrouting": Chain(
                hook: Hook(.nat, .postrouting, priority: 100),
                [
                    Rule(
                        .match(.conntrackStatus, .destinationTranslated),
                        .lookup([.source(.ipv4), .destination(.ipv4)], set: "pairs4"), .masquerade),
                    Rule(
                        .match(.conntrackStatus, .destinationTranslated), .match(.transportProtocol, .transport(.tcp)),
                        .match(.originalDestination(.ipv4), .address(IPAddress("10.96.0.10")!)),
                        .match(.originalDestinationPort, .port(Port(80)!)),
                        .match(.source(.ipv4), .prefix(IPPrefix("10.244.1.0/24")!), negated: true), .masquerade),
                ]),
            "forward": Chain(
                hook: Hook(.filter, .forward, priority: 10),
                [
                    Rule(
                        .match(.conntrackState, .states([.established, .related])),
                        .match(.conntrackMark, .mark(MaskedMark(0x0050_0000, mask: mask))), .accept),
                    Rule(.dispatch([.originalSource(.ipv4)], map: "pods4")),
                    Rule(.dispatch([.replySource(.ipv4)], map: "pods4")),
                    Rule(.match(.networkProtocol, .family(.ipv6)), .match(.transportProtocol, .protocolNumber(58)), .accept),
                    Rule(.match(.inputInterfaceName, .interface(InterfaceName("eth0")!)), .accept),
                    Rule(.match(.sourceAddressType, .local), .accept),
                    Rule(.setConntrackMark(MaskedMark(0x0050_0000, mask: mask))),
                ]),
        ])
}()

@Suite(.needsRoot) struct NftablesTests {
    @Test func `every shape is read back as it was written, changed and unchanged`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        #expect(try socket.observe(everyShape.table) == nil)
        try socket.apply(everyShape.creation, to: everyShape.table)
        let observed = try #require(try socket.observe(everyShape.table))
        #expect(observed == everyShape)
        #expect(observed.changes(to: everyShape).isEmpty)
        let instructions = observed.chains.values.flatMap(\.rules).flatMap(\.instructions)
        #expect(!instructions.contains { if case .unknown = $0 { true } else { false } })

        var other = everyShape
        other.chains["pick-2"] = nil
        other.chains["pick-1"] = Chain([Rule(.destinationNAT(.ipv4, [.destination(.ipv4), .transportProtocol, .destinationPort, .random(below: 1)], map: "endpoints4"))])
        let key = ElementKey(.address(IPAddress("10.96.0.10")!), .transport(.tcp), .port(Port(80)!))
        other.sets["frontends4"]!.elements[key] = Element(key, .verdict(.goto("pick-1")), comment: "shop/web:http")
        other.sets["cidr4"]!.elements = [:]
        other.sets["members6"] = nil
        other.chains["profile"]!.rules.remove(at: 1)
        try socket.apply(observed.changes(to: other), to: other.table)
        #expect(try socket.observe(other.table) == other)
        try socket.removeTable(other.table)
        try socket.removeTable(other.table)
        #expect(try socket.tables().isEmpty)
    }

    @Test func `nft lists every object readably and reads its own listing back`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        try socket.apply(everyShape.creation, to: everyShape.table)
        let listing = try namespace.output(of: "nft", "list", "ruleset")
        for word in [
            "typeof ip daddr . meta l4proto . th dport . numgen inc mod 2 : ip daddr . th dport",
            "numgen inc mod 1 offset 42 . ct original ip saddr @members4 meta l4proto tcp ct reply proto-src 8000-8010",
            "42 . 10.96.0.10 comment \"pod a/b\"", "10.96.0.10 . tcp . 80 comment \"shop/web:http\" : goto pick-2",
            "update @clients4 { ip saddr }", "dnat ip to 10.244.1.2:8080", "dnat ip6 to [fd00::2]:8080",
            "numgen random mod 2 vmap @choices", "timeout 3h", "comment \"shop/allow-web\"", "masquerade fully-random", "10.0.0.0/22, 10.0.4.0/29",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints4",
            "ct state established,related ct mark & 0x0ff00000 == 0x00500000 accept",
        ] { #expect(listing.contains(word), "\(word) in\n\(listing)") }
        #expect(!listing.contains("invalid type"))

        let second = try NetworkNamespace.anonymous()
        let again = try second.withEntered { () throws(KernelError) in
            _ = try ChildProcess.capture("nft", ["-f", "-"], input: Array(listing.utf8), outputLimit: 1 << 20)
            return try ChildProcess.capture("nft", ["list", "ruleset"], outputLimit: 1 << 24)
        }
        #expect(again.text == listing)
        // Our own text is nft's language too.
        let third = try NetworkNamespace.anonymous()
        let ours = try third.withEntered { () throws(KernelError) in
            try ChildProcess.capture("nft", ["-f", "-"], input: Array(everyShape.text.utf8), outputLimit: 1 << 20)
        }
        #expect(ours.status == .exited(0), "\(ours.errorText)")
        let thirdSocket = try third.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        #expect(try thirdSocket.observe(everyShape.table)?.chains.keys == everyShape.chains.keys)
    }

    @Test func `the kernel finds an element, in an interval too`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        try socket.apply(everyShape.creation, to: everyShape.table)
        let key = ElementKey(.number(42), .address(IPAddress("10.96.0.10")!))
        #expect(try socket.element(key, of: "members4", in: everyShape.table)?.comment == "pod a/b")
        #expect(try socket.contains(ElementKey(.number(41), .address(IPAddress("10.96.0.10")!)), set: "members4", table: everyShape.table) == false)
        #expect(try socket.contains(ElementKey(.address(IPAddress("10.0.2.9")!)), set: "cidr4", table: everyShape.table))
        #expect(try !socket.contains(ElementKey(.address(IPAddress("10.0.5.9")!)), set: "cidr4", table: everyShape.table))
        #expect(try !socket.contains(key, set: "absent", table: TableName(.inet, "absent")))
    }

    @Test func `a refused change names the object and leaves the table as it was`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        try socket.apply(everyShape.creation, to: everyShape.table)
        let key = ElementKey(.address(IPAddress("10.9.9.9")!), .transport(.tcp), .port(Port(80)!))
        let fine = Element(.init(.number(7), .address(IPAddress("10.9.9.9")!)))
        do {
            try socket.apply(
                [
                    .addElements([fine], set: "members4"),
                    .addElements([Element(key, .verdict(.goto("nowhere")), comment: "shop/lost:http")], set: "frontends4"),
                ], to: everyShape.table)
            Issue.record("the kernel accepted a jump to a chain that does not exist")
        } catch {
            #expect(error.errno == .noSuchFileOrDirectory)
            #expect(error.description.contains("element (shop/lost:http) of set frontends4"), "\(error)")
        }
        #expect(try socket.observe(everyShape.table) == everyShape)
    }

    @Test func `nobody else flushes an owned table, and it outlives its socket`() throws {
        let namespace = try NetworkNamespace.anonymous()
        do {
            let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
            try socket.apply(everyShape.creation, to: everyShape.table, owned: true)
            _ = try namespace.output(of: "nft", "flush", "ruleset")
            #expect(try socket.observe(everyShape.table) == everyShape)
            let refused = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", ["delete", "table", "inet", "shapes"], outputLimit: 1 << 16)
            }
            #expect(refused.status != .exited(0))
        }
        let next = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        #expect(try next.observe(everyShape.table) == everyShape)
        try next.apply([.addTable, .removeElements([Element(.init(.number(42), .address(IPAddress("10.96.0.10")!)))], set: "members4")], to: everyShape.table, owned: true)
        #expect(try next.observe(everyShape.table)?.sets["members4"]?.elements.isEmpty == true)
    }

    @Test func `a batch of any size is one transaction, carried out as a whole or not at all`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        // Longer than the buffer that a socket begins with, and than a system lets programs ask for. Four sets, because
        // to read one costs with the square of its size.
        let comment = String(repeating: "x", count: longestComment)
        let elements = (0..<15_000 as Range<UInt32>).map { number in
            var element = Element(.init(.number(number % 7), .address(IPAddress("10.0.0.0")!.advanced(by: UInt128(number))!)))
            element.comment = comment
            return element
        }
        var ruleset = Ruleset(TableName(.inet, "large"))
        for number in 0..<4 {
            ruleset.sets["members\(number)"] = NamedSet(.init(key: [.number, .ipv4Address]), elements)
        }
        let (creation, sent) = (ruleset.creation, NftablesSocket.bytesSent)
        #expect(errno { try socket.apply(creation + [.removeChain("none")], to: ruleset.table) } == .noSuchFileOrDirectory)
        #expect(NftablesSocket.bytesSent - sent > 9_000_000)
        #expect(try socket.observe(ruleset.table) == nil)

        let generation = try socket.generation()
        try socket.apply(creation, to: ruleset.table)
        #expect(try socket.generation() == generation + 1)
        #expect(try socket.observe(ruleset.table) == ruleset)
    }
}
