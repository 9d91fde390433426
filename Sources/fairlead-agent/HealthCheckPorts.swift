import KernelInterface
import KubernetesObjects
import Logging
import NetworkAddresses
import NodeDuties
import RouteNetlink
import ServiceLifecycle
import ServiceRules

/// Answers load balancers at the `healthCheckNodePort` of each service.
actor HealthCheckPorts: ServiceLifecycle.Service {
    /// Where one service is asked for.
    private struct Place: Hashable {
        var address: SocketAddress
        var service: NamespacedName
    }

    private let state: DutyState
    private let addresses: ServiceSettings.NodePortAddresses
    private let primary: IPAddress?
    private let events: EventSender
    private let logger: Logger
    private let nodeName: String
    private var listeners: [Place: Task<Void, Never>] = [:]
    /// Places that could not be listened at, tried again.
    private var failed: Set<Place> = []
    private let bell: AsyncStream<Void>
    private nonisolated let ring: AsyncStream<Void>.Continuation

    init(state: DutyState, settings: ServiceSettings, nodeName: String, events: EventSender, logger: Logger) {
        self.state = state
        self.nodeName = nodeName
        addresses = settings.nodePortAddresses
        primary = settings.primaryAddress
        self.events = events
        self.logger = logger
        (bell, ring) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// The ports to answer at, the node or its addresses have changed.
    nonisolated func changed() { ring.yield() }

    func run() async throws {
        for await _ in bell.cancelOnGracefulShutdown() { follow() }
        for listener in listeners.values { listener.cancel() }
        for listener in listeners.values { await listener.value }
    }

    private func follow() {
        let wanted = places()
        for (place, listener) in listeners where !wanted.contains(place) {
            listener.cancel()
            listeners[place] = nil
            failed.remove(place)
        }
        for place in wanted where listeners[place] == nil {
            listeners[place] = Task { await self.serve(place) }
        }
    }

    /// Listens, again and again until it can, and answers.
    private func serve(_ place: Place) async {
        let state = state
        let listener = PageListener(address: place.address) { request in
            let answer = state.answer(
                to: .init(service: place.service, port: place.address.port, family: request.family))
            return Page(
                code: answer.code, type: "application/json", body: answer.body,
                headers: [("X-Load-Balancing-Endpoint-Weight", "\(answer.weight)")])
        }
        while !Task.isCancelled {
            do {
                try await listener.run()
            } catch {
                if Task.isCancelled { return }
                tell(place, error)
            }
            // A port may be free a moment after another service has let it go.
            try? await Task.sleep(for: .milliseconds(500))
        }
    }

    private func tell(_ place: Place, _ error: any Error) {
        let note =
            "node \(nodeName) failed to start healthcheck \"\(place.service)\" on port \(place.address.port): "
            + describe(error)
        events.tell(
            ObjectNews(
                .warning, ObjectReference(.service, place.service), uid: state.uid(of: place.service),
                reason: "FailedToStartServiceHealthcheck", action: "Listen", note: note))
        if failed.insert(place).inserted { logger.error("\(note)") }
    }

    private func places() -> Set<Place> {
        let checks = state.checks
        guard !checks.isEmpty else { return [] }
        // Not asked for where they make no difference.
        let local = addresses == .all ? [] : localAddresses()
        var places: Set<Place> = []
        for (key, families) in Dictionary(grouping: checks, by: { Key(service: $0.service, port: $0.port) }) {
            for address in addresses(for: Set(families.map(\.family)), local: local) {
                places.insert(Place(address: SocketAddress(address, key.port), service: key.service))
            }
        }
        return places
    }

    private struct Key: Hashable {
        var service: NamespacedName
        var port: Port
    }

    /// Where node ports of these families answer.
    private func addresses(for families: Set<AddressFamily>, local: [IPAddress]) -> [IPAddress] {
        let open: Set<AddressFamily>
        var chosen: [IPAddress] = []
        switch addresses {
        case .all: open = families
        case .networks(let networks):
            open = families.filter { family in !networks.contains { $0.family == family } }
            chosen = local.filter { address in networks.contains { $0.contains(address) } }
        case .primary:
            open = []
            for family in families {
                let own = primary?.family == family ? primary : state.node?.internalIP(of: family)
                if let own, local.contains(own) { chosen.append(own) }
            }
        }
        // The unspecified address of IPv6 takes IPv4 with it.
        if open.contains(.ipv6) { return [.v6(IPv6Address(rawValue: 0))] }
        chosen = chosen.filter { families.contains($0.family) && !open.contains($0.family) }
        return open.isEmpty ? chosen : [.v4(IPv4Address(rawValue: 0))] + chosen
    }

    private func localAddresses() -> [IPAddress] {
        guard let socket = try? RouteSocket.open(), let addresses = try? socket.addresses() else { return [] }
        return addresses.map(\.prefix.address)
    }
}
