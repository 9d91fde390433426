internal import KubernetesObjects
internal import NetworkAddresses

/// Who has which networks and addresses, so that no node's network of pods takes what is another's.
///
/// A Node object may say anything: a network that holds the nodes' own addresses would send the tunnel's packets into
/// the tunnel, and a part of another node's network would take its pods away.
struct NetworkClaims {
    /// The lengths that the networks of pods have: only networks of such a length are ever asked about.
    private let lengths: [AddressFamily: Set<Int>]
    /// The nodes whose networks these are.
    private var owners: [IPPrefix: String] = [:]
    /// Something that lies within a network, in words, for each network of such a length.
    private var contents: [IPPrefix: String] = [:]

    /// Begins with the addresses of all nodes.
    init(of nodes: [Node]) {
        let networks = nodes.lazy.flatMap(\.podCIDRs)
        lengths = Dictionary(networks.map { ($0.family, [$0.length]) }, uniquingKeysWith: { $0.union($1) })
        for node in nodes {
            for address in node.internalIPs {
                note("holds \(address), which is node \(node.name)'s address", at: address.hostPrefix)
            }
        }
    }

    /// Gives a network to a node.
    mutating func add(_ network: IPPrefix, of node: String) {
        owners[network] = node
        note("overlaps \(network), which is routed to node \(node)", at: network)
    }

    private mutating func note(_ content: @autoclosure () -> String, at place: IPPrefix) {
        for length in lengths[place.family] ?? [] {
            guard let network = place.widened(to: length), contents[network] == nil else { continue }
            contents[network] = content()
        }
    }

    /// Why a network cannot be a node's; the first node by name that claims something has it, the same at every pass.
    func objection(to network: IPPrefix) -> String? {
        if let owner = owners[network] { return "is node \(owner)'s as well, which it is routed to" }
        if network.isReserved { return "is no network that pods can have" }
        if let content = contents[network] { return content }
        for length in lengths[network.family] ?? [] {
            if let wider = network.widened(to: length), let owner = owners[wider] {
                return "is a part of \(wider), which is routed to node \(owner)"
            }
        }
        return nil
    }
}

extension IPPrefix {
    /// The network of this length around this one; nil where this one is the wider.
    fileprivate func widened(to length: Int) -> IPPrefix? {
        length > self.length ? nil : IPPrefix(address, length: length)?.network
    }

    /// Whether its addresses have a meaning of their own: the kernel has no route to such a network, or one for itself.
    fileprivate var isReserved: Bool {
        let isOfTheLink =
            switch first {
            case .v4(let address): address.rawValue >> 16 == 0xa9fe || address.rawValue == .max
            case .v6(let address): address.isLinkLocal
            }
        return isOfTheLink || first.isUnspecified || first.isLoopback || first.isMulticast
    }
}
