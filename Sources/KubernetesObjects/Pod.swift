public import NetworkAddresses

/// A pod: what it declares, and what is known of it once it runs.
public struct Pod: Hashable, Sendable {
    public enum Phase: Hashable, Sendable {
        case pending, running, succeeded, failed, unknown
    }

    public var metadata: ObjectMetadata
    public var spec: PodSpec
    public var phase: Phase
    /// The addresses of `status.podIPs`; those of its node where the pod is in the node's network.
    public var addresses: [IPAddress]
    /// The `Ready` condition; nil while nobody has reported one.
    public var readyCondition: Bool?

    public init(
        metadata: ObjectMetadata,
        spec: PodSpec = PodSpec(),
        phase: Phase = .running,
        addresses: [IPAddress] = [],
        readyCondition: Bool? = nil
    ) {
        self.metadata = metadata
        self.spec = spec
        self.phase = phase
        self.addresses = addresses
        self.readyCondition = readyCondition
    }

    public var key: NamespacedName { metadata.key }

    /// Whether its containers have ended for good: such a pod no longer owns the addresses it reports.
    public var hasEnded: Bool { phase == .succeeded || phase == .failed }

    /// Whether the pod takes traffic.
    ///
    /// Where nobody reports conditions, as in a folder of manifests, a running pod is ready.
    public var isReady: Bool { readyCondition ?? (phase == .running) }

    public var isTerminating: Bool { metadata.deletionTimestamp != nil }
}

/// What a pod asks for.
public struct PodSpec: Hashable, Sendable {
    /// The node that runs the pod; nil until it is scheduled.
    public var nodeName: String?
    public var nodeSelector: [String: String]
    /// Whether the pod shares its node's network and addresses.
    public var isHostNetwork: Bool
    /// The containers, then the init containers that stay (`restartPolicy: Always`), in the order ports are looked up.
    public var containers: [Container]

    public init(
        nodeName: String? = nil,
        nodeSelector: [String: String] = [:],
        isHostNetwork: Bool = false,
        containers: [Container] = []
    ) {
        self.nodeName = nodeName
        self.nodeSelector = nodeSelector
        self.isHostNetwork = isHostNetwork
        self.containers = containers
    }

    /// The number of the container port of that name and protocol.
    public func port(named name: String, protocol: TransportProtocol) -> Port? {
        for container in containers {
            for port in container.ports where port.name == name && port.protocol == `protocol` { return port.number }
        }
        return nil
    }
}

/// A container, of which only the ports matter here.
public struct Container: Hashable, Sendable {
    public var name: String
    public var ports: [ContainerPort]

    public init(name: String, ports: [ContainerPort] = []) {
        self.name = name
        self.ports = ports
    }
}

/// A port a container says it listens on.
public struct ContainerPort: Hashable, Sendable {
    public var name: String?
    public var number: Port
    public var `protocol`: TransportProtocol
    /// The node's port that leads here, and the node's address it is bound to (nil for all).
    public var hostPort: Port?
    public var hostAddress: IPAddress?

    public init(
        name: String? = nil,
        number: Port,
        protocol: TransportProtocol = .tcp,
        hostPort: Port? = nil,
        hostAddress: IPAddress? = nil
    ) {
        self.name = name
        self.number = number
        self.protocol = `protocol`
        self.hostPort = hostPort
        self.hostAddress = hostAddress
    }
}

// MARK: - Reading

extension Pod {
    init(reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        self.init(metadata: metadata, spec: try PodSpec(reading: root["spec"]))
        let status = try root["status"]
        phase = try status["phase"].choice(
            [
                "Pending": .pending, "Running": .running, "Succeeded": .succeeded, "Failed": .failed,
                "Unknown": .unknown,
            ], default: .pending)
        for element in try status["podIPs"].elements() {
            let address: IPAddress? = element.noting { () throws(FieldError) in try element["ip"].read() }
            if let address { addresses.append(address) }
        }
        if addresses.isEmpty {
            let field = try status["podIP"]
            // Before a pod has an address, some writers leave the field empty.
            if field.value != "" { addresses = try field.readIfPresent().map { [$0] } ?? [] }
        }
        for condition in try status["conditions"].elements()
        where try condition["type"].readIfPresent(as: String.self) == "Ready" {
            readyCondition = try condition["status"].choice(
                ["True": true, "False": false, "Unknown": false], default: false)
        }
    }
}

extension PodSpec: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        let nodeName: String? = try field["nodeName"].readIfPresent()
        self.nodeName = nodeName.flatMap { $0.isEmpty ? nil : $0 }
        nodeSelector = try field["nodeSelector"].readIfPresent() ?? [:]
        isHostNetwork = try field["hostNetwork"].readIfPresent() ?? false
        containers = try field["containers"].readUsable()
        for element in try field["initContainers"].elements()
        where try element["restartPolicy"].readIfPresent(as: String.self) == "Always" {
            if let container = element.noting({ () throws(FieldError) in try element.read(as: Container.self) }) {
                containers.append(container)
            }
        }
    }
}

extension Container: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        name = try field["name"].read()
        ports = try field["ports"].readUsable()
    }
}

extension ContainerPort: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        name = try field["name"].readIfPresent(as: PortName.self)?.text
        number = try field["containerPort"].read()
        `protocol` = try field["protocol"].readIfPresent() ?? .tcp
        let hostPort = try field["hostPort"]
        self.hostPort = hostPort.value == 0 ? nil : try hostPort.readIfPresent()
        let hostIP = try field["hostIP"]
        hostAddress = hostIP.value == "" ? nil : try hostIP.readIfPresent()
    }
}

/// A name that Kubernetes allows for container ports: up to 15 lower-case letters, digits and dashes, one a letter.
///
/// A number in quotation marks is none, so that `"80"` never is taken for port 80.
struct PortName: FieldReadable {
    let text: String

    init(reading field: FieldReader) throws(FieldError) {
        text = try field.read(as: String.self)
        guard DNSName.isValid(text, limit: 15), !text.contains("."), !text.contains("--"),
            text.utf8.contains(where: { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) })
        else {
            throw field.error("\(FieldValue.quoted(text)) is no port name (15 lower-case letters, digits and '-')")
        }
    }
}
