public import CNIProtocol
public import NetworkAddresses
public import RouteNetlink

/// A pod on a bridge that it shares with the node's other pods, as the reference `bridge` plugin makes it.
public struct BridgedAttachment: Sendable {
    public var attachment: AttachmentID
    public var configuration: BridgeConfiguration
    /// The bridge as it is before anything is done; nil where there is none.
    public var bridge: ObservedBridge?
    /// The interface that has a VLAN's gateways as it is before anything is done; nil where there is none.
    public var vlanGateway: ObservedBridge?
    /// The Ethernet address for a bridge still to be made.
    public var newBridgeMAC: MACAddress
    public var addresses: [AttachmentResult.Address]
    public var routes: [AttachmentResult.Route]
    public var nameService: NameService
    public var underlay: Underlay?

    /// What the plan needs to know of a bridge that is there already.
    public struct ObservedBridge: Hashable, Sendable {
        public var link: Link
        public var addresses: [IPPrefix]

        public init(link: Link, addresses: [IPPrefix]) {
            self.link = link
            self.addresses = addresses
        }
    }

    /// Takes over the IPAM plugin's result, which is empty for a layer 2 network, and fills in the gateways.
    public init(
        _ attachment: AttachmentID, leased: AttachmentResult, configuration: BridgeConfiguration,
        bridge: ObservedBridge?, vlanGateway: ObservedBridge? = nil, newBridgeMAC: MACAddress, underlay: Underlay?
    ) throws(CNIError) {
        self.attachment = attachment
        self.configuration = configuration
        self.bridge = bridge
        self.vlanGateway = vlanGateway
        self.newBridgeMAC = newBridgeMAC
        self.underlay = underlay
        nameService = configuration.nameService.isEmpty ? leased.nameService : configuration.nameService
        addresses = leased.addresses
        routes = try leased.checkedRoutes()
        if configuration.addressPlugin != nil, addresses.isEmpty {
            throw CNIError(.internal, "IPAM plugin returned missing IP config")
        }
        for index in addresses.indices {
            addresses[index].interface = 2
            if configuration.isGateway, addresses[index].gateway == nil {
                addresses[index].gateway = addresses[index].prefix.first.advanced(by: 1)
            }
        }
        if configuration.isDefaultGateway { addDefaultRoutes() }
        if let bridge, bridge.link.kind != .bridge {
            throw CNIError(
                .internal,
                "failed to create bridge \"\(configuration.bridge)\": \"\(configuration.bridge)\" already exists but "
                    + "is not a bridge")
        }
    }

    /// Adds each family's default route by the family's first gateway, unless the IPAM plugin has one.
    private mutating func addDefaultRoutes() {
        for address in addresses {
            let isDefault = { (route: AttachmentResult.Route) in
                route.destination.family == address.prefix.family && route.destination.length == 0
            }
            guard !routes.contains(where: { isDefault($0) && $0.gateway != nil }), let gateway = address.gateway,
                let destination = IPPrefix(gateway.family == .ipv4 ? "0.0.0.0/0" : "::/0")
            else { continue }
            routes.append(AttachmentResult.Route(to: destination, via: gateway))
        }
    }

    public var hostInterface: InterfaceName { attachment.bridgedHostInterface }
    /// Of the pod's end.
    public var podMAC: MACAddress { configuration.mac ?? attachment.podMAC }
    private var mtu: Int { configuration.mtu ?? Underlay.podMTU(underlay, overlay: .direct) }
    private var families: [AddressFamily] {
        AddressFamily.allCases.filter { family in addresses.contains { $0.prefix.family == family } }
    }

    /// Everything to do, in order.
    public func steps() throws(CNIError) -> [Step] {
        let steps = bridgeSteps + vethSteps
        return steps + podSteps + (try gatewaySteps()) + routeSteps + awaitingSteps
    }

    /// Whether something of it is the node's part, which other pods share: the bridge, its addresses, a VLAN's interface.
    ///
    /// Who makes that, and takes it back where the attachment fails, must be alone meanwhile.
    public func makesNodesPart() throws(CNIError) -> Bool {
        try steps().contains { step in
            switch step.undo {
            case .removeLink(let name): name != hostInterface
            case .removeBridge, .removeAddress, .addAddress: true
            case nil: false
            }
        }
    }

    private var bridgeSteps: [Step] {
        let name = configuration.bridge
        var steps: [Step] = []
        if bridge == nil {
            steps.append(.makeBridge(name, mac: newBridgeMAC, mtu: mtu))
            // Until it has asked for its own address the kernel asks for no pod's, and forwards nothing to one: 2 s.
            steps.append(.set(.of(name, .ipv6, "accept_dad", "0"), .host))
        }
        // A router on the bridge is no router of the node.
        steps.append(.set(.of(name, .ipv6, "accept_ra", "0"), .host))
        if bridge?.link.isUp != true { steps.append(.setUp(.host(name))) }
        if configuration.promiscuous { steps.append(.setPromiscuous(.host(name))) }
        if configuration.vlans != nil { steps.append(.filterVLANs(name)) }
        return steps
    }

    private var vethSteps: [Step] {
        // The pod's end comes up last: going up with an address is what makes the kernel announce it.
        let pod = VethEnd(name: attachment.interface, mac: podMAC, mtu: mtu)
        let host = VethEnd(name: hostInterface, mac: attachment.hostMAC, mtu: mtu)
        let tag = AttachmentTag(network: configuration.network, attachment)
        var steps: [Step] = [
            .makeVeth(host: host, pod: pod, bridge: configuration.bridge),
            .label(.host(hostInterface), tag.description),
        ]
        if configuration.hairpin || configuration.portIsolation {
            steps.append(
                .setPort(hostInterface, hairpin: configuration.hairpin, isolated: configuration.portIsolation))
        }
        if let vlans = configuration.vlans { steps.append(.setVLANs(hostInterface, vlans.port)) }
        steps.append(.set(.of(hostInterface, .ipv6, "accept_ra", "0"), .host))
        return steps
    }

    private var podSteps: [Step] {
        let interface = attachment.interface
        guard !configuration.leavesPodInterfaceDown else { return [] }
        var steps: [Step] = []
        let asksFirst = configuration.detectsDuplicates
        if families.contains(.ipv6) {
            steps += Setting.podIPv6(interface, askingFirst: asksFirst).map { .set($0, .pod) }
        }
        if families.contains(.ipv4) { steps.append(.set(.of(interface, .ipv4, "arp_notify", "1"), .pod)) }
        steps += addresses.map { .addAddress($0.prefix, .pod(interface), askingFirst: asksFirst) }
        steps.append(.setUp(.pod(interface)))
        return steps
    }

    /// The gateways' addresses, on the bridge or on the VLAN's interface.
    private func gatewaySteps() throws(CNIError) -> [Step] {
        guard configuration.isGateway else { return [] }
        let place = Place.host(configuration.gatewayInterface)
        var steps = vlanGatewaySteps
        var present = (configuration.vlans?.gateway == nil ? bridge : vlanGateway)?.addresses ?? []
        for address in addresses {
            guard let gateway = address.gateway, let prefix = IPPrefix(gateway, length: address.prefix.length),
                !present.contains(prefix)
            else { continue }
            // Several IPv6 networks may live on one bridge as long as they do not overlap; of IPv4 there is one.
            let rivals = present.filter { $0.family == prefix.family && ($0.family == .ipv4 || $0.overlaps(prefix)) }
            guard rivals.isEmpty || configuration.forceAddress else {
                let gateway = configuration.gatewayInterface
                let what = gateway == configuration.bridge ? "bridge addr" : "vlan interface for bridge with addr"
                throw CNIError(
                    .internal,
                    "failed to set \(what): \"\(gateway)\" already has an IP address different from \(prefix)",
                    details: "it has \(rivals.map(\.description).joined(separator: " ")); forceAddress replaces it")
            }
            steps += rivals.map { .removeAddress($0, place) }
            steps += [.addAddress(prefix, place), .pinMAC(place)]
            present = present.filter { !rivals.contains($0) } + [prefix]
        }
        return steps + families.map { .set(.forwarding($0), .host) }
    }

    /// The VLAN's interface: the bridge itself is in none, as a port of its own it is in this one.
    private var vlanGatewaySteps: [Step] {
        guard let vlans = configuration.vlans, let name = vlans.gateway, vlanGateway == nil else { return [] }
        let behind = AttachmentID(containerID: configuration.bridge.description, interface: name)
        let port = VethEnd(name: behind.bridgedHostInterface, mac: behind.hostMAC, mtu: mtu)
        return [
            .makePortal(VethEnd(name: name, mac: behind.podMAC, mtu: mtu), port: port, bridge: configuration.bridge),
            .setVLANs(port.name, PortVLANs(untagged: vlans.network, keepsDefault: vlans.port.keepsDefault)),
            // Until it has asked for its own address the kernel asks for no pod's.
            .set(.of(name, .ipv6, "accept_dad", "0"), .host), .setUp(.host(name)),
        ]
    }

    private var routeSteps: [Step] {
        let gateways = addresses.compactMap(\.gateway)
        let steps: [Step] = routes.map { .addRoute($0.planned(gateways: gateways), .pod(attachment.interface)) }
        return steps + addresses.map { .forgetNeighbor($0.prefix.address, .host(configuration.gatewayInterface)) }
    }

    private var awaitingSteps: [Step] {
        guard !configuration.leavesPodInterfaceDown else { return [] }
        let addresses = addresses.filter { $0.prefix.family == .ipv6 }
        var steps: [Step] = [.awaitRunning(.host(hostInterface))]
        steps += addresses.map { .awaitDelivery($0.prefix.address, .pod) }
        if configuration.isGateway { steps += addresses.compactMap(\.gateway).map { .awaitDelivery($0, .host) } }
        return steps
    }

    /// What the runtime is told: the bridge, the host's end and the pod's, in the order that chained plugins rely on.
    ///
    /// - Parameters:
    ///   - bridgeMAC: as it is at the end; a bridge whose address was never pinned may have taken another.
    ///   - vlanGatewayMAC: of the VLAN's interface, which comes behind the three; nil where there is none.
    public func result(
        sandbox: String, bridgeMAC: MACAddress?, vlanGatewayMAC: MACAddress? = nil
    ) -> AttachmentResult {
        var result = AttachmentResult(
            interfaces: [
                .init(name: configuration.bridge.description, mac: bridgeMAC?.description ?? ""),
                .init(name: hostInterface.description, mac: attachment.hostMAC.description),
                .init(name: attachment.interface.description, mac: podMAC.description, sandbox: sandbox),
            ],
            addresses: addresses, routes: routes, nameService: nameService)
        if let vlanGatewayMAC {
            result.interfaces.append(
                .init(name: configuration.gatewayInterface.description, mac: vlanGatewayMAC.description))
        }
        return result
    }
}
