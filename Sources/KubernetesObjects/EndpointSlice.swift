public import NetworkAddresses

/// Some of the endpoints of a service, all of one address family and with the same ports.
public struct EndpointSlice: Hashable, Sendable {
    public var metadata: ObjectMetadata
    public var family: AddressFamily
    public var endpoints: [Endpoint]
    public var ports: [EndpointPort]
    /// When what led to its last change happened, as its maker says; only to measure by.
    public var lastTrigger: PreciseTime?

    public init(
        metadata: ObjectMetadata,
        family: AddressFamily,
        endpoints: [Endpoint] = [],
        ports: [EndpointPort] = [],
        lastTrigger: PreciseTime? = nil
    ) {
        self.metadata = metadata
        self.family = family
        self.endpoints = endpoints
        self.ports = ports
        self.lastTrigger = lastTrigger
    }

    /// The label that says which service a slice belongs to.
    public static let serviceNameLabel = "kubernetes.io/service-name"
    /// The annotation that says when the pod or service changed because of which a slice did.
    public static let triggerAnnotation = "endpoints.kubernetes.io/last-change-trigger-time"
    /// The label on slices of services that have no cluster IP.
    public static let headlessLabel = "service.kubernetes.io/headless"

    public var key: NamespacedName { metadata.key }

    /// The service the slice belongs to; nil for a slice of no service.
    public var service: NamespacedName? {
        metadata.labels[Self.serviceNameLabel].flatMap { name in
            name.isEmpty ? nil : NamespacedName(namespace: metadata.namespace, name: name)
        }
    }

    public var isHeadless: Bool { metadata.labels[Self.headlessLabel] != nil }
}

/// A place connections can go to.
public struct Endpoint: Hashable, Sendable {
    public var address: IPAddress
    public var isReady: Bool
    /// Whether it answers, terminating or not.
    public var isServing: Bool
    public var isTerminating: Bool
    public var nodeName: String?
    public var zone: String?
    /// The zones, and the nodes, that should prefer this endpoint.
    public var hintedZones: Set<String>
    public var hintedNodes: Set<String>
    /// The pod at that address, where it is one.
    public var pod: NamespacedName?

    public init(
        address: IPAddress,
        isReady: Bool = true,
        isServing: Bool = true,
        isTerminating: Bool = false,
        nodeName: String? = nil,
        zone: String? = nil,
        hintedZones: Set<String> = [],
        hintedNodes: Set<String> = [],
        pod: NamespacedName? = nil
    ) {
        self.address = address
        self.isReady = isReady
        self.isServing = isServing
        self.isTerminating = isTerminating
        self.nodeName = nodeName
        self.zone = zone
        self.hintedZones = hintedZones
        self.hintedNodes = hintedNodes
        self.pod = pod
    }
}

/// A port of every endpoint of a slice; its name is that of the service's port it stands for.
public struct EndpointPort: Hashable, Sendable {
    public var name: String
    public var `protocol`: TransportProtocol
    public var number: Port

    public init(name: String = "", protocol: TransportProtocol = .tcp, number: Port) {
        self.name = name
        self.protocol = `protocol`
        self.number = number
    }
}

// MARK: - Reading

extension EndpointSlice {
    /// Nil for slices of host names, which nothing here can send a packet to.
    init?(reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        let addressType = try root["addressType"]
        guard addressType.value != "FQDN" else { return nil }
        self.init(metadata: metadata, family: try addressType.read())
        // Whatever else it says is nobody's loss.
        lastTrigger = root.value["metadata"]?["annotations"]?[Self.triggerAnnotation]?.string.flatMap(PreciseTime.init)
        for field in try root["endpoints"].elements() {
            guard let endpoint = field.noting({ () throws(FieldError) in try field.read(as: Endpoint.self) }) else {
                continue
            }
            if endpoint.address.family == family {
                endpoints.append(endpoint)
            } else {
                field.problems.add(field.error("\(endpoint.address) is no \(family) address, as addressType says"))
            }
        }
        for field in try root["ports"].elements() {
            // A port without a number means "all ports", which no service proxy can do.
            if let port = field.noting({ () throws(FieldError) in try field.read(as: EndpointPort.self) }) {
                ports.append(port)
            }
        }
    }
}

extension Endpoint: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        let addresses = try field["addresses"]
        // The others stand for the same endpoint, and Kubernetes has never said how to choose among them.
        guard let first = try addresses.elements().first else { throw addresses.error("is empty") }
        self.init(address: try first.read(as: UnicastAddress.self).address)
        let conditions = try field["conditions"]
        isReady = try conditions["ready"].readIfPresent() ?? true
        isServing = try conditions["serving"].readIfPresent() ?? true
        isTerminating = try conditions["terminating"].readIfPresent() ?? false
        nodeName = try field["nodeName"].readIfPresent()
        zone = try field["zone"].readIfPresent()
        for hint in try field["hints"]["forZones"].elements() { hintedZones.insert(try hint["name"].read()) }
        for hint in try field["hints"]["forNodes"].elements() { hintedNodes.insert(try hint["name"].read()) }
        let target = try field["targetRef"]
        if try target["kind"].readIfPresent(as: String.self) == "Pod" {
            pod = NamespacedName(
                namespace: try target["namespace"].readIfPresent() ?? "default", name: try target["name"].read())
        }
    }
}

extension EndpointPort: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        name = try field["name"].readServicePortName()
        `protocol` = try field["protocol"].readIfPresent() ?? .tcp
        number = try field["port"].read()
    }
}
