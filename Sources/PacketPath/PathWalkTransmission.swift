internal import KubernetesObjects
internal import NetworkAddresses
internal import RouteNetlink

extension PathWalk {
    /// Puts the packet on a link: across a veth, into a tunnel, or onto the network between nodes.
    func transmit(_ journey: Journey, from place: Place, over link: Link, to nextHop: IPAddress) -> [Journey] {
        guard link.isUp, link.hasCarrier else {
            return journey.broken(
                .linkDown, stage(of: link), "\(link.name) is \(link.isUp ? "up but has no carrier" : "down")",
                at: place,
                .init(.kernelLookup))
        }
        return looking(journey, at: place, stage(of: link)) { view in
            switch (place, link.kind) {
            case (_, .vxlan(let tunnel)):
                return try encapsulate(journey, from: place, over: link, tunnel, to: nextHop, view)
            case (.pod(_, let node), .veth):
                return try enterNode(journey, from: place, over: link, to: nextHop, node: node, view)
            case (.node(let node), .veth), (.node(let node), .bridge):
                // A link to a pod of this node; any other leads to the network between the nodes.
                if let pod = cluster.pods.first(where: {
                    $0.node == node && !$0.isHostNetwork && $0.addresses.contains(journey.packet.destination)
                }) {
                    return try enterPod(journey, pod, from: place, over: link, to: nextHop, view)
                }
                return try crossUnderlay(journey, from: place, over: link, to: nextHop, view)
            case (.node, _):
                return try crossUnderlay(journey, from: place, over: link, to: nextHop, view)
            case (.pod, _):
                return journey.inconclusive(
                    .route, "\(link.name) is no veth, and where it leads is not understood here", at: place)
            }
        }
    }

    private func stage(of link: Link) -> Hop.Stage {
        switch link.kind {
        case .veth: .veth
        case .vxlan: .encap
        default: .underlay
        }
    }

    // MARK: - Between pod and node

    /// From a pod's interface to its other end on the node, or to the bridge that this is a port of.
    private func enterNode(
        _ journey: Journey, from place: Place, over link: Link, to nextHop: IPAddress, node: String,
        _ view: any NamespaceView
    ) throws -> [Journey] {
        let target = Place.node(node)
        let nodeView = try cluster.look(into: target)
        guard let index = link.peerIndex, let far = try nodeView.link(index), far.isOtherEnd(of: link) else {
            return journey.broken(
                .linkMissing, .veth, "the other end of \(link.name) is not on \(target)", at: place,
                .init(.kernelLookup))
        }
        guard far.isUp else {
            return journey.broken(
                .linkDown, .veth, "\(link.name)'s other end \(far.name) is down", at: target, .init(.kernelLookup))
        }
        var entrance = far
        if let bridge = far.bridge, let device = try nodeView.link(bridge) { entrance = device }
        if let obstacle = try neighborObstacle(nextHop, on: link, view, far: entrance, nodeView) {
            return journey.broken(obstacle.reason, .veth, obstacle.text, at: place, obstacle.evidence)
        }
        if entrance != far, try !nodeView.addresses().contains(where: { $0.prefix.address == nextHop }) {
            return journey.inconclusive(
                .veth,
                "\(entrance.name) switches it to another port; which rules bridged frames meet is not understood here",
                at: target)
        }
        var journey = journey
        let way = entrance == far ? "\(far.name)" : "\(far.name), a port of \(entrance.name)"
        journey.add(.veth, "\(link.name) → \(way) (up, mtu \(far.mtu))", at: place, .init(.kernelLookup))
        return arrive(journey, at: target, on: entrance)
    }

    /// From the node into a pod.
    private func enterPod(
        _ journey: Journey, _ pod: RunningPod, from place: Place, over link: Link, to nextHop: IPAddress,
        _ view: any NamespaceView
    ) throws -> [Journey] {
        let podView = try cluster.look(into: pod.place)
        let ends = try podView.links().compactMap { inner -> (inner: Link, outer: Link)? in
            guard inner.kind == .veth, let index = inner.peerIndex, let outer = try view.link(index),
                outer.isOtherEnd(of: inner), outer.index == link.index || outer.bridge == link.index
            else { return nil }
            return (inner, outer)
        }
        guard let (inner, outer) = ends.first else {
            return journey.broken(
                .linkMissing, .veth,
                "\(link.name) does not lead to \(pod.key), which has \(journey.packet.destination)",
                at: place, .init(.kernelLookup))
        }
        guard outer.isUp, inner.isUp else {
            return journey.broken(
                .linkDown, .veth, "\((outer.isUp ? inner : outer).name) of \(pod.key) is down", at: place,
                .init(.kernelLookup))
        }
        if let obstacle = try neighborObstacle(nextHop, on: link, view, far: inner, podView) {
            return journey.broken(obstacle.reason, .veth, obstacle.text, at: place, obstacle.evidence)
        }
        var journey = journey
        journey.add(
            .veth, "\(outer.name) → \(inner.name) of \(pod.key) (up, mtu \(inner.mtu))", at: place, .init(.kernelLookup)
        )
        return arrive(journey, at: pod.place, on: inner)
    }

    // MARK: - Neighbours

    struct Obstacle {
        var reason: ReasonCode
        var text: String
        var evidence = Evidence(.kernelLookup)
    }

    /// Why the frame would not be taken at the link's other end; nil where it would.
    private func neighborObstacle(
        _ address: IPAddress, on link: Link, _ view: any NamespaceView, far: Link, _ farView: any NamespaceView
    ) throws -> Obstacle? {
        let known = try view.neighbor(address, on: link.index)
        switch known?.state {
        case .permanent?, .learned?:
            guard let mac = known?.mac, let actual = far.mac, mac != actual else { return nil }
            return Obstacle(
                reason: .neighborMismatch,
                text: "\(link.name) sends frames for \(address) to \(mac), but \(far.name) there is \(actual)")
        // Loopback-like links need none.
        case .none?: return nil
        // Not asked yet, or in vain: the next packet asks again, so it counts who would answer now.
        case .incomplete?, .failed?, nil:
            if try answers(for: address, far, farView) { return nil }
            let history = known?.state == .failed ? ", and was asked for in vain" : ""
            return Obstacle(
                reason: .neighborMissing,
                text: "nobody answers for \(address) behind \(link.name)\(history)", evidence: Evidence(.computed))
        }
    }

    /// Whether a namespace answers ARP or neighbour discovery for the address on the link.
    private func answers(for address: IPAddress, _ link: Link, _ view: any NamespaceView) throws -> Bool {
        let addresses = try view.addresses()
        switch address.family {
        case .ipv4:
            // Linux answers for any address of the machine on any of its links, unless arp_ignore says otherwise.
            if addresses.contains(where: { $0.prefix.address == address }) { return true }
            let proxies = try ["all", link.name.description].contains {
                try view.setting(["net", "ipv4", "conf", $0, "proxy_arp"]) == "1"
            }
            guard proxies else { return false }
            let decision = try view.decide(to: address, from: nil, arrivingOn: nil, mark: 0)
            return decision.kind == .unicast && decision.link != link.index
        case .ipv6:
            return addresses.contains { $0.prefix.address == address && $0.link == link.index }
        }
    }

    // MARK: - Between nodes

    /// Over the network that joins the nodes, which nobody here looks into.
    private func crossUnderlay(
        _ journey: Journey, from place: Place, over link: Link, to nextHop: IPAddress, _ view: any NamespaceView
    ) throws -> [Journey] {
        var journey = journey
        if case .failed? = try view.neighbor(nextHop, on: link.index)?.state {
            return journey.broken(
                .neighborMissing, .underlay, "nobody answers for \(nextHop) behind \(link.name)", at: place,
                .init(.kernelLookup))
        }
        if let owner = try cluster.node(owning: nextHop), Place.node(owner.name) != place {
            journey.add(
                .underlay, "\(link.name) → \(owner.link.name) of \(owner.name)", at: place, Evidence(.assumed))
            return arrive(journey, at: .node(owner.name), on: owner.link)
        }
        let destination = journey.packet.destination
        if let pod = cluster.pod(at: destination) {
            return journey.broken(
                .noRoute, .route,
                "it leaves by \(link.name), where no node takes it to \(pod.key) on \(pod.node)", at: place,
                .init(.computed))
        }
        let text = "leaves the cluster by \(link.name) towards \(destination)"
        return journey.ended(
            .inconclusive, .leavesCluster, .underlay, text, at: place, Evidence(.assumed),
            cause: "nothing here stops it; it \(text) from \(place), and what happens there cannot be seen from here")
    }
}

extension Link {
    /// Whether two veth ends name each other.
    ///
    /// Indexes repeat across namespaces, but hardly both of them.
    func isOtherEnd(of other: Link) -> Bool {
        kind == .veth && other.kind == .veth && peerIndex == other.index && other.peerIndex == index
    }
}
