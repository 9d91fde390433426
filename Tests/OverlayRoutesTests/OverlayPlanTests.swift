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

private let underlay = Underlay(link: 2, mtu: 1500, address: IPAddress("172.30.0.11")!)

@Suite struct OverlayPlanTests {
    @Test func `each peer is a route per family, its neighbours and one forwarding entry`() throws {
        let plan = overlayPlan(nodes: [node(2), node(1)], on: "n1", underlay: underlay, configuration: .init())
        let device = try #require(plan.device)
        #expect(device.mtu == 1450 && device.vxlan.local == underlay.address && device.mac == tunnelAddress(of: "n1"))
        #expect(device.addresses == [IPPrefix("10.244.1.0/32")!, IPPrefix("fd00:10:244:1::/128")!])
        let entries = plan.entries(on: 7)
        #expect(
            entries.routes == [
                Route(to: IPPrefix("10.244.2.0/24")!, via: IPAddress("10.244.2.0"), link: 7, onLink: true, origin: .fairlead),
                Route(to: IPPrefix("fd00:10:244:2::/64")!, via: IPAddress("fd00:10:244:2::"), link: 7, onLink: true, origin: .fairlead),
            ])
        let mac = tunnelAddress(of: "n2")
        #expect(entries.neighbors == [Neighbor(IPAddress("10.244.2.0")!, mac: mac, link: 7), Neighbor(IPAddress("fd00:10:244:2::")!, mac: mac, link: 7)])
        #expect(entries.forwarding == [ForwardingEntry(mac, to: IPAddress("172.30.0.12")!, link: 7)])
        #expect(plan.notes.isEmpty)
    }

    @Test func `an IPv6 underlay costs twenty bytes more`() {
        let v6 = Underlay(link: 2, mtu: 1500, address: IPAddress("fd00:172:30::11")!)
        let plan = overlayPlan(nodes: [node(1), node(2)], on: "n1", underlay: v6, configuration: .init())
        #expect(plan.device?.mtu == 1430 && plan.peers.map(\.address) == [IPAddress("fd00:172:30::12")!])
    }

    @Test func `direct mode routes to the node itself and says what it cannot reach`() {
        let plan = overlayPlan(
            nodes: [node(1), node(2)], on: "n1", underlay: underlay, configuration: .init(mode: .direct))
        #expect(plan.device == nil)
        #expect(plan.entries(on: 2).routes == [Route(to: IPPrefix("10.244.2.0/24")!, via: IPAddress("172.30.0.12"), link: 2, origin: .fairlead)])
        #expect(plan.notes.map(\.description) == ["Node n2: spec.podCIDRs: fd00:10:244:2::/64 has no direct route, because the nodes share IPv4 only; use mode vxlan"])
    }

    @Test func `a peer of the other family only is a note, a node without pod CIDR is nothing`() {
        let plan = overlayPlan(
            nodes: [node(1), node(2, addresses: ["fd00::2"]), node(3, podCIDRs: [])], on: "n1", underlay: underlay,
            configuration: .init())
        #expect(plan.peers.isEmpty && plan.notes.map { $0.object?.name } == ["n2"])
        #expect(overlayPlan(nodes: [node(1)], on: "n1", underlay: nil, configuration: .init()).notes.count == 1)
        let none = overlayPlan(nodes: [node(1), node(2)], on: "n1", underlay: underlay, configuration: .init(mode: .none))
        #expect(none.device == nil && none.peers.isEmpty && none.notes.isEmpty)
    }

    @Test func `tunnel addresses differ between nodes and repeat for one`() {
        let addresses = Set((0..<5000).map { tunnelAddress(of: "node-\($0)") })
        #expect(addresses.count == 5000 && tunnelAddress(of: "node-1") == tunnelAddress(of: "node-1"))
    }
}
