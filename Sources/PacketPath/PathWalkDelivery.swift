internal import KubernetesObjects
internal import NetlinkWire
internal import NetworkAddresses
internal import Nftables
internal import RouteNetlink

extension PathWalk {
    /// The packet is for this place: input hooks, then the socket that takes it.
    func deliver(_ journey: Journey, at place: Place) -> [Journey] {
        looking(journey, at: place, .listener) { view in
            traverse(.input, journey, at: place, view).flatMap { journey -> [Journey] in
                guard journey.end == nil else { return [journey] }
                return looking(journey, at: place, .listener) { view in try listen(journey, at: place, view) }
            }
        }
    }

    private func listen(_ journey: Journey, at place: Place, _ view: any NamespaceView) throws -> [Journey] {
        let packet = journey.packet
        if journey.isReply { return [journey.home(at: place)] }
        guard let transport = packet.transport, let port = packet.destinationPort else {
            return journey.ended(
                .reachable, .allowed, .listener, "\(place) takes \(packet.protocolName)", at: place, Evidence(.computed)
            )
        }
        let destination = SocketAddress(packet.destination, port)
        let sockets = try view.listeners(transport).filter { $0.port == port }
        if let socket = sockets.first(where: { $0.receives(transport, at: destination) }) {
            return journey.ended(
                .reachable, .allowed, .listener, "\(place) listens on \(socket.text)", at: place,
                Evidence(.kernelLookup))
        }
        let others = Set(sockets.map(\.text)).sorted().joined(separator: " and ")
        guard !sockets.isEmpty else {
            let open = Set(try view.listeners(transport).map(\.port)).sorted().map(\.description)
            let instead = open.isEmpty ? "" : "; it listens on \(open.prefix(8).joined(separator: ", "))"
            return journey.ended(
                .broken, .notListening, .listener, "nothing listens on \(packet.portText)\(instead)", at: place,
                Evidence(.kernelLookup),
                cause: "\(place) is reached, but nothing in it listens on \(packet.portText)\(instead)")
        }
        let reason: ReasonCode = sockets.allSatisfy(\.address.isLoopback) ? .listenLoopbackOnly : .listenOtherAddress
        return journey.ended(
            .broken, reason, .listener, "listens only on \(others), not on \(packet.destination)", at: place,
            Evidence(.kernelLookup),
            cause: "\(place) is reached, but it listens only on \(others), not on \(packet.destination)")
    }
}

extension Journey {
    /// An answer that reached a place which has its address; whether it is the right one is for `answer` to say.
    fileprivate func home(at place: Place) -> Journey {
        var journey = self
        journey.end = PathEnd(verdict: .reachable, reason: .allowed, cause: "", place: place, denial: nil)
        return journey
    }
}

extension PathWalk {
    /// Walks the answer back the way that routes and connections send it.
    func answer(to journey: Journey, sent first: Packet, from sender: Place) -> Journey? {
        guard let end = journey.end, end.verdict == .reachable else { return nil }
        var reply = journey
        reply.isReply = true
        reply.hops = []
        reply.findings = []
        reply.end = nil
        reply.crossings = 0
        let tuple = journey.packet.tuple.inverted
        reply.packet = Packet(
            from: tuple.source, tuple.sourcePort, to: tuple.destination, tuple.destinationPort,
            protocolNumber: tuple.protocolNumber)
        reply.packet.opensConnection = false
        // Nothing about an answer is drawn at random: it follows its connection.
        guard let back = originate(reply, at: end.place).first else { return nil }
        guard back.end?.verdict == .reachable else { return back }
        guard back.end?.place == sender, first.tuple.inverted.matches(back.packet) else {
            return back.broken(
                .replyNotTranslated, .rules,
                "the answer arrives from \(back.packet.sourceText) at \(back.end?.place.description ?? "?"), but "
                    + "\(sender) expects one from \(first.destinationText)", at: back.end?.place ?? sender,
                Evidence(.computed)
            ).first
        }
        return back
    }
}
