internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// A destination under which one port of a service is reached.
struct Frontend: Hashable, Sendable, CustomStringConvertible {
    /// By which field of its service a frontend is claimed. Lesser ones come first where several services claim it:
    /// what the API server allots to one service cannot be taken away by what another simply asks for.
    enum Origin: Int, Comparable {
        case clusterIP, nodePort, loadBalancer, externalIP

        static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

        var field: String {
            switch self {
            case .clusterIP: "spec.clusterIPs"
            case .nodePort: "spec.ports"
            case .loadBalancer: "status.loadBalancer.ingress"
            case .externalIP: "spec.externalIPs"
            }
        }
    }

    var address: IPAddress
    var transport: TransportProtocol
    var port: Port

    /// Its key in the maps and sets of frontends.
    var key: ElementKey { ElementKey(.address(address), .transport(transport), .port(port)) }

    /// `192.0.2.1:80/tcp`.
    var description: String { "\(SocketAddress(address, port))/\(transport)" }
}

extension Service {
    /// All frontends of a family under which a port is reached, without those of the ports before it.
    func frontends(of port: ServicePort, _ family: AddressFamily, on node: NodeContext) -> [(Frontend, Frontend.Origin)] {
        var found: [(Frontend, Frontend.Origin)] = []
        func add(_ address: IPAddress, _ number: Port, _ origin: Frontend.Origin) {
            guard address.family == family else { return }
            let frontend = Frontend(address: address, transport: port.protocol, port: number)
            if !found.contains(where: { $0.0 == frontend }) { found.append((frontend, origin)) }
        }
        for address in clusterIPs { add(address, port.number, .clusterIP) }
        if let nodePort = port.nodePort {
            for address in node.nodePortAddresses { add(address, nodePort, .nodePort) }
        }
        for ingress in ingress where ingress.mode == .virtualIP { add(ingress.address, port.number, .loadBalancer) }
        if node.settings.allowsExternalIPs {
            for address in externalIPs { add(address, port.number, .externalIP) }
        }
        return found
    }

    /// All frontends of the service, each once.
    func frontends(on node: NodeContext) -> [Frontend: Frontend.Origin] {
        guard isProxied else { return [:] }
        var all: [Frontend: Frontend.Origin] = [:]
        for port in ports {
            for family in AddressFamily.allCases where clusterIP(of: family) != nil {
                all.merge(frontends(of: port, family, on: node)) { first, _ in first }
            }
        }
        return all
    }
}

/// Which of several services that claim one frontend has it: by origin, then the oldest, then the lesser name.
struct FrontendRank: Comparable {
    var origin: Frontend.Origin
    var creation: Int64
    var service: NamespacedName

    init(_ origin: Frontend.Origin, of service: Service) {
        self.origin = origin
        creation = service.metadata.creationTimestamp?.secondsSince1970 ?? .max
        self.service = service.key
    }

    static func < (left: Self, right: Self) -> Bool {
        (left.origin, left.creation, left.service) < (right.origin, right.creation, right.service)
    }
}
