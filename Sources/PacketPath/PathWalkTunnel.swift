internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables
internal import RouteNetlink

extension PathWalk {
    /// Through a VXLAN device: who is the next hop, where is it, and does the outer packet get there.
    func encapsulate(
        _ journey: Journey, from place: Place, over link: Link, _ tunnel: VXLAN, to nextHop: IPAddress,
        _ view: any NamespaceView
    ) throws -> [Journey] {
        let lookup = Evidence(.kernelLookup)
        guard let neighbor = try view.neighbor(nextHop, on: link.index), let mac = neighbor.mac,
            neighbor.state == .permanent || neighbor.state == .learned
        else {
            // Entries of a tunnel that does not learn are put there by the agent or not at all.
            return journey.broken(
                .neighborMissing, .encap, "\(link.name) has no neighbour entry for \(nextHop)", at: place, lookup)
        }
        guard let entry = try view.forwardingEntries(of: link.index).first(where: { $0.mac == mac }) else {
            return journey.broken(
                .forwardingEntryMissing, .encap,
                "\(link.name) has no forwarding entry for \(mac), the tunnel end of \(nextHop)", at: place, lookup)
        }
        guard let remote = try cluster.node(owning: entry.remote) else {
            return journey.broken(
                .nodeUnknown, .encap, "\(link.name) sends it to \(entry.remote), which no node of the cluster has",
                at: place, lookup)
        }
        let route = try view.decide(to: entry.remote, from: nil, arrivingOn: nil, mark: 0)
        guard route.kind == .unicast, let underlay = try view.link(route.link) else {
            return journey.broken(
                .noRoute, .encap, "there is no way to \(remote.name)'s \(entry.remote) for the tunnel", at: place,
                lookup)
        }
        guard underlay.isUp, underlay.hasCarrier else {
            return journey.broken(
                .linkDown, .encap, "\(underlay.name), which carries the tunnel, is down", at: place, lookup)
        }
        let source = tunnel.local ?? route.source ?? entry.remote
        // The kernel draws the source port from a hash of the inner packet.
        var outer = Packet(
            from: source, nil, to: entry.remote, tunnel.port, protocolNumber: TransportProtocol.udp.rawValue)
        outer.output = PacketInterface(underlay.name, index: underlay.index)

        var journey = journey
        let overhead = source.family == .ipv4 ? 50 : 70
        let needed = link.mtu + overhead
        let room = min(underlay.mtu, remote.link.mtu)
        journey.add(
            .encap,
            "vxlan vni \(tunnel.vni)  \(source) → \(entry.remote):\(tunnel.port)  "
                + "(\(mac) is \(remote.name), needs \(link.mtu)+\(overhead) \(needed <= room ? "<=" : ">") \(room))",
            at: place, lookup, status: needed <= room ? .ok : .warning, outer: outer)
        if needed > room {
            let narrow =
                underlay.mtu <= remote.link.mtu
                ? "\(underlay.name) of \(place)" : "\(remote.link.name) of \(remote.name)"
            journey.findings.append(
                Finding(
                    reason: .mtuTooSmall,
                    text: "full-size packets do not fit: \(link.name) takes \(link.mtu) bytes, "
                        + "the tunnel adds \(overhead), and \(narrow) carries \(room)"))
        }
        if let size = journey.senderMTU, size > link.mtu, !journey.isReply {
            journey.findings.append(
                Finding(
                    reason: .mtuTooSmall,
                    text: "the sender's interface takes \(size) bytes and \(link.name) only \(link.mtu): "
                        + "the sender must learn that from ICMP"))
        }
        return sendOuter(journey, outer, from: place, [.output, .postrouting]).flatMap { journey -> [Journey] in
            guard journey.end == nil else { return [journey] }
            return looking(journey, at: .node(remote.name), .decap) { view in
                try decapsulate(journey, outer, at: remote, tunnel, mac, view)
            }
        }
    }

    /// On the other node: the outer packet's way in, and the tunnel device that opens it.
    private func decapsulate(
        _ journey: Journey, _ outer: Packet, at remote: (name: String, link: Link), _ tunnel: VXLAN, _ mac: MACAddress,
        _ view: any NamespaceView
    ) throws -> [Journey] {
        let place = Place.node(remote.name)
        var outer = outer
        outer.output = nil
        outer.input = PacketInterface(remote.link.name, index: remote.link.index)
        guard remote.link.isUp else {
            return journey.broken(
                .linkDown, .decap, "\(remote.link.name), which carries the tunnel, is down", at: place,
                .init(.kernelLookup))
        }
        let links = try view.links()
        let devices = links.compactMap { link -> (Link, VXLAN)? in
            if case .vxlan(let settings) = link.kind { (link, settings) } else { nil }
        }
        return sendOuter(journey, outer, from: place, [.prerouting, .input]).flatMap { journey -> [Journey] in
            guard journey.end == nil else { return [journey] }
            guard let (device, _) = devices.first(where: { $0.1.vni == tunnel.vni && $0.1.port == tunnel.port }) else {
                let there = devices.map { "; \($0.0.name) has vni \($0.1.vni) and port \($0.1.port)" }.joined()
                return journey.broken(
                    .tunnelMismatch, .decap, "no tunnel device takes vni \(tunnel.vni) on port \(tunnel.port)\(there)",
                    at: place, .init(.kernelLookup))
            }
            guard device.isUp else {
                return journey.broken(.linkDown, .decap, "\(device.name) is down", at: place, .init(.kernelLookup))
            }
            guard device.mac == nil || device.mac == mac else {
                return journey.broken(
                    .neighborMismatch, .decap,
                    "the frame inside is for \(mac), but \(device.name) is \(device.mac.map(\.description) ?? "?")",
                    at: place, .init(.kernelLookup))
            }
            var journey = journey
            journey.add(
                .decap, "\(device.name) takes it out of the tunnel", at: place, .init(.kernelLookup), outer: outer)
            return arrive(journey, at: place, on: device)
        }
    }

    /// Takes the outer packet through hooks at a place.
    ///
    /// Only what stops it is told.
    private func sendOuter(_ journey: Journey, _ outer: Packet, from place: Place, _ points: [Hook.Point]) -> [Journey]
    {
        var carrier = Journey(outer)
        carrier.hops = journey.hops
        carrier.findings = journey.findings
        return looking(journey, at: place, .encap) { view in
            var carriers = [carrier]
            for point in points {
                carriers = carriers.flatMap { $0.end == nil ? traverse(point, $0, at: place, view) : [$0] }
            }
            // Rules that choose at random about the tunnel's packets matter only if one of the ways ends.
            let stopped = carriers.filter { $0.end != nil }
            guard let first = stopped.first else { return [journey] }
            var journey = journey
            journey.hops = first.hops
            journey.end = first.end
            journey.end?.cause = "the tunnel's packet is stopped: " + (first.end?.cause ?? "")
            return [journey]
        }
    }
}
