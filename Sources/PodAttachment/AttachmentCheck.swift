public import CNIProtocol
public import NetworkAddresses
public import RouteNetlink

/// What CHECK finds in the kernel of an attachment.
public struct ObservedAttachment: Sendable {
    /// The pod's interface of the request's name.
    public var podInterface: Link?
    public var podAddresses: [IPPrefix] = []
    public var podRoutes: [Route] = []
    /// The host's end of the veth.
    public var hostInterface: Link?
    /// Routes of the host that lead to its end of the veth.
    public var hostRoutes: [Route] = []
    /// Neighbours on the host's end of the veth.
    public var hostNeighbors: [Neighbor] = []
    /// The bridge, where the attachment has one.
    public var bridge: Link?
    /// How the bridge treats the host's end of the veth.
    public var port: BridgePort?

    public init() {}
}

extension ObservedAttachment {
    /// Fails where the pod's side is not as the result of ADD says.
    ///
    /// The result is the last plugin's, so what later plugins changed is in it. What they added and did not say does
    /// not matter: only what is missing is a fault.
    public func checkPod(of request: AttachmentRequest, against previous: AttachmentResult) throws(CNIError) {
        let name = request.attachment.interface.description
        guard let index = previous.interfaces.firstIndex(where: { $0.name == name && !$0.sandbox.isEmpty }) else {
            throw CNIError(
                .internal, "Interface \(name) is expected to be in a sandbox", details: "prevResult has none")
        }
        let expected = previous.interfaces[index]
        guard expected.sandbox == request.namespacePath else {
            throw CNIError(
                .internal,
                "Sandbox in prevResult \(expected.sandbox) doesn't match configured netns: \(request.namespacePath)")
        }
        guard let podInterface else { throw CNIError(.internal, "Interface name \(name) not found") }
        guard podInterface.kind == .veth else {
            throw CNIError(.internal, "Error: Container interface \(name) not of type veth")
        }
        try Self.checkMAC(of: podInterface, against: expected)
        for address in previous.addresses where address.interface == nil || address.interface == index {
            guard podAddresses.contains(address.prefix) else {
                throw CNIError(.internal, "Failed to match addr \(address.prefix) on interface \(name)")
            }
        }
        for route in previous.routes {
            // Of several default routes any will do, as in the reference plugins.
            let isThere = podRoutes.contains { found in
                found.destination.network == route.destination.network
                    && found.traits.table == route.traits.table
                    && (route.traits.priority == nil || found.traits.priority == route.traits.priority)
                    && (route.gateway == nil || route.destination.length == 0 || found.gateway == route.gateway)
            }
            guard isThere else {
                let gateway = route.gateway.map { " via \($0)" } ?? ""
                throw CNIError(.internal, "Expected Route \(route.destination)\(gateway) not found in routing table")
            }
        }
    }

    private static func checkMAC(of link: Link, against expected: AttachmentResult.Interface) throws(CNIError) {
        guard !expected.mac.isEmpty, MACAddress(expected.mac) != link.mac else { return }
        throw CNIError(
            .internal,
            "Interface \(link.name) Mac \(expected.mac) doesn't match container Mac: "
                + (link.mac?.description ?? "none"))
    }

    /// Fails where the host's end of the veth is not what belongs to the pod's end.
    private func checkHostInterface(
        _ name: InterfaceName, against previous: AttachmentResult
    ) throws(CNIError) -> Link {
        guard let hostInterface else { throw CNIError(.internal, "Interface name \(name) not found") }
        guard hostInterface.kind == .veth, hostInterface.peerIndex == podInterface?.index,
            podInterface?.peerIndex == hostInterface.index
        else { throw CNIError(.internal, "Interface \(name) is not the other end of the pod's interface") }
        guard hostInterface.isUp else { throw CNIError(.internal, "Interface \(name) is down") }
        if let expected = previous.interfaces.first(where: { $0.name == name.description && $0.sandbox.isEmpty }) {
            try Self.checkMAC(of: hostInterface, against: expected)
        }
        return hostInterface
    }

    /// Fails where the host does not route to the pod.
    public func checkRouted(_ attachment: AttachmentID, against previous: AttachmentResult) throws(CNIError) {
        let link = try checkHostInterface(attachment.routedHostInterface, against: previous)
        for address in previous.addresses.map(\.prefix.address) {
            guard hostRoutes.contains(where: { $0.destination == address.hostPrefix && $0.gateway == nil }) else {
                throw CNIError(.internal, "Expected Route \(address) on \(link.name) not found in routing table")
            }
            guard hostNeighbors.contains(where: { $0.address == address && $0.mac == podInterface?.mac }) else {
                throw CNIError(.internal, "neighbour \(address) on \(link.name) is missing or has another address")
            }
        }
    }

    /// Fails where the host does not route to the pod over a veth of its own.
    public func checkPointToPoint(
        _ attachment: AttachmentID, host: InterfaceName, against previous: AttachmentResult
    ) throws(CNIError) {
        let link = try checkHostInterface(host, against: previous)
        for address in previous.addressesExpected(of: attachment).map(\.address) {
            guard hostRoutes.contains(where: { $0.destination == address.hostPrefix && $0.gateway == nil }) else {
                throw CNIError(.internal, "Expected Route \(address) on \(link.name) not found in routing table")
            }
        }
    }

    /// Fails where the pod is not on its bridge.
    public func checkBridged(
        _ attachment: AttachmentID, bridge name: InterfaceName, against previous: AttachmentResult
    ) throws(CNIError) {
        guard let bridge else { throw CNIError(.internal, "Interface name \(name) not found") }
        guard bridge.kind == .bridge else {
            throw CNIError(.internal, "Interface \(name) does not have link type of bridge")
        }
        if let expected = previous.interfaces.first(where: { $0.name == name.description && $0.sandbox.isEmpty }),
            !expected.mac.isEmpty, MACAddress(expected.mac) != bridge.mac
        {
            throw CNIError(.internal, "Bridge interface \(name) Mac doesn't match: \(expected.mac)")
        }
        let port = Self.port(of: attachment, bridge: name, in: previous)
        let link = try checkHostInterface(port, against: previous)
        guard link.bridge == bridge.index else {
            throw CNIError(
                .internal, "CNI veth created for bridge \(name) was not found", details: "\(link.name) is no port")
        }
    }

    /// Fails where the bridge treats the pod's port otherwise than the configuration says; more than that is others'.
    public func checkPort(_ expected: BridgePort, named name: InterfaceName) throws(CNIError) {
        if expected.isHairpin, port?.isHairpin != true {
            throw CNIError(.internal, "port \(name) is not hairpin", details: "hairpinMode is true")
        }
        if expected.isIsolated, port?.isIsolated != true {
            throw CNIError(.internal, "port \(name) is not isolated", details: "portIsolation is true")
        }
    }

    /// The host's end of an attachment, by the result of its ADD: the reference plugin's has a name of its own.
    ///
    /// - Parameter bridge: the interface of the host that is not meant.
    public static func port(
        of attachment: AttachmentID, bridge: InterfaceName? = nil, in previous: AttachmentResult
    ) -> InterfaceName {
        let names = previous.interfaces.compactMap { interface in
            interface.sandbox.isEmpty && interface.name != bridge?.description ? InterfaceName(interface.name) : nil
        }
        return names.first ?? attachment.bridgedHostInterface
    }
}

extension AttachmentResult {
    /// The routing tables beside the main one that the result has routes in.
    public var tables: [UInt32] { Set(routes.compactMap(\.traits.table)).sorted() }

    /// The addresses that the pod's interface has by the result: those that name it or no interface.
    public func addressesExpected(of attachment: AttachmentID) -> [IPPrefix] {
        let name = attachment.interface.description
        let index = interfaces.firstIndex { $0.name == name && !$0.sandbox.isEmpty }
        return addresses.filter { $0.interface == nil || $0.interface == index }.map(\.prefix)
    }
}
