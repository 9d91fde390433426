internal import KubernetesObjects
internal import NetworkAddresses

/// A request with its names resolved: who sends which packet from where.
struct TraceQuestion {
    var request: TraceRequest
    var from: String
    var to: String
    var place: Place
    /// Nil where the cluster itself says why there is no packet to send; `obstacle` is then why.
    var packet: Packet?
    private var obstacle: (reason: ReasonCode, cause: String) = (.inconclusive, "")

    /// Any port of the sender's choice; a real connection would have another of the kind.
    static let samplePort = Port(40000)!

    init(_ request: TraceRequest, _ cluster: any PathCluster) throws(TraceError) {
        self.request = request
        let sources: [IPAddress]
        switch request.source {
        case .pod(let key):
            let pod = try Self.runningPod(key, cluster)
            from = key.description
            place = pod.place
            sources = pod.addresses
        case .node(let name):
            guard cluster.nodes.contains(name) else { throw TraceError.missing("node \(name)", cluster.nodes) }
            from = "node \(name)"
            place = .node(name)
            sources = cluster.objects.nodes[name]?.internalIPs ?? []
        }
        var destinations: [IPAddress]
        var port: Port?
        switch request.target {
        case .pod(let key):
            let pod = try Self.runningPod(key, cluster)
            destinations = pod.addresses
            port = try Self.port(of: key, request, cluster)
            to = port.map { "\(key):\($0)" } ?? "\(key)"
        case .node(let name):
            guard let node = cluster.objects.nodes[name] else {
                throw TraceError.missing("node \(name)", Array(cluster.objects.nodes.keys))
            }
            destinations = node.internalIPs
            port = try Self.number(request)
            to = "node \(name)" + (port.map { ":\($0)" } ?? "")
        case .address(let address):
            destinations = [address]
            port = try Self.number(request)
            to = Packet.end(address, port)
        case .service(let key):
            guard let service = cluster.objects.services[key] else {
                throw TraceError.missing("service \(key)", cluster.objects.services.keys.map(\.description))
            }
            destinations = service.clusterIPs
            to = "svc \(key)" + (request.port.map { ":\($0)" } ?? "")
            guard !destinations.isEmpty else {
                let kind =
                    service.isHeadless
                    ? "is headless: its name stands for its pods, so trace to one of them" : "has no cluster IP"
                obstacle = (.noAddress, "Service \(key) \(kind)")
                return
            }
            guard let found = try Self.port(of: service, request) else {
                let ports = service.ports.map(\.text).joined(separator: ", ")
                obstacle = (
                    .noSuchPort,
                    "Service \(key) has no port \(request.port ?? "")/\(request.transport); it has \(ports)"
                )
                return
            }
            port = found
            to = "svc \(key):\(found)"
        }
        if request.port == nil, port == nil { throw TraceError("which port of \(to)? Write \(to):PORT") }
        if let family = request.family { destinations = destinations.filter { $0.family == family } }
        for destination in destinations {
            guard let source = sources.first(where: { $0.family == destination.family }) else { continue }
            packet = Packet(
                from: source, Self.samplePort, to: destination, port, protocolNumber: request.transport.rawValue)
            return
        }
        let family = request.family.map { "\($0) " } ?? "common "
        obstacle = (.noAddress, "\(from) and \(to) have no \(family)address")
    }

    /// The trace of a packet that cannot be sent.
    var unanswerable: Trace {
        let end = PathEnd(verdict: .broken, reason: obstacle.reason, cause: obstacle.cause, place: place, denial: nil)
        return Trace(
            request: request, from: from, to: to, packet: nil,
            branches: [Trace.Branch(backend: nil, end: end, hops: [], reply: [], findings: [], nearMiss: nil)],
            verdict: .broken)
    }

    // MARK: - Names

    private static func runningPod(_ key: NamespacedName, _ cluster: any PathCluster) throws(TraceError) -> RunningPod {
        if let pod = cluster.pod(key) { return pod }
        guard cluster.objects.pods[key] == nil else { throw TraceError("pod \(key) is not running") }
        let others = cluster.pods.map(\.key)
        let near = others.filter { $0.namespace == key.namespace || $0.name == key.name }
        throw TraceError.missing("pod \(key)", near.map(\.description))
    }

    private static func number(_ request: TraceRequest) throws(TraceError) -> Port? {
        guard let text = request.port else { return nil }
        guard let port = Port(text) else { throw TraceError("\"\(text)\" is no port: a number of 1 to 65535") }
        return port
    }

    private static func port(
        of key: NamespacedName, _ request: TraceRequest, _ cluster: any PathCluster
    ) throws(TraceError) -> Port? {
        let ports = (cluster.objects.pods[key]?.spec.containers ?? []).flatMap(\.ports).filter {
            $0.protocol == request.transport
        }
        guard let text = request.port else { return ports.count == 1 ? ports[0].number : nil }
        if let port = try number(text) { return port }
        guard let named = ports.first(where: { $0.name == text }) else {
            let names = ports.compactMap(\.name)
            throw TraceError.missing("port \(text) of pod \(key)", names)
        }
        return named.number
    }

    /// The service's port; a number that it does not have is still a packet that can be sent.
    private static func port(of service: Service, _ request: TraceRequest) throws(TraceError) -> Port? {
        let ports = service.ports.filter { $0.protocol == request.transport }
        guard let text = request.port else {
            if ports.count == 1 { return ports[0].number }
            let all = service.ports.map(\.text).joined(separator: ", ")
            throw TraceError("which port of svc \(service.key)? It has \(all.isEmpty ? "none" : all)")
        }
        return try number(text) ?? ports.first { $0.name == text }?.number
    }

    /// A port's number; nil for a name.
    private static func number(_ text: String) throws(TraceError) -> Port? {
        if let port = Port(text) { return port }
        // Names have a letter.
        guard text.utf8.contains(where: { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) }) else {
            throw TraceError("\"\(text)\" is no port: a number of 1 to 65535, or a name")
        }
        return nil
    }
}

extension ServicePort {
    /// `80/tcp (http)`.
    fileprivate var text: String { "\(number)/\(`protocol`)" + (name.isEmpty ? "" : " (\(name))") }
}

extension TraceError {
    /// A name that nothing has, with those that something has.
    fileprivate static func missing(_ what: String, _ others: [String]) -> TraceError {
        let names = others.sorted().prefix(12).joined(separator: ", ")
        return TraceError("there is no \(what)" + (names.isEmpty ? "" : "; there is \(names)"))
    }
}
