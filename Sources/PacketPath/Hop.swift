public import KubernetesObjects
public import Nftables

/// One step of a packet's way, and how we know.
public struct Hop: Hashable, Sendable {
    public enum Stage: String, Hashable, Sendable {
        case route, veth, service, policy, firewall, masquerade, encap, underlay, decap, listener, rules
    }

    public enum Status: String, Hashable, Sendable {
        case ok, denied, broken, warning, unknown
    }

    public var place: Place
    public var stage: Stage
    public var status: Status
    /// What happened, names before numbers.
    public var text: String
    /// The objects that had a part in it.
    public var owners: [Owner]
    public var evidence: Evidence
    /// The packet as it came to this step, and as it left where the step changed it.
    public var packet: Packet
    public var packetAfter: Packet?
    /// The tunnel's packet around it.
    public var outer: Packet?
    /// The hook that was passed, for steps of rules.
    public var hook: Hook?
}

/// An object behind a step.
public struct Owner: Hashable, Sendable {
    public enum Role: String, Hashable, Sendable {
        /// The service that was asked for, or the endpoint that was chosen.
        case selects, chosen
        /// The policy that admits, or one of those that isolate.
        case admits, isolates
    }

    public var object: ObjectReference
    public var role: Role
    /// `ingress[0].from[1]`.
    public var rulePath: String?

    public init(_ object: ObjectReference, _ role: Role, rulePath: String? = nil) {
        self.object = object
        self.role = role
        self.rulePath = rulePath
    }
}

/// Where a statement comes from; a guess is never printed as a fact.
public struct Evidence: Hashable, Sendable {
    public enum Source: String, Hashable, Sendable {
        /// The kernel was asked this very question and answered it.
        case kernelLookup = "kernel-lookup"
        /// Our own reckoning over what the kernel holds.
        case computed
        /// The cluster's objects.
        case cluster
        /// Seen to happen.
        case observed
        /// Not looked at: the network between nodes, for example.
        case assumed
    }

    public var source: Source
    /// The rule, where one decided.
    public var table: TableName?
    public var chain: String?
    public var handle: UInt64?
    /// The ruleset's number when it was read.
    public var generation: UInt32?
    /// What the rule is, in nft's words or as instructions.
    public var rule: String?

    public init(_ source: Source) { self.source = source }

    /// A rule's doing: run here, over what the kernel holds.
    init(_ hit: RuleHit?, table: TableName, chain: String, generation: UInt32?) {
        source = .computed
        self.table = table
        self.chain = hit?.chain ?? chain
        handle = hit?.rule.handle
        self.generation = generation
        rule = hit?.rule.text
    }

    /// `inet fairlead-policy in-web#31`.
    var location: String? {
        guard let table, let chain else { return nil }
        return "\(table) \(chain)" + (handle.map { "#\($0)" } ?? "")
    }
}
