import NetworkAddresses
import Testing

@testable import Lab

@Suite struct LabNetworkTests {
    @Test func `nodes are numbered alike in both families`() {
        let node = LabNetwork(nodeCount: 12).nodes[11]
        #expect(node.name == "node-12")
        #expect(node.interface.map(\.description) == ["172.30.0.22/24", "fd00:172:30::22/64"])
        #expect(node.podCIDRs.map(\.description) == ["10.244.12.0/24", "fd00:10:244:12::/64"])
    }

    @Test func `no two networks of the largest lab overlap`() {
        let network = LabNetwork(nodeCount: LabNetwork.nodeLimit)
        let prefixes = network.nodes.flatMap(\.podCIDRs) + network.serviceCIDRs + network.gateways.map(\.network)
        for (index, prefix) in prefixes.enumerated() {
            #expect(!prefixes[(index + 1)...].contains { $0.overlaps(prefix) }, "\(prefix)")
        }
        let addresses = network.nodes.flatMap(\.interface).map(\.address) + network.gateways.map(\.address)
        #expect(Set(addresses).count == addresses.count)
    }
}
