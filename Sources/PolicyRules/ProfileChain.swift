internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// A profile as a chain of the kernel's, with the sets its rules look into.
///
/// Continuation style: what is allowed returns to the caller, and the end of the chain is the end of the packet. A
/// later tier of policies can so be led to from the end instead, without a mark on the packet.
struct ProfileChain: Sendable {
    /// The chain's content as a text, which it is named by.
    let text: String
    let chain: Chain
    let sets: [String: NamedSet]
    private let direction: NetworkPolicy.Direction
    private let firstPolicy: NamespacedName

    /// - Parameter number: the number of a group, or of those of its members that expose its port under that number.
    /// - Parameter exposures: the numbers under which members of a group expose its port.
    /// - Parameter setNumber: the number in the name of the set that holds these addresses.
    init(
        _ profile: Profile, log: DenialLog, number: (PeerGroup, Port?) -> UInt32, exposures: (PeerGroup) -> [Port],
        setNumber: (AddressRanges) -> UInt32
    ) {
        direction = profile.source.direction
        firstPolicy = profile.policies[0]
        var writer = RuleWriter(profile.source)
        for rule in profile.rules {
            let (block, group) = (rule.allowance.block, rule.allowance.group)
            let blockSet = block.flatMap { $0.prefix == nil ? setNumber($0) : nil }
            if let group, rule.allowance.ports == .exposed, let transport = group.port?.protocol {
                for port in exposures(group) {
                    writer.add(
                        block, blockSet, number(group, port), .range(transport, port...port), origin: rule.origin)
                }
            } else {
                writer.add(block, blockSet, group.map { number($0, nil) }, rule.allowance.ports, origin: rule.origin)
            }
        }
        let names = profile.policies.map(\.description).joined(separator: ",")
        let prefix = fitted("D|\(direction.word)|\(firstPolicy)")
        // Two rules, because a limit that is used up must end the record and not the drop.
        let denial = [
            Rule(.limit(rate: log.rate, burst: log.burst), .log(prefix: prefix, group: log.group)),
            Rule(.counter, .drop, comment: "deny:\(direction.word):\(names)"),
        ]
        text = writer.text + "\n\(log.group) \(log.rate) \(log.burst) \(names)"
        chain = Chain(writer.rules + denial)
        sets = writer.sets
    }

    /// `in-0a1b2c3d-shop/allow-web`, of letters that nft takes for a name, and no longer than the kernel does.
    func name(number: UInt32) -> String {
        String(decoding: "\(direction.word)-\(hexadecimal(number))-\(firstPolicy)".utf8.prefix(128), as: UTF8.self)
    }
}

/// Writes allowances down as rules, once for each family they can match.
private struct RuleWriter {
    private let source: ProfileSource
    private(set) var rules: [Rule] = []
    private(set) var sets: [String: NamedSet] = [:]
    private(set) var text: String

    init(_ source: ProfileSource) {
        self.source = source
        text = "\(source.direction.word) \(source.families)"
    }

    mutating func add(
        _ block: AddressRanges?, _ setNumber: UInt32?, _ group: UInt32?, _ ports: PortMatch, origin: String
    ) {
        let place = [block?.text, setNumber.map(hexadecimal), group.map(hexadecimal)].map { $0 ?? "-" }
        text += "\n\(place.joined(separator: " ")) \(ports.text) \(origin)"
        let conditions = ports.conditions
        let families: [AddressFamily?] =
            if let block { [block.family] } else if group != nil { source.families } else { [nil] }
        for family in families {
            var statements = conditions
            if let family {
                guard source.families.contains(family) else { continue }
                let peer: Field = source.direction == .ingress ? .originalSource(family) : .replySource(family)
                if let block { statements.append(condition(peer, block, setNumber)) }
                if let group { statements.append(.lookup([.constant(group), peer], set: PolicyTable.members(family))) }
            }
            rules.append(Rule(statements + [.return], comment: origin))
        }
    }

    private mutating func condition(_ peer: Field, _ block: AddressRanges, _ setNumber: UInt32?) -> Statement {
        guard let setNumber else {
            // Every address of a family is no comparison that nft would read back.
            guard let prefix = block.prefix, prefix.length > 0 else {
                return .match(.networkProtocol, .family(block.family))
            }
            return .match(peer, .prefix(prefix))
        }
        let name = "cidr\(block.family == .ipv4 ? 4 : 6)-\(hexadecimal(setNumber))"
        sets[name] = block.namedSet
        return .lookup([peer], set: name)
    }
}

extension PortMatch {
    fileprivate var conditions: [Statement] {
        switch self {
        case .any: []
        case .all(let transport): [.match(.transportProtocol, .transport(transport))]
        case .range(let transport, let range):
            [
                .match(.transportProtocol, .transport(transport)),
                .match(
                    .replySourcePort, range.lowerBound == range.upperBound ? .port(range.lowerBound) : .ports(range)),
            ]
        case .named, .exposed: preconditionFailure("a port's name is a number before it comes to rules")
        }
    }

    fileprivate var text: String {
        switch self {
        case .any: "any"
        case .all(let transport): "\(transport)"
        case .range(let transport, let range): "\(transport):\(range.lowerBound)-\(range.upperBound)"
        case .named, .exposed: preconditionFailure("a port's name is a number before it comes to rules")
        }
    }
}

/// Eight digits.
private func hexadecimal(_ number: UInt32) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
}
