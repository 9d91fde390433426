/// Why a packet's path ends as it does: one word for each cause, the same in every output and for ever.
///
/// Programs compare these, so a code is never renamed and never means something else.
public enum ReasonCode: String, Hashable, Sendable, CaseIterable, Codable {
    /// Nothing stops the packet nor its answer.
    case allowed = "Allowed"

    // MARK: Policy

    /// Policies isolate the pod, and no rule of any of them admits the connection.
    case policyImplicitDeny = "PolicyImplicitDeny"
    /// The node's pod network holds the address, but the node's rules know no pod there yet.
    case closedGate = "ClosedGate"
    /// The rules refuse packets that belong to no connection they know, as this one.
    case invalidConnection = "InvalidConnection"

    // MARK: Services

    /// The service has no endpoint that takes connections.
    case noEndpoints = "NoEndpoints"
    /// There are endpoints, but the service's traffic policy is Local and none is on the node.
    case noLocalEndpoints = "NoLocalEndpoints"
    /// An address from the services' range that no service has.
    case noSuchService = "NoSuchService"
    /// The service has no such port.
    case noSuchPort = "NoSuchPort"
    /// The cluster's objects ask for rules that are not in the node's kernel.
    case rulesNotProgrammed = "RulesNotProgrammed"

    // MARK: Routing and links

    /// The routing table leads nowhere: no route, or one that refuses.
    case noRoute = "NoRoute"
    /// The packet's source does not belong behind the interface it came by (`rp_filter`).
    case sourceValidation = "SourceValidation"
    /// The kernel does not forward between interfaces (`net.ipv4.ip_forward`, or one interface's `forwarding`).
    case forwardingDisabled = "ForwardingDisabled"
    /// The next hop has no Ethernet address: nobody answers for it.
    case neighborMissing = "NeighborMissing"
    /// The next hop's Ethernet address is not that of the interface it should be.
    case neighborMismatch = "NeighborMismatch"
    /// The tunnel device does not know to which node the next hop's Ethernet address belongs.
    case forwardingEntryMissing = "ForwardingEntryMissing"
    /// An interface is down, or has no carrier.
    case linkDown = "LinkDown"
    /// An interface's other end is not where it should be.
    case linkMissing = "LinkMissing"
    /// The other node has no tunnel device of the same network identifier and port.
    case tunnelMismatch = "TunnelMismatch"
    /// Full-size packets do not fit a link on the way; small ones pass.
    case mtuTooSmall = "MTUTooSmall"
    /// The packet goes round in circles.
    case routingLoop = "RoutingLoop"
    /// No node that we know has the address the packet goes to.
    case nodeUnknown = "NodeUnknown"
    /// The packet leaves the cluster; what becomes of it there cannot be seen from here.
    case leavesCluster = "LeavesCluster"

    // MARK: Ends

    /// The pod has no address of the family.
    case noAddress = "NoAddress"
    /// No process listens on the port.
    case notListening = "NotListening"
    /// A process listens on the port, but only on the loopback address.
    case listenLoopbackOnly = "ListenLoopbackOnly"
    /// A process listens on the port, but on another of the machine's addresses.
    case listenOtherAddress = "ListenOtherAddress"
    /// The answer does not carry the address the sender expects it from.
    case replyNotTranslated = "ReplyNotTranslated"

    // MARK: Others' rules, and not knowing

    /// A chain of another program's drops or rejects the packet.
    case foreignChainDrop = "ForeignChainDrop"
    /// Something on the way is not understood or could not be read; no verdict is given.
    case inconclusive = "Inconclusive"
}

/// How a connection fares; the worst of what there is to say.
public enum PathVerdict: String, Hashable, Sendable, CaseIterable, Codable {
    case reachable = "Reachable"
    /// Policy refuses it, as someone wanted.
    case denied = "Denied"
    /// Something is missing, wrong or down.
    case broken = "Broken"
    case inconclusive = "Inconclusive"
    /// Some backends of a service are reachable and others are not.
    case partial = "Partial"

    /// What `fairlead trace` exits with; 1 is kept for mistakes of use and of ours.
    public var exitCode: Int32 {
        switch self {
        case .reachable: 0
        case .denied: 2
        case .broken: 3
        case .inconclusive: 4
        case .partial: 5
        }
    }

    /// The verdict over several branches.
    public init(over branches: [PathVerdict]) {
        let others = branches.filter { $0 != .reachable }
        self =
            if others.isEmpty && !branches.isEmpty {
                .reachable
            } else if others.count < branches.count && others.contains(where: { $0 != .inconclusive }) {
                .partial
            } else if branches.isEmpty || others.contains(.inconclusive) {
                .inconclusive
            } else if others.contains(.broken) {
                .broken
            } else {
                .denied
            }
    }
}
