public import NetworkAddresses

/// A service: addresses and ports that stand for a changing set of pods.
public struct Service: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        case clusterIP, nodePort, loadBalancer, externalName
    }

    /// Which endpoints traffic may go to: any, or only those on the node it is at.
    public enum TrafficPolicy: Hashable, Sendable {
        case cluster, local
    }

    public enum SessionAffinity: Hashable, Sendable {
        case none
        /// Connections of one client go to the same endpoint until it was silent for that long.
        case clientIP(timeoutSeconds: Int)
    }

    public enum FamilyPolicy: Hashable, Sendable {
        case singleStack, preferDualStack, requireDualStack
    }

    public var metadata: ObjectMetadata
    public var type: Kind
    /// At most one of each family; empty while none is assigned and for headless services.
    public var clusterIPs: [IPAddress]
    /// Whether `clusterIP: None` was asked for: names resolve to the pods, and there is nothing to program.
    public var isHeadless: Bool
    public var families: [AddressFamily]
    public var familyPolicy: FamilyPolicy?
    public var ports: [ServicePort]
    /// The labels of the pods behind it; empty where endpoints are written by hand.
    public var selector: [String: String]
    public var externalIPs: [IPAddress]
    public var externalTrafficPolicy: TrafficPolicy
    public var internalTrafficPolicy: TrafficPolicy
    public var sessionAffinity: SessionAffinity
    public var ingress: [LoadBalancerIngress]
    /// Who may reach the load balancer's addresses; nil for everyone, empty for no one.
    ///
    /// Ranges that cannot be read are left out, so an empty list is not the same as none.
    public var sourceRanges: [IPPrefix]?
    public var healthCheckNodePort: Port?
    /// Whether pods that are not ready take traffic nevertheless.
    public var publishesNotReadyAddresses: Bool

    public init(
        metadata: ObjectMetadata,
        type: Kind = .clusterIP,
        clusterIPs: [IPAddress] = [],
        isHeadless: Bool = false,
        families: [AddressFamily] = [],
        familyPolicy: FamilyPolicy? = nil,
        ports: [ServicePort] = [],
        selector: [String: String] = [:],
        externalIPs: [IPAddress] = [],
        externalTrafficPolicy: TrafficPolicy = .cluster,
        internalTrafficPolicy: TrafficPolicy = .cluster,
        sessionAffinity: SessionAffinity = .none,
        ingress: [LoadBalancerIngress] = [],
        sourceRanges: [IPPrefix]? = nil,
        healthCheckNodePort: Port? = nil,
        publishesNotReadyAddresses: Bool = false
    ) {
        self.metadata = metadata
        self.type = type
        self.clusterIPs = clusterIPs
        self.isHeadless = isHeadless
        self.families = families
        self.familyPolicy = familyPolicy
        self.ports = ports
        self.selector = selector
        self.externalIPs = externalIPs
        self.externalTrafficPolicy = externalTrafficPolicy
        self.internalTrafficPolicy = internalTrafficPolicy
        self.sessionAffinity = sessionAffinity
        self.ingress = ingress
        self.sourceRanges = sourceRanges
        self.healthCheckNodePort = healthCheckNodePort
        self.publishesNotReadyAddresses = publishesNotReadyAddresses
    }

    public var key: NamespacedName { metadata.key }

    public func clusterIP(of family: AddressFamily) -> IPAddress? { clusterIPs.first { $0.family == family } }

    /// The label that gives a service to another service proxy.
    public static let proxyNameLabel = "service.kubernetes.io/service-proxy-name"

    /// The other service proxy that looks after this service, where there is one.
    public var proxyName: String? { metadata.labels[Self.proxyNameLabel] }

    /// Whether service proxies such as ours have anything to program for it.
    public var isProxied: Bool { type != .externalName && !isHeadless && !clusterIPs.isEmpty && proxyName == nil }
}

/// One port of a service.
public struct ServicePort: Hashable, Sendable {
    /// Empty where the service has only one port and did not name it.
    public var name: String
    public var `protocol`: TransportProtocol
    public var number: Port
    public var target: TargetPort
    public var nodePort: Port?

    public init(
        name: String = "",
        protocol: TransportProtocol = .tcp,
        number: Port,
        target: TargetPort? = nil,
        nodePort: Port? = nil
    ) {
        self.name = name
        self.protocol = `protocol`
        self.number = number
        self.target = target ?? .number(number)
        self.nodePort = nodePort
    }
}

/// The pod's port behind a service's port: a number, or the name of a container port, which may differ from pod to pod.
public enum TargetPort: Hashable, Sendable {
    case number(Port)
    case name(String)
}

/// An address a load balancer has for a service.
public struct LoadBalancerIngress: Hashable, Sendable {
    public enum Mode: Hashable, Sendable {
        /// Traffic arrives with this destination address, and nodes may take the short way.
        case virtualIP
        /// The load balancer sets its own destination; nodes must let traffic go to it.
        case proxy
    }

    public var address: IPAddress
    public var mode: Mode

    public init(address: IPAddress, mode: Mode = .virtualIP) {
        self.address = address
        self.mode = mode
    }
}
