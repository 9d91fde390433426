public import CNIProtocol
public import NetworkAddresses
internal import RouteNetlink

/// The keys of the `ptp` plugin.
public struct PointToPointConfiguration: Sendable {
    /// The name of the network.
    public var network: String
    public var mtu: Int?
    /// Whether what the pod sends out of its network gets the node's address.
    public var masquerades: Bool
    public var addressPlugin: String
    public var mac: MACAddress?
    public var nameService: NameService

    public init(_ configuration: NetworkConfiguration, arguments: CNIArguments) throws(CNIError) {
        let reader = configuration.reader
        network = configuration.name
        mtu = try configuredMTU(reader)
        masquerades = try reader.isTrue("ipMasq")
        guard let plugin = try configuration.addressPlugin() else {
            throw try reader.object("ipam").fault("type", "missing: a pod needs addresses, for example of host-local")
        }
        addressPlugin = plugin
        mac = try configuration.requestedMAC(arguments)
        nameService = try configuration.nameService()
    }
}

/// A pod behind a veth of its own with the prefix length of its network, as the reference `ptp` plugin makes it.
///
/// The pod takes its whole network for being behind the gateway, which is the host's end of the veth; so pods of one
/// network reach each other through the host, each over its own link.
public struct PointToPointAttachment: Sendable {
    public var attachment: AttachmentID
    public var addresses: [AttachmentResult.Address]
    public var routes: [AttachmentResult.Route]
    public var mtu: Int
    public var podMAC: MACAddress
    public var nameService: NameService
    private var label: AttachmentTag

    /// Takes over the IPAM plugin's result; a network without a gateway has its first address for one.
    public init(
        _ attachment: AttachmentID, leased: AttachmentResult, configuration: PointToPointConfiguration,
        underlay: Underlay?
    ) throws(CNIError) {
        self.attachment = attachment
        label = AttachmentTag(network: configuration.network, attachment)
        addresses = leased.addresses
        routes = try leased.checkedRoutes()
        mtu = configuration.mtu ?? Underlay.podMTU(underlay, overlay: .direct)
        podMAC = configuration.mac ?? attachment.podMAC
        nameService = configuration.nameService.isEmpty ? leased.nameService : configuration.nameService
        guard !addresses.isEmpty else { throw CNIError(.internal, "IPAM plugin returned missing IP config") }
        for index in addresses.indices {
            addresses[index].interface = 1
            addresses[index].gateway = addresses[index].gateway ?? addresses[index].prefix.first.advanced(by: 1)
        }
    }

    private var hostInterface: InterfaceName { attachment.bridgedHostInterface }

    private var families: [AddressFamily] {
        AddressFamily.allCases.filter { family in addresses.contains { $0.prefix.family == family } }
    }

    /// Everything to do, in order.
    public var steps: [Step] {
        let hostEnd = VethEnd(name: hostInterface, mac: attachment.hostMAC, mtu: mtu)
        // Up once its settings are made: an interface that comes up asks the network about its own addresses.
        let podEnd = VethEnd(name: attachment.interface, mac: podMAC, mtu: mtu)
        var steps: [Step] = [
            .makeVeth(host: hostEnd, pod: podEnd, bridge: nil), .label(.host(hostInterface), label.description),
            // A pod must not become the node's router, also where it has no IPv6 address itself.
            .set(.of(hostInterface, .ipv6, "accept_ra", "0"), .host),
        ]
        if families.contains(.ipv6) {
            // Until the host's end has asked for its own address, it asks for no pod's.
            steps.append(.set(.of(hostInterface, .ipv6, "accept_dad", "0"), .host))
            steps += Setting.podIPv6(attachment.interface).map { .set($0, .pod) }
        }
        if families.contains(.ipv4) { steps.append(.set(.of(attachment.interface, .ipv4, "arp_notify", "1"), .pod)) }
        steps += families.map { .set(.forwarding($0), .host) }
        return steps + addressSteps + routeSteps + awaitingSteps
    }

    private var addressSteps: [Step] {
        var steps: [Step] = addresses.map { .addAddress($0.prefix, .pod(attachment.interface), prefixRoute: false) }
        steps.append(.setUp(.pod(attachment.interface)))
        var gateways: [IPAddress] = []
        for gateway in addresses.compactMap(\.gateway) where !gateways.contains(gateway) { gateways.append(gateway) }
        return steps + gateways.map { .addAddress($0.hostPrefix, .host(hostInterface)) }
    }

    private var routeSteps: [Step] {
        let pod = Place.pod(attachment.interface)
        var steps: [Step] = []
        var destinations: Set<IPPrefix> = []
        for address in addresses {
            guard let gateway = address.gateway else { continue }
            let source = address.prefix.address
            let ways = [
                PlannedRoute(to: gateway.hostPrefix, source: source, origin: .administrator),
                PlannedRoute(to: address.prefix.network, via: gateway, source: source, origin: .administrator),
            ]
            // Two addresses of one network need its routes once; and a network of one address is its gateway's route.
            for way in ways where destinations.insert(way.destination).inserted { steps.append(.addRoute(way, pod)) }
        }
        let gateways = addresses.compactMap(\.gateway)
        steps += routes.map { route in
            var planned = route.planned(gateways: gateways)
            // Only the host's end is a neighbour; of another gateway the kernel has to be told that it is one.
            if let gateway = planned.gateway, !gateways.contains(gateway) { planned.onLink = true }
            return .addRoute(planned, pod)
        }
        return steps
            + addresses.map {
                .addRoute(PlannedRoute(to: $0.prefix.address.hostPrefix, origin: .fairlead), .host(hostInterface))
            }
    }

    private var awaitingSteps: [Step] {
        let ipv6 = addresses.filter { $0.prefix.family == .ipv6 }
        return [.awaitRunning(.host(hostInterface))] + ipv6.map { .awaitDelivery($0.prefix.address, .pod) }
            + ipv6.compactMap(\.gateway).map { .awaitDelivery($0, .host) }
    }

    /// What the runtime is told: the host's end first, then the pod's.
    public func result(sandbox: String) -> AttachmentResult {
        AttachmentResult(
            interfaces: [
                .init(name: hostInterface.description, mac: attachment.hostMAC.description),
                .init(name: attachment.interface.description, mac: podMAC.description, sandbox: sandbox),
            ],
            addresses: addresses, routes: routes, nameService: nameService)
    }
}
