public import NetworkAddresses
public import Nftables

/// What a base chain does with a packet, and which rules had a part in it.
public struct Evaluation: Hashable, Sendable {
    public enum Outcome: Hashable, Sendable {
        /// The packet goes on; a later chain may still drop it.
        case accept
        case drop
        /// The packet is dropped and its sender told.
        case reject
        /// It depends on something that is not known here, in these words.
        case unknown(String)
    }

    /// How the chain rewrote the connection.
    public enum Translation: Hashable, Sendable {
        case destination(IPAddress, Port?)
        /// The source becomes that of the outgoing interface; its port stays if it can, unless it is drawn at random.
        case masquerade(fullyRandom: Bool)
    }

    /// A number that a rule drew: one of several equally likely ones.
    public struct Draw: Hashable, Sendable {
        public var number: UInt32
        public var below: UInt32
    }

    public var outcome: Outcome
    public var translation: Translation?
    /// Marks as the rules left them; addresses are changed only by `HookTraversal`, as only the kernel's NAT does.
    public var packet: Packet
    public var connection: Connection?
    /// The rules that matched, in order.
    public var hits: [RuleHit]
    public var draws: [Draw]
    /// Whether the last hit decided; otherwise the end of the chain was reached and its policy did.
    public var wasDecidedByRule: Bool

    /// The rule that decided, where one did.
    public var deciding: RuleHit? { wasDecidedByRule ? hits.last : nil }
}

/// A rule that matched.
public struct RuleHit: Hashable, Sendable {
    public var table: TableName
    public var chain: String
    /// The rule's place in its chain, from 0.
    public var position: Int
    public var rule: Rule
    /// The set members that its lookups found.
    public var elements: [ElementHit]

    public struct ElementHit: Hashable, Sendable {
        public var set: String
        public var element: Element
    }

    /// nft's way to name it: `inet fairlead-policy forward handle 12`.
    public var location: String {
        "\(table) \(chain) " + (rule.handle.map { "handle \($0)" } ?? "rule \(position + 1)")
    }
}
