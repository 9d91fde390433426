public import NetworkAddresses
public import OverlayRoutes

/// How far the overlay is, for those who must not give out addresses before it works.
public struct OverlayState: Hashable, Sendable {
    public var mode: OverlayMode
    /// Whether a pod that is attached now reaches the pods of other nodes, as far as this node is concerned.
    public var isReady: Bool
    /// Why it is not ready; empty where it is.
    public var reason: String
    /// Bytes of the largest packet that a pod may send; nil where that is not the overlay's business.
    public var podMTU: Int?
    /// The networks of this node's pods.
    public var podCIDRs: [IPPrefix]

    public init(
        mode: OverlayMode, isReady: Bool, reason: String = "", podMTU: Int? = nil, podCIDRs: [IPPrefix] = []
    ) {
        self.mode = mode
        self.isReady = isReady
        self.reason = reason
        self.podMTU = podMTU
        self.podCIDRs = podCIDRs
    }
}
