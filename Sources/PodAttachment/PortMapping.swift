public import CNIProtocol
public import NetworkAddresses
public import Nftables

/// A port of the node that leads to a port of a pod.
public struct PortMapping: Hashable, Sendable {
    /// Nil for all of the node's addresses, of both families.
    public var hostAddress: IPAddress?
    public var hostPort: Port
    public var podPort: Port
    public var transport: TransportProtocol

    public init(_ hostPort: Port, to podPort: Port, _ transport: TransportProtocol, at hostAddress: IPAddress? = nil) {
        self.hostAddress = hostAddress
        self.hostPort = hostPort
        self.podPort = podPort
        self.transport = transport
    }

    /// Whether the mapping is for one address of the node: `0.0.0.0` and `::` stand for all of their family.
    var isBound: Bool { hostAddress.map { !$0.isUnspecified } ?? false }

    func applies(to family: AddressFamily) -> Bool { hostAddress.map { $0.family == family } ?? true }
}

/// What the runtime and the configuration say about host ports: `runtimeConfig.portMappings`, `snat`, `masqAll`.
public struct HostPortConfiguration: Hashable, Sendable {
    public var mappings: [PortMapping]
    /// Whether a connection that would come back to the pod's own network is made to look like the node's.
    public var masquerades: Bool
    /// Whether every connection is; only where the one above is true.
    public var masqueradesAll: Bool
    /// What a packet must be for the mappings to be there for it; families without conditions are absent.
    public var conditions: [AddressFamily: [Statement]] = [:]

    public init(_ mappings: [PortMapping], masquerades: Bool = true, masqueradesAll: Bool = false) {
        self.mappings = mappings
        self.masquerades = masquerades
        self.masqueradesAll = masquerades && masqueradesAll
    }

    public init(_ configuration: NetworkConfiguration) throws(CNIError) {
        let reader = configuration.reader
        var mappings: [PortMapping] = []
        for entry in try reader.object("runtimeConfig").objects("portMappings") {
            mappings.append(try PortMapping(parsing: entry))
        }
        for (index, mapping) in mappings.enumerated() where mappings[..<index].contains(where: mapping.rivals) {
            throw try reader.object("runtimeConfig").fault(
                "portMappings[\(index)]",
                "host port \(mapping.hostPort)/\(mapping.transport) is mapped twice in this list")
        }
        self.mappings = mappings.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
        masquerades = try reader.bool("snat") ?? true
        let all = try reader.isTrue("masqAll")
        masqueradesAll = masquerades && all
        for family in AddressFamily.allCases {
            let statements = try HostPortConditions.statements(reader, family)
            if !statements.isEmpty { conditions[family] = statements }
        }
        try Self.checkMeaningless(reader)
    }

    /// Keys that say how the reference plugin is to do it, and not what: a wrong one is a mistake all the same.
    ///
    /// There is no mark to choose a bit of and no chain to set one in: what is masqueraded is decided from the
    /// connection itself.
    private static func checkMeaningless(_ reader: ConfigurationReader) throws(CNIError) {
        let backend = try reader.string("backend") ?? ""
        guard ["", "iptables", "nftables"].contains(backend) else {
            throw reader.fault("backend", "unrecognized backend \"\(backend)\"")
        }
        let bit = try reader.integer("markMasqBit")
        if let bit, !(0...31).contains(bit) {
            throw reader.fault("markMasqBit", "\(bit): MasqMarkBit must be between 0 and 31")
        }
        if bit != nil, try reader.string("externalSetMarkChain") != nil {
            throw reader.fault("markMasqBit", "Cannot specify externalSetMarkChain and markMasqBit")
        }
    }
}

extension PortMapping {
    /// Whether both take the same port of the node, and lead to different ones of the pod.
    fileprivate func rivals(_ other: PortMapping) -> Bool {
        guard hostPort == other.hostPort, transport == other.transport, podPort != other.podPort else { return false }
        if isBound || other.isBound { return hostAddress == other.hostAddress }
        return AddressFamily.allCases.contains { applies(to: $0) && other.applies(to: $0) }
    }

    init(parsing reader: ConfigurationReader) throws(CNIError) {
        // The words of the reference plugin, which kubelet's and podman's logs are searched for.
        guard let host = try reader.integer("hostPort"), let hostPort = Port(host) else {
            let number = try reader.integer("hostPort") ?? 0
            throw reader.fault("hostPort", "Invalid host port number: \(number)")
        }
        guard let pod = try reader.integer("containerPort"), let podPort = Port(pod) else {
            let number = try reader.integer("containerPort") ?? 0
            throw reader.fault("containerPort", "Invalid container port number: \(number)")
        }
        let transport: TransportProtocol = try reader.text("protocol", as: "protocol of tcp, udp and sctp") ?? .tcp
        let address = try reader.address("hostIP")
        if let address, address.family == .ipv6, address.isLoopback {
            throw reader.fault(
                "hostIP", "::1 cannot be mapped: the kernel sends nothing from it to a pod; use 127.0.0.1")
        }
        if let address, address.isMulticast {
            throw reader.fault("hostIP", "\(address) is no address of a node")
        }
        self.init(hostPort, to: podPort, transport, at: address)
    }
}
