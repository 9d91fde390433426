public import CNIProtocol
public import NetworkAddresses
internal import RouteNetlink

/// A pod behind a veth that the node routes to: no bridge, no network shared with other pods.
///
/// The pod's addresses are `/32` and `/128`, and everything goes to the host's end of the veth, whose Ethernet address
/// the pod is told for good; nobody has to answer ARP for gateways that do not exist. So traffic between two pods of a
/// node passes the node's policy hooks as all other traffic does.
public struct RoutedAttachment: Sendable {
    public var attachment: AttachmentID
    public var addresses: [IPAddress]
    /// Destinations beside the default routes; all lead to the host.
    public var routes: [AttachmentResult.Route]
    public var mtu: Int
    public var podMAC: MACAddress
    public var nameService: NameService

    public var hostInterface: InterfaceName { attachment.routedHostInterface }
    public var hostMAC: MACAddress { attachment.hostMAC }

    /// Takes from the IPAM plugin's result what a routed attachment can use of it.
    public init(
        _ attachment: AttachmentID, leased: AttachmentResult, configuration: FairleadConfiguration, underlay: Underlay?
    ) throws(CNIError) {
        self.attachment = attachment
        addresses = leased.addresses.map(\.prefix.address)
        // A plain default route is there anyway.
        routes = try leased.checkedRoutes().filter { route in
            route.destination.length > 0 || route.mtu != nil || route.traits != RouteTraits()
        }
        for (index, route) in routes.enumerated() {
            // The kernel takes no other for a route by a gateway, and all of a routed pod's are.
            guard let scope = route.traits.scope, scope != 0 else { continue }
            throw CNIError(
                .unsupportedField,
                "routes[\(index)].scope: \(scope) is for destinations on the link; a routed pod has none")
        }
        mtu = configuration.mtu ?? Underlay.podMTU(underlay, overlay: configuration.overlay)
        podMAC = configuration.mac ?? attachment.podMAC
        nameService = configuration.nameService.isEmpty ? leased.nameService : configuration.nameService
        guard !addresses.isEmpty else { throw CNIError(.internal, "IPAM plugin returned missing IP config") }
        if mtu < 1280, hasFamily(.ipv6) {
            throw CNIError(.invalidConfiguration, "mtu: \(mtu) is less than 1280, the least that IPv6 works with")
        }
    }

    private func hasFamily(_ family: AddressFamily) -> Bool { addresses.contains { $0.family == family } }

    private var families: [AddressFamily] { AddressFamily.allCases.filter(hasFamily) }

    /// The address by which the pod knows the host; the same on every node, and on no interface.
    static func gateway(_ family: AddressFamily) -> IPAddress {
        switch family {
        case .ipv4: .v4(IPv4Address(169, 254, 1, 1))
        case .ipv6: .v6(IPv6Address(rawValue: 0xfe80 << 112 | 1))
        }
    }

    private static func everything(_ family: AddressFamily) -> IPPrefix {
        let zero: IPAddress = family == .ipv4 ? .v4(IPv4Address(rawValue: 0)) : .v6(IPv6Address(rawValue: 0))
        guard let prefix = IPPrefix(zero, length: 0) else {
            preconditionFailure("every family has a prefix of length 0")
        }
        return prefix
    }

    /// The pod's routes: the default of each family, then the IPAM plugin's own.
    private var podRoutes: [AttachmentResult.Route] {
        families.flatMap { family in
            let gateway = Self.gateway(family)
            var routes = routes.filter { $0.destination.family == family }
            if !routes.contains(where: { $0.destination.length == 0 && $0.traits.table == nil }) {
                routes.insert(AttachmentResult.Route(to: Self.everything(family)), at: 0)
            }
            return routes.map { route in
                var route = route
                route.gateway = gateway
                return route
            }
        }
    }

    /// Everything to do, in order.
    public var steps: [Step] {
        let pod = attachment.interface
        // Up once its settings are made: an interface that comes up asks the network about its own addresses.
        let podEnd = VethEnd(name: pod, mac: podMAC, mtu: mtu)
        let hostEnd = VethEnd(name: hostInterface, mac: hostMAC, mtu: mtu)
        var steps: [Step] = [.makeVeth(host: hostEnd, pod: podEnd, bridge: nil)]
        steps += podSettings.map { .set($0, .pod) }
        steps += hostSettings.map { .set($0, .host) }
        steps += addresses.map { .addAddress($0.hostPrefix, .pod(pod)) }
        steps.append(.setUp(.pod(pod)))
        // Never asked for, so that a pod sends its first packet at once and nothing can pose as its gateway.
        steps += families.map { .setNeighbor(Self.gateway($0), hostMAC, .pod(pod)) }
        for route in podRoutes {
            let planned = PlannedRoute(
                to: route.destination, via: route.gateway, onLink: true, origin: .administrator, mtu: route.mtu,
                traits: route.traits)
            steps.append(.addRoute(planned, .pod(pod)))
        }
        for address in addresses {
            steps.append(.setNeighbor(address, podMAC, .host(hostInterface)))
            steps.append(
                .addRoute(PlannedRoute(to: address.hostPrefix, origin: .fairlead), .host(hostInterface)))
        }
        steps.append(.awaitRunning(.host(hostInterface)))
        steps += addresses.filter { $0.family == .ipv6 }.map { .awaitDelivery($0, .pod) }
        return steps
    }

    private var hostSettings: [Setting] {
        var settings = families.map(Setting.forwarding)
        if hasFamily(.ipv4) {
            // A packet from the pod whose source is not the pod's address is dropped: the way back leads elsewhere.
            settings.append(.of(hostInterface, .ipv4, "rp_filter", "1"))
        }
        if hasFamily(.ipv6) {
            // The pod must not become the node's router.
            settings.append(.of(hostInterface, .ipv6, "accept_ra", "0"))
        } else {
            settings.append(.of(hostInterface, .ipv6, "disable_ipv6", "1"))
        }
        return settings
    }

    private var podSettings: [Setting] {
        hasFamily(.ipv6) ? Setting.podIPv6(attachment.interface) : []
    }

    /// What the runtime is told: the host's end first, then the pod's.
    public func result(sandbox: String) -> AttachmentResult {
        AttachmentResult(
            interfaces: [
                .init(name: hostInterface.description, mac: hostMAC.description, mtu: mtu),
                .init(name: attachment.interface.description, mac: podMAC.description, sandbox: sandbox, mtu: mtu),
            ],
            addresses: addresses.map { .init($0.hostPrefix, gateway: Self.gateway($0.family), interface: 1) },
            routes: podRoutes, nameService: nameService)
    }
}

extension Setting {
    /// What an interface in a pod needs for IPv6. Runtimes make namespaces in which it is switched off.
    ///
    /// - Parameter askingFirst: whether the network is asked whether anybody has the pod's addresses.
    static func podIPv6(_ interface: InterfaceName, askingFirst: Bool = false) -> [Setting] {
        var settings: [Setting] = []
        if let loopback = InterfaceName("lo") {
            settings.append(.of(loopback, .ipv6, "disable_ipv6", "0", isRequired: true))
        }
        settings.append(.of(interface, .ipv6, "disable_ipv6", "0", isRequired: true))
        // The addresses are ours to give: asking the network whether anybody has them takes two seconds of a pod's
        // start.
        if askingFirst { settings.append(.of(interface, .ipv6, "enhanced_dad", "1")) }
        settings.append(.of(interface, .ipv6, "accept_dad", askingFirst ? "1" : "0"))
        settings.append(.of(interface, .ipv6, "keep_addr_on_down", "1"))
        return settings
    }
}
