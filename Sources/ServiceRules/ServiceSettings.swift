public import NetworkAddresses

/// How the service proxy of a node is set up: what an administrator chooses, as `KubeProxyConfiguration` has it.
public struct ServiceSettings: Hashable, Sendable {
    /// What is taken for traffic of this node's own pods (`detectLocalMode`).
    ///
    /// Such traffic reaches cluster IPs with its own address; all other is masqueraded.
    public enum LocalTraffic: Hashable, Sendable {
        /// Whatever comes from the pods of the whole cluster; of several networks of a family the first counts, and a
        /// family without one is never masqueraded.
        case clusterCIDR([IPPrefix])
        /// Whatever comes from the networks in the Node object's `podCIDRs`.
        case nodeCIDR
        /// Whatever comes in by this bridge.
        case bridgeInterface(InterfaceName)
        /// Whatever comes in by interfaces whose names begin so.
        case interfaceNamePrefix(InterfaceName)
    }

    /// At which of the node's addresses node ports answer (`nodePortAddresses`); never at loopback addresses.
    public enum NodePortAddresses: Hashable, Sendable {
        /// The primary address of each family, kube-proxy's default in nftables mode.
        case primary
        /// Every local address.
        case all
        /// Local addresses in these networks; every local address of a family that no network here is of.
        case networks([IPPrefix])
    }

    public var localTraffic: LocalTraffic
    /// Whether even this node's pods are masqueraded on their way to cluster IPs.
    public var masqueradesAll: Bool
    public var nodePortAddresses: NodePortAddresses
    /// Whether `externalIPs` of services are served (the feature gate `AllowServiceExternalIPs`).
    public var allowsExternalIPs: Bool
    /// The node's primary address of its family, whatever the Node object says (`bindAddress`, unless unspecified).
    public var primaryAddress: IPAddress?

    public init(
        localTraffic: LocalTraffic = .nodeCIDR, masqueradesAll: Bool = false,
        nodePortAddresses: NodePortAddresses = .primary, allowsExternalIPs: Bool = true,
        primaryAddress: IPAddress? = nil
    ) {
        self.localTraffic = localTraffic
        self.masqueradesAll = masqueradesAll
        self.nodePortAddresses = nodePortAddresses
        self.allowsExternalIPs = allowsExternalIPs
        self.primaryAddress = primaryAddress
    }
}
