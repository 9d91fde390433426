public import NetworkAddresses

/// A machine of the cluster.
public struct Node: Hashable, Sendable {
    public struct Taint: Hashable, Sendable {
        public var key: String
        public var value: String
        public var effect: String

        public init(key: String, value: String = "", effect: String) {
            self.key = key
            self.value = value
            self.effect = effect
        }
    }

    public var metadata: ObjectMetadata
    /// The networks its pods get their addresses from.
    public var podCIDRs: [IPPrefix]
    /// Its own addresses, at which other nodes reach it.
    public var internalIPs: [IPAddress]
    public var taints: [Taint]

    public init(
        metadata: ObjectMetadata,
        podCIDRs: [IPPrefix] = [],
        internalIPs: [IPAddress] = [],
        taints: [Taint] = []
    ) {
        self.metadata = metadata
        self.podCIDRs = podCIDRs
        self.internalIPs = internalIPs
        self.taints = taints
    }

    public var name: String { metadata.name }

    public var zone: String? { metadata.labels["topology.kubernetes.io/zone"] }

    public func internalIP(of family: AddressFamily) -> IPAddress? { internalIPs.first { $0.family == family } }
}

/// A namespace, of which only the labels matter here.
public struct Namespace: Hashable, Sendable {
    /// The label every namespace carries, with its own name: policies choose namespaces by it.
    public static let nameLabel = "kubernetes.io/metadata.name"

    public var metadata: ObjectMetadata

    /// Adds the label with the name, as the API server does.
    public init(metadata: ObjectMetadata) {
        self.metadata = metadata
        self.metadata.namespace = ""
        self.metadata.labels[Self.nameLabel] = metadata.name
    }

    public init(name: String, labels: [String: String] = [:]) {
        self.init(metadata: ObjectMetadata(name: name, namespace: "", labels: labels))
    }

    public var name: String { metadata.name }
    public var labels: [String: String] { metadata.labels }
}

/// The networks cluster IPs are assigned from.
public struct ServiceCIDR: Hashable, Sendable {
    public var metadata: ObjectMetadata
    public var cidrs: [IPPrefix]

    public init(metadata: ObjectMetadata, cidrs: [IPPrefix]) {
        self.metadata = metadata
        self.cidrs = cidrs
    }
}

// MARK: - Reading

extension Node {
    init(reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        let spec = try root["spec"]
        self.init(metadata: metadata, podCIDRs: try spec["podCIDRs"].readUsable())
        if podCIDRs.isEmpty, try spec["podCIDRs"].elements().isEmpty {
            let field = try spec["podCIDR"]
            podCIDRs = field.value == "" ? [] : try field.readIfPresent().map { [$0] } ?? []
        }
        // API servers took host bits, and everybody who reads them drops them.
        podCIDRs = podCIDRs.map(\.network)
        for element in try root["status"]["addresses"].elements() {
            element.noting { () throws(FieldError) in
                if try element["type"].read(as: String.self) == "InternalIP" {
                    internalIPs.append(try element["address"].read())
                }
            }
        }
        for element in try spec["taints"].elements() {
            element.noting { () throws(FieldError) in
                taints.append(
                    Taint(
                        key: try element["key"].read(), value: try element["value"].readIfPresent() ?? "",
                        effect: try element["effect"].read()))
            }
        }
    }
}

extension ServiceCIDR {
    init(reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        self.init(metadata: metadata, cidrs: try root["spec"]["cidrs"].readUsable())
    }
}
