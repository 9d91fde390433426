internal import KubernetesObjects
public import NetworkAddresses
public import Nftables

/// What of the node the policy table depends on.
public struct PolicyNode: Hashable, Sendable {
    public var name: String
    /// Where this node's pods have their addresses.
    ///
    /// One of those that no known pod has is closed.
    public var podCIDRs: [IPPrefix]

    public init(name: String, podCIDRs: [IPPrefix] = []) {
        self.name = name
        self.podCIDRs = podCIDRs
    }

    func covers(_ address: IPAddress) -> Bool { podCIDRs.contains { $0.contains(address) } }
}

/// Where records of denied packets go.
public struct DenialLog: Hashable, Sendable {
    /// The netlink group that listeners join (`NFLOG`).
    public var group: UInt16
    /// Records a second and profile, after a burst.
    public var rate: UInt64
    public var burst: UInt32

    public init(group: UInt16 = 5, rate: UInt64 = 10, burst: UInt32 = 20) {
        self.group = group
        self.rate = rate
        self.burst = burst
    }
}

/// The shape of the table `inet fairlead-policy`, whatever the policies are.
///
/// Two maps lead a local pod's address to its *profile*, the chain of all that its policies allow it: `egress` by who
/// opened the connection, `ingress` by who answers it. Both are asked of conntrack's tuples, so the decision is the
/// same for both directions of a connection, and NAT does not touch it. All pod selectors of all policies are numbers
/// in one set, `members`: a pod that comes or goes is one element for each group it is in.
public enum PolicyTable {
    public static let name = TableName(.inet, "fairlead-policy")

    static func egress(_ family: AddressFamily) -> String { "egress\(family.digit)" }
    static func ingress(_ family: AddressFamily) -> String { "ingress\(family.digit)" }
    static func localPods(_ family: AddressFamily) -> String { "local-pods\(family.digit)" }
    static func members(_ family: AddressFamily) -> String { "members\(family.digit)" }
    static func hairpin(_ family: AddressFamily) -> String { "hairpin\(family.digit)" }

    static let forward = "forward"
    static let evaluate = "evaluate"
    static let unconnected = "unconnected"
    /// The profile of a pod that policies may be about, but of which only the address is known yet.
    static let closed = "closed"

    /// The table without any pod or policy.
    public static func frame(on node: PolicyNode, epoch: PolicyEpoch) -> Ruleset {
        var table = Ruleset(name)
        for family in AddressFamily.allCases {
            let address = KeyType.address(family)
            table.sets[egress(family)] = NamedSet(.init(key: [address], data: .verdict))
            table.sets[ingress(family)] = NamedSet(.init(key: [address], data: .verdict))
            table.sets[localPods(family)] = NamedSet(.init(key: [address]))
            table.sets[members(family)] = NamedSet(.init(key: [.number, address]))
            table.sets[hairpin(family)] = NamedSet(.init(key: [address, address]))
        }
        table.chains[closed] = Chain([Rule(.counter, .drop, comment: "closed:pod not known yet")])
        table.chains[unconnected] = unconnectedChain
        for (name, chain) in chains(on: node) { table.chains[name] = chain }
        for (name, chain) in chains(of: epoch) { table.chains[name] = chain }
        return table
    }

    /// The chain that holds the epoch, by name: replaced to swap it.
    public static func chains(of epoch: PolicyEpoch) -> [String: Chain] {
        // What an ICMP error tells is about a connection that was let through once, but it has that connection's ports
        // without its protocol, so that a rule for TCP would not know it.
        let errors = [(1, "icmp"), (58, "icmpv6")].map { number, name in
            Rule(
                .match(.conntrackState, .states(.related)), .match(.transportProtocol, .protocolNumber(UInt8(number))),
                .accept, comment: "related:\(name) error about a connection")
        }
        let rules =
            [
                Rule(
                    .match(.conntrackState, .states([.established, .related])),
                    .match(.conntrackMark, .mark(epoch.mark)), .accept, comment: "judged:by the policies in force")
            ] + errors + [
                // What is dropped is left without an epoch: a connection that is denied and goes on trying would
                // otherwise carry its old one until that number comes round again.
                Rule(.setConntrackMark(MaskedMark(0, mask: epoch.mask))),
                Rule(.verdict(.jump(evaluate))), Rule(.setConntrackMark(epoch.mark)),
            ]
        // After DNAT and before SNAT, and after what others filter at the usual priority.
        return [forward: Chain(hook: Hook(.filter, .forward, priority: 10), rules)]
    }

    /// The chains whose rules name the node's networks, by name; made anew when those change.
    public static func chains(on node: PolicyNode) -> [String: Chain] {
        let gate = node.podCIDRs.sorted().flatMap { cidr in
            [Field.source(cidr.family), .destination(cidr.family)].map { field in
                Rule(
                    .match(field, .prefix(cidr)), .lookup([field], set: localPods(cidr.family), negated: true),
                    .counter, .drop, comment: "closed:unknown local address")
            }
        }
        let families = AddressFamily.allCases
        return [
            evaluate: Chain(
                gate
                    + [Rule(.match(.conntrackState, .states([.invalid, .untracked])), .verdict(.goto(unconnected)))]
                    + families.map { family in
                        // Two registers cannot be compared, so each isolated pod is in a set beside itself.
                        Rule(
                            .lookup([.originalSource(family), .replySource(family)], set: hairpin(family)), .return,
                            comment: "self:a pod that reached itself through a service")
                    }
                    + families.map { Rule(.dispatch([.originalSource($0)], map: egress($0))) }
                    + families.map { Rule(.dispatch([.replySource($0)], map: ingress($0))) })
        ]
    }

    /// Packets that belong to no connection.
    ///
    /// Invalid ones are not let near pods: a service's answer that conntrack does not know would leave with the pod's
    /// address on it. Those that were taken from tracking are judged by their headers; rules that look at the
    /// connection do not match, so only a pod that may do everything passes.
    private static var unconnectedChain: Chain {
        let families = AddressFamily.allCases
        let invalid = families.flatMap { family in
            [Field.source(family), .destination(family)].map { field in
                Rule(
                    .match(.conntrackState, .states(.invalid)), .lookup([field], set: localPods(family)), .counter,
                    .drop, comment: "invalid:part of no connection")
            }
        }
        // conntrack leaves neighbour discovery and multicast listeners alone, and so do policies.
        let discovery = Rule(
            .match(.conntrackState, .states(.untracked)), .match(.transportProtocol, .protocolNumber(58)), .return,
            comment: "untracked:neighbour discovery")
        return Chain(
            invalid + [discovery] + families.map { Rule(.dispatch([.source($0)], map: egress($0))) }
                + families.map { Rule(.dispatch([.destination($0)], map: ingress($0))) })
    }
}

extension AddressFamily {
    fileprivate var digit: Int { self == .ipv4 ? 4 : 6 }
}

/// A text of at most 127 bytes, the longest that comments and log prefixes may be: where the two are longer, the first
/// is cut and ends in `~`.
func fitted(_ text: String, before end: String = "") -> String {
    let room = longestComment - end.utf8.count
    guard text.utf8.count > room else { return text + end }
    return String(decoding: text.utf8.prefix(room - 1), as: UTF8.self) + "~" + end
}
