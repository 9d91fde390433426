import NetworkAddresses
import Nftables
import PacketPath
import Testing

private let frontend: [Field] = [.destination(.ipv4), .transportProtocol, .destinationPort]

/// A service of one endpoint, with a hairpin set and a foreign table beside it.
private let services = Ruleset(
    TableName(.inet, "services"),
    sets: [
        "endpoints4": NamedSet(
            .init(key: [.ipv4Address, .transportProtocol, .port, .number], data: .values([.ipv4Address, .port])),
            [
                Element(
                    .init(.address(ip("10.96.0.10")), .transport(.tcp), .port(port(80)), .number(0)),
                    .data(.init(.address(ip("10.244.1.2")), .port(port(8080)))))
            ]),
        "hairpin4": NamedSet(
            .init(key: [.ipv4Address, .ipv4Address]),
            [Element(.init(.address(ip("10.244.1.2")), .address(ip("10.244.1.2"))))]),
    ],
    chains: [
        "prerouting": Chain(
            hook: Hook(.nat, .prerouting, priority: -100),
            [Rule(.destinationNAT(.ipv4, frontend + [.constant(0)], map: "endpoints4"))]),
        "postrouting": Chain(
            hook: Hook(.nat, .postrouting, priority: 100),
            [
                Rule(
                    .match(.conntrackStatus, .destinationTranslated),
                    .lookup([.source(.ipv4), .destination(.ipv4)], set: "hairpin4"), .masquerade)
            ]),
    ])

private func traverse(
    _ point: Hook.Point, _ packet: Packet, _ connection: Connection? = nil, _ rulesets: [Ruleset] = [services]
) -> [HookTraversal.Result] {
    HookTraversal(rulesets, in: RulesetElements(rulesets, localAddresses: [ip("10.244.1.1")]))
        .traverse(point, packet, connection ?? Connection(openedBy: packet))
}

/// A table that drops what goes to the address at the hook.
private func dropping(_ address: String, _ hook: Hook, family: TableFamily = .inet) -> Ruleset {
    Ruleset(
        TableName(family, "firewall"),
        chains: ["f": Chain(hook: hook, [Rule(.match(.destination(.ipv4), .address(ip(address))), .drop)])])
}

@Suite struct HookTraversalTests {
    let packet = Packet(from: at("10.244.1.2", 40000), to: at("10.96.0.10", 80), .tcp)

    @Test func `a service's address becomes the endpoint's, and the connection remembers both`() throws {
        let results = traverse(.prerouting, packet)
        let result = try #require(results.first)
        #expect(results.count == 1)
        #expect(result.packet.destination == ip("10.244.1.2"))
        #expect(result.packet.destinationPort == port(8080))
        #expect(result.connection.original == packet.tuple)
        #expect(
            result.connection.reply
                == ConnectionTuple(
                    source: ip("10.244.1.2"), port(8080), destination: ip("10.244.1.2"), port(40000), 6))
        #expect(result.connection.status == [.destinationTranslated, .destinationDecided])
    }

    @Test func `a packet that goes back to its sender gets the node's address, and the answer the service's`() throws {
        let forward = try #require(traverse(.prerouting, packet).first)
        var leaving = forward.packet
        leaving.output = interface("veth1")
        let masqueraded = try #require(traverse(.postrouting, leaving, forward.connection).first)
        #expect(masqueraded.packet.source == ip("10.244.1.1"))
        #expect(masqueraded.packet.sourcePort == nil)
        #expect(masqueraded.connection.status.isSuperset(of: [.sourceTranslated, .destinationTranslated]))

        var connection = masqueraded.connection
        connection.state = .established
        connection.direction = .reply
        let answer = Packet(
            from: ip("10.244.1.2"), port(8080), to: ip("10.244.1.1"), nil, protocolNumber: 6)
        let inward = try #require(traverse(.prerouting, answer, connection).first)
        #expect(inward.packet.destination == ip("10.244.1.2"))
        #expect(inward.packet.destinationPort == port(40000))
        let outward = try #require(traverse(.postrouting, inward.packet, connection).first)
        #expect(outward.packet.source == ip("10.96.0.10"))
        #expect(outward.packet.sourcePort == port(80))
    }

    @Test func `a chain before NAT sees the service, one after it the endpoint`() {
        let outcome = { (address: String, priority: Int32) in
            traverse(
                .prerouting, packet, nil, [services, dropping(address, Hook(.filter, .prerouting, priority: priority))]
            )
            .map(\.outcome)
        }
        #expect(outcome("10.96.0.10", -150) == [.drop])
        #expect(outcome("10.96.0.10", -50) == [.accept])
        #expect(outcome("10.244.1.2", -150) == [.accept])
        #expect(outcome("10.244.1.2", -50) == [.drop])
    }

    @Test func `the first translation stands, and tables of the other family are not asked`() {
        let second = Ruleset(
            TableName(.ip, "other"),
            chains: [
                "nat": Chain(
                    hook: Hook(.nat, .prerouting, priority: 0),
                    [Rule(.match(.transportProtocol, .transport(.tcp)), .drop)])
            ])
        #expect(traverse(.prerouting, packet, nil, [services, second]).map(\.passages.count) == [1])
        #expect(traverse(.prerouting, packet, nil, [second]).map(\.outcome) == [.drop])
        let sixth = dropping("10.96.0.10", Hook(.filter, .prerouting, priority: -150), family: .ip6)
        #expect(traverse(.prerouting, packet, nil, [services, sixth]).map(\.outcome) == [.accept])
    }
}
