public import NetworkAddresses

/// What connections the pods it selects may have.
///
/// Policies only ever add up: a pod selected by any policy of a direction is isolated in it, and may then have what
/// some rule of some policy allows.
public struct NetworkPolicy: Hashable, Sendable {
    public enum Direction: Hashable, Sendable, CaseIterable {
        case ingress, egress
    }

    public var metadata: ObjectMetadata
    /// The pods it is about, of its own namespace.
    public var podSelector: LabelSelector
    /// The directions in which those pods are isolated. Rules of another direction have no effect.
    public var directions: Set<Direction>
    /// In the order they were written, and as many: a rule that cannot be read stays in place and matches nothing.
    public var ingress: [PolicyRule]
    public var egress: [PolicyRule]

    public init(
        metadata: ObjectMetadata,
        podSelector: LabelSelector = .everything,
        directions: Set<Direction>? = nil,
        ingress: [PolicyRule] = [],
        egress: [PolicyRule] = []
    ) {
        self.metadata = metadata
        self.podSelector = podSelector
        self.directions = directions ?? (egress.isEmpty ? [.ingress] : [.ingress, .egress])
        self.ingress = ingress
        self.egress = egress
    }

    public var key: NamespacedName { metadata.key }

    public func rules(_ direction: Direction) -> [PolicyRule] { direction == .ingress ? ingress : egress }
}

/// A rule: allows connections whose peer *and* port it names.
public struct PolicyRule: Hashable, Sendable {
    public var peers: PolicyChoice<PolicyPeer>
    public var ports: PolicyChoice<PolicyPort>

    public init(peers: PolicyChoice<PolicyPeer> = .any, ports: PolicyChoice<PolicyPort> = .any) {
        self.peers = peers
        self.ports = ports
    }

    /// What stands for a rule that cannot be understood: it allows nothing.
    public static let nothing = PolicyRule(peers: .only([]), ports: .only([]))
}

/// A list of a rule: anything where the list is missing or empty, otherwise any of its items.
///
/// The two are kept apart because `only([])`, the list of which no item could be read, matches nothing.
public enum PolicyChoice<Item: Hashable & Sendable>: Hashable, Sendable {
    case any
    case only([Item])
}

/// Who is at the other end.
public enum PolicyPeer: Hashable, Sendable {
    case pods(LabelSelector, in: PolicyNamespaces)
    case block(IPBlock)
}

/// The namespaces a peer's pods are in.
public enum PolicyNamespaces: Hashable, Sendable {
    /// That of the policy.
    case own
    case matching(LabelSelector)
}

/// The addresses of a network without those of some networks in it.
public struct IPBlock: Hashable, Sendable {
    public var cidr: IPPrefix
    /// Subtracted from this block only: another peer may allow them again.
    public var except: [IPPrefix]

    public init(cidr: IPPrefix, except: [IPPrefix] = []) {
        self.cidr = cidr
        self.except = except
    }
}

/// Ports of one protocol, at the pod that is connected to.
public struct PolicyPort: Hashable, Sendable {
    public enum Match: Hashable, Sendable {
        case any
        case range(ClosedRange<Port>)
        /// The container port of that name and of the protocol, whatever number each pod has for it.
        case named(String)
    }

    public var `protocol`: TransportProtocol
    public var match: Match

    public init(protocol: TransportProtocol = .tcp, _ match: Match = .any) {
        self.protocol = `protocol`
        self.match = match
    }
}
