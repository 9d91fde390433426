import KubernetesObjects
import NetworkAddresses
import OverlayRoutes
import RouteNetlink
import Testing

private func node(_ number: Int, podCIDRs: [String]? = nil, addresses: [String]? = nil) -> Node {
    Node(
        metadata: ObjectMetadata(name: "n\(number)", namespace: ""),
        podCIDRs: (podCIDRs ?? ["10.244.\(number).0/24", "fd00:10:244:\(number)::/64"]).map { IPPrefix($0)! },
        internalIPs: (addresses ?? ["172.30.0.1\(number)", "fd00:172:30::1\(number)"]).map { IPAddress($0)! })
}

/// The way to other nodes, some of which share link 2.
private func underlay(_ address: String = "172.30.0.11", sharing neighbors: [String] = []) -> Underlay {
    Underlay(
        address: IPAddress(address)!, mtu: 1500,
        neighbors: Dictionary(uniqueKeysWithValues: neighbors.map { (IPAddress($0)!, 2) }))
}

private func plan(
    _ nodes: [Node], _ mode: OverlayMode = .vxlan, underlay: Underlay? = underlay()
) -> OverlayPlan {
    overlayPlan(nodes: nodes, on: "n1", underlay: underlay, configuration: .init(mode: mode))
}

/// The address that the tunnel end of a node gives itself.
private func tunnelEnd(of node: String) -> IPAddress { .v6(tunnelAddress(of: node).linkLocalAddress) }

private func tunnelled(_ cidr: String, to node: String = "n2") -> Route {
    let cidr = IPPrefix(cidr)!
    return Route(
        to: cidr, via: cidr.family == .ipv4 ? cidr.first : tunnelEnd(of: node), link: 7, onLink: true, origin: .fairlead)
}

private func direct(_ cidr: String, _ hop: String) -> Route {
    Route(to: IPPrefix(cidr)!, via: IPAddress(hop)!, link: 2, origin: .fairlead)
}

@Suite struct OverlayPlanTests {
    @Test func `each peer is a route per family, its neighbours and one forwarding entry`() throws {
        let plan = plan([node(2), node(1)])
        let device = try #require(plan.device)
        #expect(device.mtu == 1450 && device.vxlan.local == IPAddress("172.30.0.11") && device.mac == tunnelAddress(of: "n1"))
        #expect(device.addresses == [IPPrefix("10.244.1.0/32")!, IPPrefix("fd00:10:244:1::/128")!])
        #expect(plan.podMTU == 1450 && plan.podCIDRs == node(1).podCIDRs && plan.isDecided)
        let entries = plan.entries(on: 7)
        #expect(entries.routes == [tunnelled("10.244.2.0/24"), tunnelled("fd00:10:244:2::/64")])
        let mac = tunnelAddress(of: "n2")
        #expect(
            entries.neighbors == [
                Neighbor(IPAddress("10.244.2.0")!, mac: mac, link: 7),
                Neighbor(tunnelEnd(of: "n2"), mac: mac, link: 7),
            ])
        #expect(entries.forwarding == [ForwardingEntry(mac, to: IPAddress("172.30.0.12")!, link: 7)])
        #expect(plan.notes.isEmpty)
    }

    @Test func `an IPv6 underlay costs twenty bytes more`() {
        let plan = plan([node(1), node(2)], underlay: underlay("fd00:172:30::11"))
        #expect(plan.device?.mtu == 1430 && plan.peers.map(\.address) == [IPAddress("fd00:172:30::12")!])
    }

    @Test func `a tunnel too small for IPv6 is a note`() {
        var small = underlay()
        small.mtu = 1300
        #expect(plan([node(1)], underlay: small).notes.map(\.message) == [
            "the tunnel carries packets of 1250 bytes, and IPv6 needs 1280: raise the MTU of the link with 172.30.0.11 to 1330"
        ])
        #expect(plan([node(1, podCIDRs: ["10.244.1.0/24"])], underlay: small).notes.isEmpty)
    }

    @Test func `direct mode routes to the node itself, each family by its own address`() {
        let plan = plan([node(1), node(2)], .direct, underlay: underlay(sharing: ["172.30.0.12", "fd00:172:30::12"]))
        #expect(plan.device == nil && plan.peers.isEmpty && plan.podMTU == 1500 && plan.notes.isEmpty)
        #expect(
            plan.entries(on: nil).routes == [
                direct("10.244.2.0/24", "172.30.0.12"), direct("fd00:10:244:2::/64", "fd00:172:30::12"),
            ])
    }

    @Test func `direct mode says what it cannot reach`() {
        let alone = plan([node(1), node(2)], .direct, underlay: underlay(sharing: ["172.30.0.12"]))
        #expect(alone.directRoutes == [direct("10.244.2.0/24", "172.30.0.12")])
        #expect(alone.notes.map(\.description) == [
            "Node n2: status.addresses: fd00:10:244:2::/64 has no direct route, because no IPv6 InternalIP shares a link with this node; use mode cross-subnet or vxlan"
        ])
        // The other way round it works: IPv4 by way of an IPv6 neighbour.
        let v6 = plan(
            [node(1), node(2, addresses: ["fd00:172:30::12"])], .direct,
            underlay: underlay("fd00:172:30::11", sharing: ["fd00:172:30::12"]))
        #expect(v6.directRoutes == [direct("10.244.2.0/24", "fd00:172:30::12"), direct("fd00:10:244:2::/64", "fd00:172:30::12")])
        #expect(v6.notes.isEmpty)
    }

    @Test func `cross-subnet takes the tunnel where no link is shared, and its MTU everywhere`() {
        let plan = plan(
            [node(1), node(2), node(3)], .crossSubnet, underlay: underlay(sharing: ["172.30.0.12", "fd00:172:30::12"]))
        #expect(plan.podMTU == 1450 && plan.peers.map(\.node) == ["n3"] && plan.notes.isEmpty)
        #expect(
            plan.entries(on: 7).routes == [
                direct("10.244.2.0/24", "172.30.0.12"), direct("fd00:10:244:2::/64", "fd00:172:30::12"),
                tunnelled("10.244.3.0/24"), tunnelled("fd00:10:244:3::/64", to: "n3"),
            ])
    }

    @Test func `a network that two nodes claim is one node's at every pass`() {
        let both = [node(1), node(3, podCIDRs: ["10.244.2.0/24"]), node(2)]
        for nodes in [both, both.reversed()] {
            let plan = plan(nodes)
            #expect(plan.peers.map(\.node) == ["n2"])
            #expect(plan.notes.map(\.description) == ["Node n3: spec.podCIDRs: 10.244.2.0/24 is node n2's as well, which it is routed to"])
        }
        #expect(plan([node(1), node(2, podCIDRs: ["10.244.1.0/24"])]).entries(on: 7).routes.isEmpty)
    }

    @Test(arguments: [
        ("172.30.0.0/24", "holds 172.30.0.11, which is node n1's address"),
        ("172.30.0.12/32", "holds 172.30.0.12, which is node n2's address"),
        ("0.0.0.0/0", "is no network that pods can have"), ("::/0", "is no network that pods can have"),
        ("127.0.0.0/8", "is no network that pods can have"), ("224.0.0.0/4", "is no network that pods can have"),
        ("169.254.0.0/16", "is no network that pods can have"), ("fe80::/64", "is no network that pods can have"),
        ("10.244.0.0/16", "overlaps 10.244.1.0/24, which is routed to node n1"),
        ("10.244.1.128/25", "is a part of 10.244.1.0/24, which is routed to node n1"),
        ("10.244.2.0/25", "is a part of 10.244.2.0/24, which is routed to node n2"),
        ("10.244.2.9/32", "is a part of 10.244.2.0/24, which is routed to node n2"),
        ("fd00:10:244:2::/96", "is a part of fd00:10:244:2::/64, which is routed to node n2"),
        ("10.244.1.0/24", "is node n1's as well, which it is routed to"),
    ])
    func `no node takes the nodes' own addresses, or a part of another's network`(network: String, objection: String) {
        let greedy = node(3, podCIDRs: [network, "10.244.3.0/24"])
        for mode in [OverlayMode.vxlan, .direct] {
            let plan = plan(
                [greedy, node(1), node(2)], mode,
                underlay: underlay(sharing: ["172.30.0.12", "172.30.0.13", "fd00:172:30::12", "fd00:172:30::13"]))
            #expect(plan.notes.map(\.description) == ["Node n3: spec.podCIDRs: \(network) \(objection)"])
            let destinations = Set(plan.entries(on: 7).routes.map(\.destination.description))
            #expect(destinations == ["10.244.2.0/24", "fd00:10:244:2::/64", "10.244.3.0/24"])
        }
    }

    @Test func `a peer of the other family only is a note, a node without pod CIDR is nothing`() {
        let odd = plan([node(1), node(2, addresses: ["fd00::2"]), node(3, podCIDRs: [])])
        #expect(odd.peers.isEmpty && odd.notes.map { $0.object?.name } == ["n2"])
        let twin = plan([node(1), node(2, addresses: ["172.30.0.11"])])
        #expect(twin.peers.isEmpty && twin.notes.map(\.message) == ["has this node's own address 172.30.0.11"])
    }

    @Test func `without its address or its object a node decides nothing`() {
        for lost in [plan([node(1), node(2)], underlay: nil), plan([node(2)])] {
            #expect(!lost.isDecided && lost.notes.map { $0.object?.name } == ["n1"])
        }
        let none = plan([node(1), node(2)], .none, underlay: nil)
        #expect(none.isDecided && none.device == nil && none.entries(on: nil) == OverlayEntries() && none.notes.isEmpty)
        #expect(none.podCIDRs == node(1).podCIDRs && none.podMTU == nil)
    }

    @Test func `tunnel addresses differ between nodes, repeat for one and are known as such`() {
        let addresses = Set((0..<5000).map { tunnelAddress(of: "node-\($0)") })
        #expect(addresses.count == 5000 && tunnelAddress(of: "node-1") == tunnelAddress(of: "node-1"))
        #expect(addresses.allSatisfy { $0.isTunnelAddress && $0.bytes[0] & 3 == 2 })
        #expect(!MACAddress("02:00:00:00:00:01")!.isTunnelAddress)
    }
}
