import KernelInterface
import NetworkAddresses
import RouteNetlink
import SystemPackage
import Testing

private func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }
private func address(_ text: String) -> IPAddress { IPAddress(text)! }

@Suite(.needsRoot) struct RoutingTests {
    @Test(arguments: ["10.1.0.5/24", "10.1.0.5/32", "fd00:1::5/64", "fd00:1::5/128"])
    func `an address is added ready for use, read back and removed`(text: String) throws {
        let bed = try Bed()
        let left = try bed.addPair()
        let wanted = InterfaceAddress(prefix(text), link: left)
        try bed.routes.add(wanted)
        #expect(try bed.routes.addresses(of: left).contains(wanted))
        #expect(try bed.routes.addresses().contains(wanted))
        #expect(try !bed.routes.addresses(of: 1).contains(wanted))
        let shown = try bed.namespace.output(of: "ip", "-o", "address", "show", "dev", "left")
        let line = try #require(shown.split(separator: "\n").first { $0.contains(text) })
        #expect(!line.contains("tentative"))

        let again = #expect(throws: KernelError.self) { try bed.routes.add(wanted) }
        #expect(again?.errno == .fileExists)
        #expect(again?.operation == "add address \(text) to left")
        #expect(try bed.routes.remove(wanted))
        #expect(try !bed.routes.remove(wanted))
        #expect(try !bed.routes.addresses().contains(wanted))
        #expect(try !bed.routes.remove(InterfaceAddress(prefix(text), link: 4711)))
    }

    @Test(arguments: [("10.1.0.5/24", "10.1.0.0/24"), ("fd00:1::5/64", "fd00:1::/64")])
    func `an address brings its network's route unless told not to`(text: String, network: String) throws {
        for wanted in [true, false] {
            let bed = try Bed()
            let left = try bed.addPair()
            try bed.routes.add(InterfaceAddress(prefix(text), link: left), prefixRoute: wanted)
            let routes = try bed.routes.routes(origin: .kernel).filter { $0.destination == prefix(network) }
            #expect(routes.map(\.link) == (wanted ? [left] : []))
        }
    }

    @Test func `a route over the overlay goes to the kernel and comes back the same, in both families`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        try bed.routes.add(InterfaceAddress(prefix("10.1.0.5/24"), link: left))
        let wanted = [
            Route(
                to: prefix("10.2.0.0/24"), via: address("10.2.0.1"), link: left, onLink: true,
                preferredSource: address("10.1.0.5"), origin: .fairlead, mtu: 1400),
            Route(to: prefix("10.3.0.7/32"), link: left, origin: .fairlead),
            Route(to: prefix("0.0.0.0/0"), via: address("10.1.0.1"), link: left, origin: .fairlead),
            Route(to: prefix("10.4.0.0/16"), via: address("fe80::1"), link: left, onLink: true, origin: .fairlead),
            Route(to: prefix("fd00:2::/64"), via: address("fd00:2::1"), link: left, onLink: true, origin: .fairlead),
            Route(to: prefix("fd00:3::7/128"), link: left, origin: .fairlead, mtu: 1300),
            Route(to: prefix("::/0"), via: address("fe80::1"), link: left, origin: .fairlead),
        ]
        for route in wanted { try bed.routes.add(route) }
        #expect(try Set(bed.routes.routes(origin: .fairlead)) == Set(wanted))
        #expect(try Set(bed.routes.routes()).isSuperset(of: wanted))
        #expect(try bed.routes.routes().count > wanted.count)
        #expect(try bed.routes.routes(origin: RouteOrigin(rawValue: 77)).isEmpty)

        let shown = try bed.namespace.output(of: "ip", "route", "show", "proto", "76")
        #expect(shown.contains("10.2.0.0/24 via 10.2.0.1 dev left src 10.1.0.5 onlink mtu 1400"))
        #expect(shown.contains("10.4.0.0/16 via inet6 fe80::1 dev left onlink"))
        let shown6 = try bed.namespace.output(of: "ip", "-6", "route", "show", "proto", "76")
        #expect(shown6.contains("fd00:2::/64 via fd00:2::1 dev left metric 1024 onlink"))

        for route in wanted {
            #expect(try bed.routes.remove(route), "\(route)")
            #expect(try !bed.routes.remove(route), "\(route)")
        }
        #expect(try bed.routes.routes(origin: .fairlead).isEmpty)
    }

    @Test func `replacing a route changes its gateway, and leaves one route`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        // Without any local address a namespace takes every IPv4 gateway for invalid.
        try bed.routes.change(link: 1, LinkChange(isUp: true))
        for (network, first, second) in [
            ("10.2.0.0/24", "10.2.0.1", "10.2.0.2"), ("fd00:2::/64", "fd00:2::1", "fd00:2::2"),
        ] {
            for gateway in [first, second] {
                try bed.routes.replace(
                    Route(to: prefix(network), via: address(gateway), link: left, onLink: true, origin: .fairlead))
            }
            let routes = try bed.routes.routes(origin: .fairlead).filter { $0.destination == prefix(network) }
            #expect(routes.map(\.gateway) == [address(second)])
        }
    }

    @Test func `a route's numbers are set and read back, and what is not said reads as not said`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        try bed.routes.change(link: 1, LinkChange(isUp: true))
        for (network, gateway) in [("10.2.0.0/24", "10.2.0.1"), ("fd00:2::/64", "fd00:2::1")] {
            let family = prefix(network).family
            var route = Route(to: prefix(network), via: address(gateway), link: left, onLink: true)
            try bed.routes.add(route)
            #expect(try bed.routes.routes().filter { $0.destination == prefix(network) } == [route])
            route.traits = RouteTraits(priority: 50, advertisedSegmentSize: 1200)
            route.mtu = 1300
            try bed.routes.add(route)
            #expect(try bed.routes.routes().contains(route))
            let shown = try bed.namespace.output(
                of: "ip", family == .ipv4 ? "-4" : "-6", "route", "show", network)
            #expect(shown.contains("metric 50") && shown.contains("advmss 1200") && shown.contains("mtu 1300"), "\(shown)")
            for table: UInt32 in [100, 70_000] {
                route.traits.table = table
                try bed.routes.add(route)
                #expect(try bed.routes.routes(table: table) == [route])
                #expect(
                    try bed.namespace.output(
                        of: "ip", family == .ipv4 ? "-4" : "-6", "route", "show", "table", "\(table)"
                    ).hasPrefix(network))
                #expect(try bed.routes.remove(route))
            }
            #expect(try bed.routes.routes().count { $0.destination == prefix(network) } == 2)
        }
        var local = Route(to: prefix("10.3.0.0/24"), link: left)
        local.traits.scope = 254
        try bed.routes.add(local)
        #expect(try bed.routes.routes().contains(local))
        #expect(try bed.namespace.output(of: "ip", "route", "show", "10.3.0.0/24").contains("scope host"))
    }

    @Test func `a route of another origin is not ours to remove`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        var route = Route(to: prefix("10.2.0.0/24"), link: left, origin: .administrator)
        try bed.routes.add(route)
        route.origin = .fairlead
        #expect(try !bed.routes.remove(route))
        #expect(try bed.routes.routes().count { $0.destination == prefix("10.2.0.0/24") } == 1)
    }

    @Test func `an error names the route and its link, and has the kernel's words`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        let route = Route(to: prefix("10.2.0.0/24"), via: address("192.0.2.1"), link: left)
        let error = #expect(throws: KernelError.self) { try bed.routes.add(route) }
        #expect(error?.operation == "add route 10.2.0.0/24 via 192.0.2.1 on left")
        #expect(error?.errno == .networkUnreachable)
        #expect(error?.kernelMessage == "Nexthop has invalid gateway")
        try bed.routes.add(Route(to: prefix("10.2.0.0/24"), link: left))
        let again = #expect(throws: KernelError.self) {
            try bed.routes.add(Route(to: prefix("10.2.0.0/24"), link: left))
        }
        #expect(again?.errno == .fileExists)
        #expect(again?.description.contains("10.2.0.0/24") == true)
    }

    @Test func `a neighbour is set, replaced, read back and removed, in both families`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        for text in ["10.2.0.1", "fd00:2::1"] {
            var neighbor = Neighbor(address(text), mac: .left, link: left)
            try bed.routes.replace(neighbor)
            neighbor.mac = .right
            try bed.routes.replace(neighbor)
            #expect(try bed.routes.neighbors(link: left).contains(neighbor))
            #expect(try bed.routes.neighbors().contains(neighbor))
            #expect(try !bed.routes.neighbors(link: 1).contains(neighbor))
            let shown = try bed.namespace.output(of: "ip", "neighbour", "show", "dev", "left")
            #expect(shown.contains("\(text) lladdr 02:00:00:00:00:02 PERMANENT"))
            #expect(try bed.routes.remove(neighbor))
            #expect(try !bed.routes.neighbors().contains(neighbor))
            neighbor.address = address(text).advanced(by: 1)!
            #expect(try !bed.routes.remove(neighbor))
        }
    }

    @Test func `a forwarding entry is set, moved to another node, read back and removed`() throws {
        let bed = try Bed()
        try bed.routes.addVXLAN(NewLink(.tunnel, isUp: true), .overlay)
        let tunnel = try bed.index(.tunnel)
        var entry = ForwardingEntry(.right, to: address("10.9.0.2"), link: tunnel)
        try bed.routes.replace(entry)
        entry.remote = address("10.9.0.3")
        try bed.routes.replace(entry)
        #expect(try bed.routes.forwardingEntries(link: tunnel) == [entry])
        #expect(try bed.routes.forwardingEntries(link: 1) == [])
        let shown = try bed.namespace.output(of: "bridge", "fdb", "show", "dev", "vxlan0")
        #expect(shown.contains("02:00:00:00:00:02 dst 10.9.0.3 self permanent"))
        #expect(try bed.routes.remove(entry))
        #expect(try !bed.routes.remove(entry))
        #expect(try bed.routes.forwardingEntries(link: tunnel) == [])
        let error = #expect(throws: KernelError.self) {
            try bed.routes.replace(ForwardingEntry(.right, to: address("10.9.0.2"), link: 1))
        }
        #expect(error?.operation.contains("on lo") == true)
    }

    @Test func `an IPv6 tunnel's forwarding entry comes back the same`() throws {
        let bed = try Bed()
        let vxlan = VXLAN(vni: 1, port: Port(8472)!, local: address("fd00::1"))
        try bed.routes.addVXLAN(NewLink(.tunnel, isUp: true), vxlan)
        let tunnel = try bed.index(.tunnel)
        let entry = ForwardingEntry(.right, to: address("fd00::2"), link: tunnel)
        try bed.routes.replace(entry)
        #expect(try bed.routes.forwardingEntries(link: tunnel) == [entry])
    }
}

@Suite(.needsRoot) struct RouteDecisionTests {
    private static func bed() throws -> Bed {
        let bed = try Bed()
        try bed.routes.change(link: 1, LinkChange(isUp: true))
        let left = try bed.addPair()
        for own in ["10.1.0.5/24", "fd00:1::5/64"] { try bed.routes.add(InterfaceAddress(prefix(own), link: left)) }
        try bed.routes.add(Route(to: prefix("10.2.0.0/16"), via: address("10.1.0.1"), link: left))
        try bed.routes.add(Route(to: prefix("fd00:2::/32"), via: address("fd00:1::1"), link: left))
        return bed
    }

    @Test(arguments: [
        ("10.2.3.4", "10.1.0.1", "10.1.0.5", "10.2.0.0/16"), ("10.1.0.9", nil, "10.1.0.5", "10.1.0.0/24"),
        ("fd00:2::4", "fd00:1::1", "fd00:1::5", "fd00:2::/32"), ("fd00:1::9", nil, "fd00:1::5", "fd00:1::/64"),
    ])
    func `a packet sent from here`(to: String, gateway: String?, source: String, matched: String) throws {
        let bed = try Self.bed()
        #expect(
            try bed.routes.decide(to: address(to))
                == RouteDecision(
                    kind: .unicast, link: bed.index(.left), gateway: gateway.map(address), source: address(source),
                    matched: prefix(matched)))
    }

    @Test(arguments: [("10.1.0.5", "10.1.0.5/32"), ("fd00:1::5", "fd00:1::5/128"), ("127.0.0.9", "127.0.0.0/8")])
    func `a packet to this node is local`(to: String, matched: String) throws {
        let bed = try Self.bed()
        // The kernel enters an IPv6 address among the local ones a moment after it has acknowledged it.
        try eventually { try bed.routes.decide(to: address(to)).kind == .local }
        #expect(try bed.routes.decide(to: address(to)).matched == prefix(matched))
    }

    @Test(arguments: ["192.0.2.1", "2001:db8::1"])
    func `a destination without a route is refused`(to: String) throws {
        let bed = try Self.bed()
        let decision = try bed.routes.decide(to: address(to))
        #expect(decision.kind == .refused("no route"))
        #expect(decision.matched == nil)
    }

    @Test(arguments: ["blackhole", "unreachable", "prohibit"], ["192.0.2.0/24", "2001:db8::/32"])
    func `a route that refuses is named`(kind: String, network: String) throws {
        let bed = try Self.bed()
        _ = try bed.namespace.output(of: "ip", "route", "add", kind, network)
        #expect(try bed.routes.decide(to: prefix(network).last).kind == .refused(kind))
    }

    @Test func `a forwarded packet is decided as forwarding is`() throws {
        let bed = try Self.bed()
        let left = try bed.index(.left)
        let ask = { (bed: borrowing Bed) in
            try bed.routes.decide(to: address("10.2.3.4"), from: address("10.1.0.77"), arrivingOn: left).kind
        }
        #expect(try ask(bed) == .refused("unreachable"))
        try bed.namespace.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "conf", "all", "forwarding"], "1")
        }
        #expect(try ask(bed) == .unicast)
    }

    @Test func `a source that does not belong behind the link fails the reverse path filter`() throws {
        let bed = try Self.bed()
        let left = try bed.index(.left)
        try bed.namespace.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "conf", "all", "forwarding"], "1")
            try KernelSetting.write(["net", "ipv4", "conf", "all", "rp_filter"], "1")
        }
        let decision = try bed.routes.decide(to: address("10.1.0.5"), from: address("192.0.2.9"), arrivingOn: left)
        #expect(decision.kind == .refused("source validation"))
    }

    @Test func `a mark chooses the table of its rule`() throws {
        let bed = try Self.bed()
        _ = try bed.namespace.output(of: "ip", "rule", "add", "fwmark", "7", "table", "77")
        _ = try bed.namespace.output(of: "ip", "route", "add", "10.2.0.0/24", "via", "10.1.0.2", "table", "77")
        #expect(try bed.routes.decide(to: address("10.2.0.1")).gateway == address("10.1.0.1"))
        let marked = try bed.routes.decide(to: address("10.2.0.1"), mark: 7)
        #expect(marked.gateway == address("10.1.0.2"))
        #expect(marked.matched == prefix("10.2.0.0/24"))
    }

    @Test func `a question that makes no sense is an error, not a refusal`() throws {
        let bed = try Self.bed()
        let error = #expect(throws: KernelError.self) {
            _ = try bed.routes.decide(to: address("10.2.0.1"), arrivingOn: 4711)
        }
        #expect(error?.errno == .noSuchDevice)
        #expect(error?.operation == "ask for the route to 10.2.0.1 arriving on link 4711")
    }
}
