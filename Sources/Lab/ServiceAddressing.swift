public import KubernetesObjects
public import NetworkAddresses

/// A service that has all that an API server would have given it.
public struct AddressedService: Hashable, Sendable {
    public var service: Service
    /// The same as a manifest, with all that was written of it.
    public var tree: FieldValue

    public var key: NamespacedName { service.key }
}

/// Gives services their cluster IPs and node ports, as an API server does when they are created.
///
/// What was asked for is given if it is free. What a service had, it keeps. The rest follows from the service's name,
/// so that a lab that is built again has the same addresses.
public struct ServiceAddressing: Sendable {
    /// The ranges of a cluster that was set up by kubeadm.
    public static let defaultCIDRs = ["10.96.0.0/16", "fd00:10:96::/112"].compactMap(IPPrefix.init)
    public static let nodePorts: ClosedRange<UInt16> = 30000...32767

    public private(set) var services: [AddressedService] = []
    public private(set) var notes: [Note] = []

    private let cidrs: [IPPrefix]
    private let previous: [NamespacedName: Service]
    private var addresses: [IPAddress: NamespacedName] = [:]
    private var ports: [NodePort: NamespacedName] = [:]

    private struct NodePort: Hashable {
        var number: Port
        var `protocol`: TransportProtocol
    }

    /// - Parameters:
    ///   - wanted: All services there are to be, with their manifests.
    ///   - previous: The services as they were addressed last time.
    public init(
        _ wanted: [(service: Service, tree: FieldValue)],
        previous: [NamespacedName: Service] = [:],
        serviceCIDRs: [IPPrefix] = defaultCIDRs
    ) {
        // One range of each family, as a cluster has.
        cidrs = AddressFamily.allCases.compactMap { family in serviceCIDRs.first { $0.family == family } }
        self.previous = previous
        var addressed = wanted.sorted { $0.service.key < $1.service.key }
            .map { AddressedService(service: $0.service, tree: $0.tree) }
        // In this order nobody is given by chance what another asked for, or has had.
        for index in addressed.indices { claimWritten(&addressed[index].service) }
        for index in addressed.indices { keepPrevious(&addressed[index].service) }
        for index in addressed.indices { assign(&addressed[index].service) }
        for index in addressed.indices { addressed[index].write() }
        services = addressed
    }

    private mutating func note(_ service: Service, _ field: String, _ message: String) {
        notes.append(Note(object: ObjectReference(.service, service.key), field: field, message: message))
    }

    // MARK: What is written

    private mutating func claimWritten(_ service: inout Service) {
        let key = service.key
        let families = families(of: service)
        for address in service.clusterIPs {
            if !cidrs.contains(where: { $0.contains(address) && isAssignable(address, in: $0) }) {
                let ranges = cidrs.map(\.description).joined(separator: " and ")
                note(service, "spec.clusterIPs", "\(address) is not in \(ranges); it is not used")
            } else if !families.contains(address.family) {
                note(service, "spec.clusterIPs", "\(address) is of a family that ipFamilies leaves out; it is not used")
            } else if let owner = addresses[address] {
                note(service, "spec.clusterIPs", "\(address) belongs to Service \(owner); it is not used")
            } else {
                addresses[address] = key
                continue
            }
            service.clusterIPs.removeAll { $0 == address }
        }
        for index in service.ports.indices {
            guard let number = service.ports[index].nodePort else { continue }
            let port = NodePort(number: number, protocol: service.ports[index].protocol)
            let field = "spec.ports[\(index)].nodePort"
            if !service.hasNodePorts {
                note(service, field, "\(number) is of no use: the type is neither NodePort nor LoadBalancer")
            } else if !Self.nodePorts.contains(number.rawValue) {
                let range = "\(Self.nodePorts.lowerBound) to \(Self.nodePorts.upperBound)"
                note(service, field, "\(number) is not within \(range); it is not used")
            } else if let owner = ports[port] {
                note(service, field, "\(number)/\(port.protocol) belongs to Service \(owner); it is not used")
            } else {
                ports[port] = key
                continue
            }
            service.ports[index].nodePort = nil
        }
        if let number = service.healthCheckNodePort { ports[NodePort(number: number, protocol: .tcp)] = key }
    }

    /// The families a service is to have, the first being its main one; both where it does not say.
    private func families(of service: Service) -> [AddressFamily] {
        var families = (service.families.isEmpty ? service.clusterIPs.map(\.family) : service.families)
        for cidr in cidrs where !families.contains(cidr.family) { families.append(cidr.family) }
        families.removeAll { family in !cidrs.contains { $0.family == family } }
        let count: Int =
            switch service.familyPolicy {
            case .singleStack: 1
            case .preferDualStack, .requireDualStack: 2
            // As the API server: naming families is asking for exactly those.
            case nil: service.families.isEmpty ? 2 : service.families.count
            }
        return Array(families.prefix(count))
    }

    // MARK: What was there before

    private mutating func keepPrevious(_ service: inout Service) {
        guard let before = previous[service.key] else { return }
        if service.takesClusterIPs {
            for family in families(of: service) where service.clusterIP(of: family) == nil {
                guard let address = before.clusterIP(of: family), addresses[address] == nil,
                    cidrs.contains(where: { $0.contains(address) })
                else { continue }
                addresses[address] = service.key
                service.clusterIPs.append(address)
            }
        }
        guard service.hasNodePorts else { return }
        for index in service.ports.indices where service.ports[index].nodePort == nil {
            let port = service.ports[index]
            let old = before.ports.first { $0.number == port.number && $0.protocol == port.protocol }?.nodePort
            guard let old, ports[NodePort(number: old, protocol: port.protocol)] == nil else { continue }
            ports[NodePort(number: old, protocol: port.protocol)] = service.key
            service.ports[index].nodePort = old
        }
        if service.takesHealthCheckPort, service.healthCheckNodePort == nil, let old = before.healthCheckNodePort,
            ports[NodePort(number: old, protocol: .tcp)] == nil
        {
            ports[NodePort(number: old, protocol: .tcp)] = service.key
            service.healthCheckNodePort = old
        }
    }

    // MARK: What is new

    private mutating func assign(_ service: inout Service) {
        if service.takesClusterIPs {
            let families = families(of: service)
            if service.familyPolicy == .requireDualStack, families.count < 2 {
                note(
                    service, "spec.ipFamilyPolicy",
                    "RequireDualStack, but there are service networks of one family only")
            }
            for family in families where service.clusterIP(of: family) == nil { assignClusterIP(family, &service) }
            service.families = families
            service.clusterIPs.sort { left, right in
                families.firstIndex(of: left.family) ?? 0 < families.firstIndex(of: right.family) ?? 0
            }
        }
        guard service.hasNodePorts else { return }
        for index in service.ports.indices where service.ports[index].nodePort == nil {
            let port = service.ports[index]
            service.ports[index].nodePort = freePort(port.protocol, for: service, "\(port.number)")
        }
        if service.takesHealthCheckPort, service.healthCheckNodePort == nil {
            service.healthCheckNodePort = freePort(.tcp, for: service, "health")
        }
    }

    private mutating func assignClusterIP(_ family: AddressFamily, _ service: inout Service) {
        guard let cidr = cidrs.first(where: { $0.family == family }) else { return }
        let size = cidr.last.number - cidr.first.number
        // As the API server does it, the first addresses are left to those who write them down.
        let band = min(max(size / 16, 16), 256)
        let count = size > band ? size - band : 0
        // The same step for both families: 10.96.4.210 goes with fd00:10:96::4d2.
        let start = UInt128(StableHash(service.metadata.namespace, service.metadata.name).value >> 16)
        for step in 0..<min(count, 1 << 20) {
            guard let address = cidr.first.advanced(by: band + (start + step) % count), addresses[address] == nil else {
                continue
            }
            addresses[address] = service.key
            service.clusterIPs.append(address)
            return
        }
        note(service, "spec.clusterIPs", "\(cidr) has no free address; the service has no \(family) address")
    }

    /// Whether an address can be a service's at all: not the first of the range, nor IPv4's broadcast address.
    private func isAssignable(_ address: IPAddress, in cidr: IPPrefix) -> Bool {
        address != cidr.first && (address.family == .ipv6 || address != cidr.last)
    }

    private mutating func freePort(_ protocol: TransportProtocol, for service: Service, _ purpose: String) -> Port? {
        let count = UInt64(Self.nodePorts.count)
        let start = StableHash(service.metadata.namespace, service.metadata.name, purpose).value >> 16
        for step in 0..<count {
            guard let number = Port(Int(UInt64(Self.nodePorts.lowerBound) + (start + step) % count)),
                ports[NodePort(number: number, protocol: `protocol`)] == nil
            else { continue }
            ports[NodePort(number: number, protocol: `protocol`)] = service.key
            return number
        }
        note(service, "spec.ports", "no node port is free")
        return nil
    }
}

extension Service {
    fileprivate var takesClusterIPs: Bool { type != .externalName && !isHeadless }
    fileprivate var hasNodePorts: Bool { type == .nodePort || type == .loadBalancer }
    fileprivate var takesHealthCheckPort: Bool { type == .loadBalancer && externalTrafficPolicy == .local }
}

extension AddressedService {
    /// Puts what was given into the manifest.
    fileprivate mutating func write() {
        guard service.takesClusterIPs else { return }
        var spec = tree["spec"] ?? [:]
        let texts = service.clusterIPs.map { FieldValue.string($0.description) }
        spec["clusterIP"] = texts.first
        spec["clusterIPs"] = texts.isEmpty ? nil : .array(texts)
        spec["ipFamilies"] = .array(service.families.map { .string($0.description) })
        spec["ipFamilyPolicy"] = .string(familyPolicyText)
        spec["healthCheckNodePort"] = service.healthCheckNodePort.map { .integer(Int($0.rawValue)) }
        if let ports = spec["ports"]?.array { spec["ports"] = .array(ports.map(withNodePort)) }
        tree["spec"] = spec
    }

    private var familyPolicyText: String {
        switch service.familyPolicy {
        case .singleStack: "SingleStack"
        case .preferDualStack: "PreferDualStack"
        case .requireDualStack: "RequireDualStack"
        case nil: service.families.count > 1 ? "PreferDualStack" : "SingleStack"
        }
    }

    private func withNodePort(_ tree: FieldValue) -> FieldValue {
        let port = service.ports.first { port in
            tree["port"] == .integer(Int(port.number.rawValue))
                && (tree["protocol"]?.string ?? "TCP").lowercased() == port.protocol.description
        }
        guard let port else { return tree }
        var tree = tree
        tree["nodePort"] = port.nodePort.map { .integer(Int($0.rawValue)) }
        return tree
    }
}
