public import Nftables

/// Runs a packet through a table's chains as the kernel's virtual machine does (`nft_do_chain`).
///
/// What cannot be known is not guessed. A condition in doubt is tried both ways, and only if that makes no difference
/// is there an answer; an instruction whose effect is not known makes the outcome `unknown`. Random choices are all
/// taken: each gives an evaluation of its own.
public struct RulesetEvaluator {
    private let ruleset: Ruleset
    private let environment: any RulesetEnvironment

    public init(_ ruleset: Ruleset, in environment: any RulesetEnvironment) {
        self.ruleset = ruleset
        self.environment = environment
    }

    /// What the chain does with the packet: one evaluation for each combination of the random numbers it draws.
    ///
    /// - Parameter connection: nil before conntrack has seen the packet, as in chains of a priority below -200.
    public func evaluate(chain: String, _ packet: Packet, _ connection: Connection?) -> [Evaluation] {
        var budget = 1 << 14
        return explore([], budget: &budget) { choices in
            ChainRun(ruleset, environment, packet, connection, choices: choices).run(from: chain)
        }
    }

    /// Follows every way that choices lead to, by running again with one more choice made each time.
    private func explore(
        _ choices: [UInt32], budget: inout Int, _ run: ([UInt32]) -> ChainRun.End
    ) -> [Evaluation] {
        budget -= 1
        switch run(choices) {
        case .finished(let evaluation): return [evaluation]
        case .undecided(.number(let modulus), var soFar):
            guard Int(modulus) <= budget else {
                soFar.outcome = .unknown("a random choice among \(modulus) is too many to follow")
                return [soFar]
            }
            return (0..<modulus).flatMap { explore(choices + [$0], budget: &budget, run) }
        case .undecided(.doubt(let reason), var soFar):
            soFar.outcome = .unknown(budget > 0 ? reason : "too many rules are in doubt, such as this: \(reason)")
            guard budget > 0 else { return [soFar] }
            let unmatched = explore(choices + [0], budget: &budget, run)
            let matched = explore(choices + [1], budget: &budget, run)
            return Set(matched.map(Effect.init)) == Set(unmatched.map(Effect.init)) ? unmatched : [soFar]
        }
    }

    /// What of an evaluation matters for the packet.
    private struct Effect: Hashable {
        var outcome: Evaluation.Outcome
        var translation: Evaluation.Translation?
        var packet: Packet
        var connection: Connection?

        init(_ evaluation: Evaluation) {
            outcome = evaluation.outcome
            translation = evaluation.translation
            packet = evaluation.packet
            connection = evaluation.connection
        }
    }
}
