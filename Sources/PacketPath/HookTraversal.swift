internal import NetworkAddresses
public import Nftables

/// All tables of a machine at one hook: every base chain in the kernel's order, and what NAT does between them.
public struct HookTraversal {
    private let rulesets: [Ruleset]
    private let environment: any RulesetEnvironment

    /// - Parameter rulesets: In the order in which the kernel lists the tables.
    public init(_ rulesets: [Ruleset], in environment: any RulesetEnvironment) {
        self.rulesets = rulesets
        self.environment = environment
    }

    /// What one base chain did.
    public struct Passage: Hashable, Sendable {
        public var table: TableName
        public var chain: String
        public var hook: Hook
        public var evaluation: Evaluation
    }

    /// Where a packet stands after a hook.
    public struct Result: Hashable, Sendable {
        /// Accept, or what the last of the passages did.
        public var outcome: Evaluation.Outcome
        /// With rewritten addresses where NAT rewrote them.
        public var packet: Packet
        public var connection: Connection
        public var passages: [Passage]
    }

    /// Takes the packet through the hook: one result for each combination of random choices on the way.
    ///
    /// - Parameter connection: What conntrack has, or will make when the packet passes it.
    public func traverse(_ point: Hook.Point, _ packet: Packet, _ connection: Connection) -> [Result] {
        var open = [Result(outcome: .accept, packet: packet, connection: connection, passages: [])]
        var closed: [Result] = []
        for stage in stages(at: point, packet) {
            var next: [Result] = []
            for result in open {
                for after in pass(stage, at: point, result) {
                    if after.outcome == .accept { next.append(after) } else { closed.append(after) }
                }
            }
            open = next
        }
        return open + closed
    }

    // MARK: - The kernel's order

    /// What runs at a hook: chains, and among them NAT, which runs chains of its own.
    private enum Stage {
        case chain(BaseChain)
        case translation([BaseChain])
    }

    private struct BaseChain {
        var ruleset: Ruleset
        var name: String
        var hook: Hook
    }

    /// `NF_IP_PRI_CONNTRACK`: before it a packet has no connection.
    private static let conntrackPriority: Int32 = -200

    private func stages(at point: Hook.Point, _ packet: Packet) -> [Stage] {
        let family: TableFamily = packet.family == .ipv4 ? .ip : .ip6
        // Among equal priorities the chain that was registered last runs first.
        let chains = rulesets.reversed().filter { $0.table.family == .inet || $0.table.family == family }
            .flatMap { ruleset in
                ruleset.chains.sorted { $0.key < $1.key }.compactMap { name, chain in
                    chain.hook.flatMap { $0.point == point ? BaseChain(ruleset: ruleset, name: name, hook: $0) : nil }
                }
            }
        var sorted = chains.enumerated().sorted {
            ($0.element.hook.priority, $0.offset) < ($1.element.hook.priority, $1.offset)
        }.map(\.element)
        let translating = sorted.filter { $0.hook.kind == .nat }
        sorted.removeAll { $0.hook.kind == .nat }
        // NAT registers with the kernel once, at NF_IP_PRI_NAT_DST or NF_IP_PRI_NAT_SRC, and calls the nat chains from
        // there in the order of their priorities. It translates replies even where no chain is left.
        let priority: Int32 = point.translatesDestination ? -100 : 100
        let place = sorted.firstIndex { $0.hook.priority > priority } ?? sorted.endIndex
        var stages = sorted.map(Stage.chain)
        if point != .forward, point != .ingress { stages.insert(.translation(translating), at: place) }
        return stages
    }

    private func pass(_ stage: Stage, at point: Hook.Point, _ result: Result) -> [Result] {
        switch stage {
        case .chain(let chain):
            let isTracked =
                chain.hook.priority >= Self.conntrackPriority || (point != .prerouting && point != .output)
            return evaluate(chain, result, isTracked ? result.connection : nil)
        case .translation(let chains):
            guard result.connection.state == .new, result.connection.direction == .original,
                !result.connection.status.contains(point.decidedStatus)
            else { return [translated(result, at: point)] }
            // The first chain that decides ends it, and deciding to change nothing is also a decision.
            var undecided = [result]
            var decided: [Result] = []
            for chain in chains {
                let after = undecided.flatMap { evaluate(chain, $0, $0.connection) }
                undecided = after.filter {
                    $0.outcome == .accept && !$0.connection.status.contains(point.decidedStatus)
                }
                decided += after.filter { $0.outcome != .accept || $0.connection.status.contains(point.decidedStatus) }
            }
            return decided
                + undecided.map { result in
                    var result = result
                    result.connection.status.insert(point.decidedStatus)
                    return result
                }
        }
    }

    private func evaluate(_ chain: BaseChain, _ result: Result, _ connection: Connection?) -> [Result] {
        RulesetEvaluator(chain.ruleset, in: environment).evaluate(chain: chain.name, result.packet, connection)
            .map { evaluation in
                var after = result
                after.outcome = evaluation.outcome
                after.packet = evaluation.packet
                if let connection = evaluation.connection { after.connection = connection }
                after.passages.append(
                    Passage(table: chain.ruleset.table, chain: chain.name, hook: chain.hook, evaluation: evaluation))
                guard evaluation.outcome == .accept, let translation = evaluation.translation else { return after }
                return establish(translation, after)
            }
    }

    // MARK: - NAT

    /// Notes a rule's translation in the connection and rewrites the packet (`nf_nat_setup_info`).
    private func establish(_ translation: Evaluation.Translation, _ result: Result) -> Result {
        var after = result
        switch translation {
        case .destination(let address, let port):
            let before = after.packet
            after.packet.destination = address
            after.packet.destinationPort = port ?? before.destinationPort
            after.connection.status.insert(.destinationDecided)
            if after.packet != before { after.connection.status.insert(.destinationTranslated) }
        case .masquerade(let fullyRandom):
            after.connection.status.insert(.sourceDecided)
            do {
                guard let output = after.packet.output,
                    let address = try environment.masqueradeAddress(on: output, towards: after.packet.destination)
                else {
                    after.outcome = .drop
                    return after
                }
                after.packet.source = address
                // Drawn at random, so that nobody can guess it; nor can we.
                if fullyRandom { after.packet.sourcePort = nil }
                after.connection.status.insert(.sourceTranslated)
            } catch {
                after.outcome = .unknown("\(error)")
                return after
            }
        }
        after.connection.reply = after.packet.tuple.inverted
        return after
    }

    /// Rewrites a packet of a connection whose translation is settled (`nf_nat_packet`).
    private func translated(_ result: Result, at point: Hook.Point) -> Result {
        var after = result
        let connection = after.connection
        // What the packet looks like once it is through: the other direction's tuple, inverted.
        let target = (connection.direction == .original ? connection.reply : connection.original).inverted
        if point.translatesDestination {
            after.packet.destination = target.destination
            after.packet.destinationPort = target.destinationPort
        } else {
            after.packet.source = target.source
            after.packet.sourcePort = target.sourcePort
        }
        return after
    }
}

extension Hook.Point {
    /// Whether NAT rewrites destinations here; elsewhere sources (`HOOK2MANIP`).
    var translatesDestination: Bool { self == .prerouting || self == .output }

    /// The bit that says NAT's decision for this kind of hook was made.
    var decidedStatus: ConnectionStatus { translatesDestination ? .destinationDecided : .sourceDecided }
}
