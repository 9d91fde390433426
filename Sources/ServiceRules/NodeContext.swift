public import NetworkAddresses
internal import Nftables

/// What of the node the service table depends on.
public struct NodeContext: Hashable, Sendable {
    public var name: String
    /// The label `topology.kubernetes.io/zone` of the node; nil where it has none.
    public var zone: String?
    /// The addresses in the Node object, the most important of each family first.
    public var addresses: [IPAddress]
    /// The addresses of the machine's interfaces. Only needed where node ports answer at more than the primary ones.
    public var localAddresses: [IPAddress]
    /// Where this node's pods have their addresses.
    public var podCIDRs: [IPPrefix]
    /// Where cluster IPs come from; an address there that no service has leads nowhere.
    public var serviceCIDRs: [IPPrefix]
    public var settings: ServiceSettings

    public init(
        name: String, zone: String? = nil, addresses: [IPAddress] = [], localAddresses: [IPAddress] = [],
        podCIDRs: [IPPrefix] = [], serviceCIDRs: [IPPrefix] = [], settings: ServiceSettings = ServiceSettings()
    ) {
        self.name = name
        self.zone = zone
        self.addresses = addresses
        self.localAddresses = localAddresses
        self.podCIDRs = podCIDRs
        self.serviceCIDRs = serviceCIDRs
        self.settings = settings
    }

    /// One address per family, by which the node is known.
    public var primaryAddresses: [IPAddress] {
        AddressFamily.allCases.compactMap { family in
            let chosen = settings.primaryAddress.flatMap { $0.family == family ? $0 : nil }
            return chosen ?? addresses.first { $0.family == family }
        }
    }

    /// Where node ports answer, in order.
    ///
    /// A link-local IPv6 address means nothing without its link, and every pod's interface has one: never there.
    public var nodePortAddresses: [IPAddress] {
        func usable(_ address: IPAddress) -> Bool {
            if case .v6(let v6) = address, v6.isLinkLocal { return false }
            return !address.isLoopback
        }
        let found: [IPAddress] =
            switch settings.nodePortAddresses {
            case .primary: primaryAddresses
            case .all: localAddresses
            case .networks(let networks):
                localAddresses.filter { address in
                    let ofFamily = networks.filter { $0.family == address.family }
                    return ofFamily.isEmpty || ofFamily.contains { $0.contains(address) }
                }
            }
        return Set(found.filter(usable)).sorted()
    }

    /// What tells traffic of this node's pods; nil where nothing does.
    func localTraffic(_ family: AddressFamily) -> (Field, Operand)? {
        func first(of prefixes: [IPPrefix]) -> (Field, Operand)? {
            prefixes.first { $0.family == family }.map { (.source(family), .prefix($0)) }
        }
        return switch settings.localTraffic {
        case .clusterCIDR(let networks): first(of: networks)
        case .nodeCIDR: first(of: podCIDRs)
        case .bridgeInterface(let name): (.inputInterfaceName, .interface(name))
        case .interfaceNamePrefix(let prefix): (.inputInterfaceName, .interfacePrefix(prefix))
        }
    }

    /// Whether the machine's own addresses make a difference.
    public var dependsOnLocalAddresses: Bool { settings.nodePortAddresses != .primary }
}
