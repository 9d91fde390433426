public import KubernetesObjects
public import NetlinkWire
public import NetworkAddresses
public import Nftables
public import RouteNetlink

/// What the kernel says about one network namespace, asked when a packet gets there.
///
/// The walk only ever asks; in the product sockets in the namespace answer, in tests literals do.
public protocol NamespaceView {
    func links() throws -> [Link]
    func addresses() throws -> [InterfaceAddress]
    /// Where the kernel would send the packet (`RTM_GETROUTE`).
    func decide(to destination: IPAddress, from source: IPAddress?, arrivingOn link: Int32?, mark: UInt32) throws
        -> RouteDecision
    func neighbor(_ address: IPAddress, on link: Int32) throws -> Neighbor?
    func forwardingEntries(of link: Int32) throws -> [ForwardingEntry]
    /// Every table with its chains and rules, in the kernel's order; sets may be without their elements.
    func rulesets() throws -> [Ruleset]
    /// The element that the kernel finds for the key.
    func element(_ key: ElementKey, of set: String, in table: TableName) throws -> Element?
    /// The number of the ruleset's last change.
    func generation() throws -> UInt32
    /// A setting under `/proc/sys`; nil where the kernel has none of that name.
    func setting(_ path: [String]) throws -> String?
    /// The sockets that wait for connections or datagrams of the protocol, in both families.
    func listeners(_ transport: TransportProtocol) throws -> [ListeningSocket]
}

/// A place that holds packets: a node's network or a pod's.
public enum Place: Hashable, Sendable, CustomStringConvertible {
    case node(String)
    case pod(NamespacedName, node: String)

    /// The node the place is on.
    public var node: String {
        switch self {
        case .node(let name), .pod(_, let name): name
        }
    }

    public var description: String {
        switch self {
        case .node(let name): name
        case .pod(let key, _): "\(key)"
        }
    }
}

/// A pod that runs, and where.
public struct RunningPod: Hashable, Sendable {
    public var key: NamespacedName
    public var node: String
    public var addresses: [IPAddress]
    /// Whether it shares its node's network.
    public var isHostNetwork: Bool

    public init(_ key: NamespacedName, on node: String, _ addresses: [IPAddress], isHostNetwork: Bool = false) {
        self.key = key
        self.node = node
        self.addresses = addresses
        self.isHostNetwork = isHostNetwork
    }

    var place: Place { isHostNetwork ? .node(node) : .pod(key, node: node) }
}

/// Everything a walk may look at.
public protocol PathCluster {
    var nodes: [String] { get }
    var pods: [RunningPod] { get }
    /// What the cluster was asked for; names and explains, and is never taken for what is.
    var objects: ClusterSnapshot { get }
    /// Looks into a place; an error where it is gone.
    func view(of place: Place) throws -> any NamespaceView
}

extension PathCluster {
    func pod(_ key: NamespacedName) -> RunningPod? { pods.first { $0.key == key } }

    /// The pod that has the address to itself.
    func pod(at address: IPAddress) -> RunningPod? {
        pods.first { !$0.isHostNetwork && $0.addresses.contains(address) }
    }

    /// The view of a place; the error says which place could not be looked into.
    func look(into place: Place) throws -> any NamespaceView {
        do {
            return try view(of: place)
        } catch {
            throw TraceError("\(place) cannot be looked into: \(error)")
        }
    }

    /// The node that has the address, and on which of its links.
    func node(owning address: IPAddress) throws -> (name: String, link: Link)? {
        var failure: (any Error)?
        for name in nodes {
            do {
                let view = try look(into: .node(name))
                if let owned = try view.addresses().first(where: { $0.prefix.address == address }),
                    let link = try view.link(owned.link)
                {
                    return (name, link)
                }
            } catch {
                failure = failure ?? error
            }
        }
        // Nobody else has it, so it may be the one that could not be asked.
        if let failure { throw failure }
        return nil
    }

    /// A service's name for one of its addresses.
    func service(at address: IPAddress) -> Service? {
        objects.services.values.filter { $0.clusterIPs.contains(address) || $0.externalIPs.contains(address) }
            .min { $0.key < $1.key }
    }

    /// `shop/web-0`, `node-1`, `svc shop/api`, or nothing where the address belongs to none of them.
    func name(of address: IPAddress) -> String? {
        if let pod = pod(at: address) { return pod.key.description }
        if let service = service(at: address) { return "svc \(service.key)" }
        return objects.nodes.values.first { $0.internalIPs.contains(address) }?.name
    }

    /// The name, then the number: `shop/web-0 (10.244.1.2)`.
    func label(_ address: IPAddress) -> String { name(of: address).map { "\($0) (\(address))" } ?? "\(address)" }
}

extension NamespaceView {
    func link(_ index: Int32) throws -> Link? { try links().first { $0.index == index } }
}

extension ListeningSocket {
    /// `*:80`, `127.0.0.1:80`.
    var text: String { address.isUnspecified ? "*:\(port)" : "\(address.bracketed):\(port)" }
}
