import NetworkAddresses

extension Service {
    init(reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        let spec = try root["spec"]
        guard !spec.isAbsent else { throw spec.error("is missing") }
        self.init(metadata: metadata)
        type = try spec["type"].choice(
            [
                "ClusterIP": .clusterIP, "NodePort": .nodePort, "LoadBalancer": .loadBalancer,
                "ExternalName": .externalName,
            ], default: .clusterIP)
        (clusterIPs, isHeadless) = try Self.clusterIPs(reading: spec)
        families = try spec["ipFamilies"].readUsable()
        familyPolicy = try spec["ipFamilyPolicy"].choice(
            [
                "SingleStack": .singleStack, "PreferDualStack": .preferDualStack,
                "RequireDualStack": .requireDualStack,
            ], default: nil)
        ports = try Self.ports(reading: spec["ports"])
        selector = try spec["selector"].readIfPresent() ?? [:]
        externalIPs = try spec["externalIPs"].readUsable(as: UnicastAddress.self).map(\.address)
        externalTrafficPolicy = try spec["externalTrafficPolicy"].readTrafficPolicy()
        internalTrafficPolicy = try spec["internalTrafficPolicy"].readTrafficPolicy()
        sessionAffinity = try Self.sessionAffinity(reading: spec)
        ingress = try root["status"]["loadBalancer"]["ingress"].readUsable(as: Ingress.self).compactMap(\.value)
        let ranges = try spec["loadBalancerSourceRanges"]
        if try !ranges.elements().isEmpty {
            sourceRanges = try ranges.readUsable(as: SourceRange.self).map(\.prefix)
        }
        let healthCheck = try spec["healthCheckNodePort"]
        healthCheckNodePort = healthCheck.value == 0 ? nil : try healthCheck.readIfPresent()
        publishesNotReadyAddresses = try spec["publishNotReadyAddresses"].readIfPresent() ?? false
    }

    /// `clusterIPs`, or `clusterIP` where only that is given.
    private static func clusterIPs(
        reading spec: FieldReader
    ) throws(FieldError) -> (addresses: [IPAddress], isHeadless: Bool) {
        var fields = try spec["clusterIPs"].elements()
        if fields.isEmpty { fields = [try spec["clusterIP"]] }
        if fields.first?.value == "None" { return ([], true) }
        var addresses: [IPAddress] = []
        for field in fields where !field.isAbsent && field.value != "" {
            guard
                let address = field.noting({ () throws(FieldError) in try field.read(as: UnicastAddress.self).address })
            else { continue }
            if addresses.contains(where: { $0.family == address.family }) {
                field.problems.add(field.error("is the second \(address.family) address, and is not used"))
            } else {
                addresses.append(address)
            }
        }
        return (addresses, false)
    }

    /// The usable ports: of two that cannot be told apart, the first.
    private static func ports(reading list: FieldReader) throws(FieldError) -> [ServicePort] {
        let fields = try list.elements()
        var ports: [ServicePort] = []
        for field in fields {
            guard let port = field.noting({ () throws(FieldError) in try field.read(as: ServicePort.self) }) else {
                continue
            }
            if fields.count > 1, port.name.isEmpty {
                field.problems.add(field.error("needs a name, because the service has several ports"))
            } else if ports.contains(where: { $0.name == port.name }) {
                field.problems.add(field.error("has the name \(port.name) of a port before it"))
            } else if ports.contains(where: { $0.number == port.number && $0.protocol == port.protocol }) {
                field.problems.add(field.error("repeats \(port.number)/\(port.protocol) of a port before it"))
            } else {
                ports.append(port)
            }
        }
        return ports
    }

    private static func sessionAffinity(reading spec: FieldReader) throws(FieldError) -> SessionAffinity {
        guard try spec["sessionAffinity"].choice(["None": false, "ClientIP": true], default: false) else {
            return .none
        }
        let field = try spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        // Three hours, as the API server has it.
        let seconds: Int = try field.readIfPresent() ?? 10800
        guard (1...86400).contains(seconds) else { throw field.error("\(seconds) is not within 1 to 86400") }
        return .clientIP(timeoutSeconds: seconds)
    }
}

extension FieldReader {
    fileprivate func readTrafficPolicy() throws(FieldError) -> Service.TrafficPolicy {
        // Services that cannot have an external policy may hold an empty one.
        value == "" ? .cluster : try choice(["Cluster": .cluster, "Local": .local], default: .cluster)
    }
}

extension ServicePort: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        let number: Port = try field["port"].read()
        let nodePort = try field["nodePort"]
        let target = try field["targetPort"]
        self.init(
            name: try field["name"].readServicePortName(),
            protocol: try field["protocol"].readIfPresent() ?? .tcp,
            number: number,
            // Zero and nothing both mean "the same as port".
            target: target.value == 0 || target.value == "" ? nil : try target.readIfPresent(),
            nodePort: nodePort.value == 0 ? nil : try nodePort.readIfPresent())
    }
}

extension FieldReader {
    /// A port's name in a service or an endpoint slice: empty, or one DNS label.
    func readServicePortName() throws(FieldError) -> String {
        guard let name = try readIfPresent(as: String.self), !name.isEmpty else { return "" }
        guard DNSName.isValid(name, limit: 63), !name.contains(".") else {
            throw error("\(FieldValue.quoted(name)) is no port name (lower-case letters, digits and '-')")
        }
        return name
    }
}

extension TargetPort: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        switch field.value {
        case .string: self = .name(try field.read(as: PortName.self).text)
        default: self = .number(try field.read())
        }
    }
}

/// An address that can be the destination of a connection from elsewhere.
struct UnicastAddress: FieldReadable {
    let address: IPAddress

    init(reading field: FieldReader) throws(FieldError) {
        address = try field.read()
        let reason: String? =
            switch address {
            case _ where address.isUnspecified: "the unspecified address"
            case _ where address.isLoopback: "a loopback address"
            case _ where address.isMulticast: "a multicast address"
            case .v4(let v4) where v4.rawValue >> 16 == 0xa9fe: "a link-local address"
            case .v6(let v6) where v6.isLinkLocal: "a link-local address"
            default: nil
            }
        if let reason { throw field.error("\(address) is \(reason), which nothing can be served at") }
    }
}

/// One source range; blanks around it are passed over, as kube-proxy does.
private struct SourceRange: FieldReadable {
    let prefix: IPPrefix

    init(reading field: FieldReader) throws(FieldError) {
        let text = try field.read(as: String.self)
        let trimmed = text.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed()
        guard let prefix = IPPrefix(sloppy: String(trimmed)) else {
            throw field.error("\(FieldValue.quoted(text)) is no network in CIDR notation")
        }
        self.prefix = prefix.network
    }
}

/// One entry of `status.loadBalancer.ingress`; one that has only a host name is nothing to program.
private struct Ingress: FieldReadable {
    let value: LoadBalancerIngress?

    init(reading field: FieldReader) throws(FieldError) {
        let ip = try field["ip"]
        guard !ip.isAbsent, ip.value != "" else {
            value = nil
            return
        }
        value = LoadBalancerIngress(
            address: try ip.read(as: UnicastAddress.self).address,
            mode: try field["ipMode"].choice(["VIP": .virtualIP, "Proxy": .proxy], default: .virtualIP))
    }
}
