internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables
internal import RouteNetlink

/// Walks one packet through the cluster, place by place, as the kernels there would take it.
///
/// Each function takes a journey a step on and returns what becomes of it: one journey, or several where a random
/// choice forks the way. Nothing is remembered besides; the journeys carry everything.
struct PathWalk {
    let cluster: any PathCluster

    /// More places than any path of ours passes, both ways of a tunnel counted.
    static let crossingLimit = 16

    // MARK: - Sending

    /// A local program sends the packet: route, output hooks, and out.
    func originate(_ journey: Journey, at place: Place) -> [Journey] {
        looking(journey, at: place, .route) { view in
            let decision = try view.decide(
                to: journey.packet.destination, from: journey.packet.source, arrivingOn: nil, mark: journey.packet.mark)
            var journey = journey
            switch decision.kind {
            case .refused(let why): return journey.refused(why, at: place)
            case .local: journey.packet.output = try loopback(view)
            case .unicast: journey.packet.output = try interface(decision.link, view)
            }
            let asked = journey.packet.destination
            return traverse(.output, journey, at: place, view).flatMap { journey -> [Journey] in
                guard journey.end == nil else { return [journey] }
                return looking(journey, at: place, .route) { view in
                    // NAT sent it elsewhere, so the kernel asks for the route again (`ip_route_me_harder`).
                    let settled =
                        journey.packet.destination == asked
                        ? decision
                        : try view.decide(
                            to: journey.packet.destination, from: nil, arrivingOn: nil, mark: journey.packet.mark)
                    return try depart(journey, settled, at: place, view)
                }
            }
        }
    }

    private func depart(
        _ journey: Journey, _ decision: RouteDecision, at place: Place, _ view: any NamespaceView
    ) throws -> [Journey] {
        var journey = journey
        switch decision.kind {
        case .refused(let why): return journey.refused(why, at: place)
        case .local:
            journey.packet.output = try loopback(view)
            journey.add(
                .route, "\(journey.packet.destination) is \(place)'s own address", at: place, .init(.kernelLookup))
            return traverse(.postrouting, journey, at: place, view).flatMap { journey in
                journey.end == nil ? deliver(journey, at: place) : [journey]
            }
        case .unicast:
            if let link = try view.link(decision.link) {
                journey.senderMTU = journey.senderMTU ?? link.mtu
                journey.add(
                    .route, decision.text(to: journey.packet.destination, link), at: place, .init(.kernelLookup))
            }
            return try leave(journey, decision, at: place, view)
        }
    }

    /// Routed out: runs postrouting and puts the packet on the link.
    func leave(
        _ journey: Journey, _ decision: RouteDecision, at place: Place, _ view: any NamespaceView
    ) throws -> [Journey] {
        var journey = journey
        guard let link = try view.link(decision.link) else {
            return journey.broken(
                .noRoute, .route, "the route leads to link \(decision.link), which is gone", at: place,
                .init(.kernelLookup))
        }
        journey.packet.output = PacketInterface(link.name, index: link.index)
        return traverse(.postrouting, journey, at: place, view).flatMap { journey in
            journey.end == nil
                ? transmit(journey, from: place, over: link, to: decision.gateway ?? journey.packet.destination)
                : [journey]
        }
    }

    // MARK: - Receiving

    /// The packet arrives on a link: prerouting, route, and on or in.
    func arrive(_ journey: Journey, at place: Place, on link: Link) -> [Journey] {
        var journey = journey
        journey.crossings += 1
        journey.packet.input = PacketInterface(link.name, index: link.index)
        journey.packet.output = nil
        journey.packet.mark = 0
        guard journey.crossings <= Self.crossingLimit else {
            return journey.broken(
                .routingLoop, .route, "still not there after \(Self.crossingLimit) places", at: place, .init(.computed))
        }
        guard link.isUp else {
            return journey.broken(.linkDown, .route, "\(link.name) is down", at: place, .init(.kernelLookup))
        }
        return looking(journey, at: place, .route) { view in
            traverse(.prerouting, journey, at: place, view).flatMap { journey in
                journey.end == nil
                    ? looking(journey, at: place, .route) { view in try route(journey, at: place, on: link, view) }
                    : [journey]
            }
        }
    }

    private func route(
        _ journey: Journey, at place: Place, on link: Link, _ view: any NamespaceView
    ) throws -> [Journey] {
        var journey = journey
        let packet = journey.packet
        if case .node = place, !journey.isReply, let missing = untranslatedService(packet) {
            return journey.broken(
                .rulesNotProgrammed, .service, missing, at: place, .init(.cluster), cause: "\(place): \(missing)")
        }
        let decision = try view.decide(
            to: packet.destination, from: packet.source, arrivingOn: link.index, mark: packet.mark)
        switch decision.kind {
        case .refused(let why):
            return try diagnose(why, journey, at: place, on: link, view)
        case .local:
            // That a pod has its address goes without saying; that the packet is for a node does not.
            if case .node = place {
                journey.add(.route, "\(packet.destination) is \(place)'s own address", at: place, .init(.kernelLookup))
            }
            return deliver(journey, at: place)
        case .unicast:
            if let reason = try forwardingObstacle(packet.family, on: link, view) {
                return journey.broken(.forwardingDisabled, .route, reason, at: place, .init(.kernelLookup))
            }
            guard let output = try view.link(decision.link) else {
                return journey.broken(
                    .noRoute, .route, "the route leads to link \(decision.link), which is gone", at: place,
                    .init(.kernelLookup))
            }
            journey.add(.route, decision.text(to: packet.destination, output), at: place, .init(.kernelLookup))
            journey.packet.output = PacketInterface(output.name, index: output.index)
            return traverse(.forward, journey, at: place, view).flatMap { journey in
                journey.end == nil
                    ? looking(journey, at: place, .route) { view in try leave(journey, decision, at: place, view) }
                    : [journey]
            }
        }
    }

    /// A service's address that nothing translated although an object says it is one.
    private func untranslatedService(_ packet: Packet) -> String? {
        guard let service = cluster.service(at: packet.destination),
            service.ports.contains(where: { $0.number == packet.destinationPort && $0.protocol == packet.transport })
        else { return nil }
        return "no rule in the kernel answers for \(packet.destinationText), although Service \(service.key) has it; "
            + "is the node's agent running?"
    }

    // MARK: - Obstacles

    /// Why a packet that came by the link was refused: the kernel only says that it was.
    private func diagnose(
        _ why: String, _ journey: Journey, at place: Place, on link: Link, _ view: any NamespaceView
    ) throws -> [Journey] {
        let packet = journey.packet
        if let reason = try forwardingObstacle(packet.family, on: link, view) {
            return journey.broken(.forwardingDisabled, .route, reason, at: place, .init(.kernelLookup))
        }
        guard why == "source validation" else { return journey.refused(why, at: place) }
        let back = try view.decide(to: packet.source, from: nil, arrivingOn: nil, mark: 0)
        let setting = try view.setting(["net", "ipv4", "conf", link.name.description, "rp_filter"]) ?? "?"
        let name = try view.link(back.link)?.name.description
        let elsewhere = name.map { "the way back to it is \($0)" } ?? "there is no way back to it"
        return journey.broken(
            .sourceValidation, .route,
            "a packet from \(packet.source) is not taken from \(link.name): \(elsewhere) "
                + "(net.ipv4.conf.\(link.name).rp_filter is \(setting))", at: place, .init(.kernelLookup))
    }

    /// Why the kernel would not forward what arrives on the link; nil where it would.
    private func forwardingObstacle(
        _ family: AddressFamily, on link: Link, _ view: any NamespaceView
    ) throws -> String? {
        let name = link.name.description
        let off = { (version: String, device: String) in
            "forwarding is off (net.\(version).conf.\(device).forwarding is 0)"
        }
        switch family {
        case .ipv4:
            return try view.setting(["net", "ipv4", "conf", name, "forwarding"]) == "0" ? off("ipv4", name) : nil
        case .ipv6:
            guard try view.setting(["net", "ipv6", "conf", "all", "forwarding"]) == "0",
                // Since 6.17 a single interface may forward on its own.
                try view.setting(["net", "ipv6", "conf", name, "force_forwarding"]) != "1"
            else { return nil }
            return off("ipv6", "all")
        }
    }

    // MARK: - Looking

    /// Looks into a place; where that fails nothing more can be said about the journey.
    func looking(
        _ journey: Journey, at place: Place, _ stage: Hop.Stage, _ body: (any NamespaceView) throws -> [Journey]
    ) -> [Journey] {
        do {
            return try body(cluster.look(into: place))
        } catch {
            return journey.inconclusive(stage, "\(error)", at: place)
        }
    }

    private func interface(_ index: Int32, _ view: any NamespaceView) throws -> PacketInterface? {
        try view.link(index).map { PacketInterface($0.name, index: $0.index) }
    }

    private func loopback(_ view: any NamespaceView) throws -> PacketInterface? {
        try view.links().first { $0.kind == .loopback }.map { PacketInterface($0.name, index: $0.index) }
    }
}

extension Journey {
    /// Ended by the routing table.
    func refused(_ why: String, at place: Place) -> [Journey] {
        let text =
            why == "no route" ? "no route to \(packet.destination)" : "the route to \(packet.destination) says \(why)"
        return broken(.noRoute, .route, text, at: place, Evidence(.kernelLookup))
    }
}

extension RouteDecision {
    /// `10.244.2.0/24 via 10.244.2.0 dev fairlead.1`, as `ip route` writes routes.
    func text(to destination: IPAddress, _ link: Link) -> String {
        let prefix = matched.map { $0.length == 0 ? "default" : $0.description } ?? destination.description
        return prefix + (gateway.map { " via \($0)" } ?? "") + " dev \(link.name)"
    }
}
