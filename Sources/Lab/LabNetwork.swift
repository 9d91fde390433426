public import NetworkAddresses

/// The addresses of a lab: which networks there are, and what each node has of them.
///
/// Labs do not see each other, so they all have the same.
public struct LabNetwork: Hashable, Sendable {
    /// A lab of more nodes than this says more about the machine than about the network.
    public static let nodeLimit = 50

    /// What one node is called and has.
    public struct NodeAddresses: Hashable, Sendable {
        public var name: String
        /// Of `eth0`, with the prefix length of the underlay.
        public var interface: [IPPrefix]
        public var podCIDRs: [IPPrefix]
    }

    public let nodes: [NodeAddresses]
    /// Of the bridge of the underlay: every node's default gateway.
    public let gateways: [IPPrefix] = [prefix("172.30.0.1/24"), prefix("fd00:172:30::1/64")]
    /// What all nodes' pod networks are part of: beyond, pods are known by their nodes' addresses.
    public let clusterCIDRs: [IPPrefix] = [prefix("10.244.0.0/16"), prefix("fd00:10:244::/48")]
    public let serviceCIDRs: [IPPrefix] = [prefix("10.96.0.0/16"), prefix("fd00:10:96::/112")]

    public init(nodeCount: Int) {
        nodes = (1...nodeCount).map { number in
            NodeAddresses(
                name: "node-\(number)",
                // Decimal in both families, so that a person recognises the node in either.
                interface: [prefix("172.30.0.\(10 + number)/24"), prefix("fd00:172:30::\(10 + number)/64")],
                podCIDRs: [prefix("10.244.\(number).0/24"), prefix("fd00:10:244:\(number)::/64")])
        }
    }
}

/// A prefix written in this file, which therefore is one.
private func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }
