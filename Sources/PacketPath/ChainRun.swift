internal import NetworkAddresses
internal import Nftables

/// One run through a chain with some choices already made; it stops at the first that is not.
struct ChainRun {
    /// A fork in the road.
    enum Choice {
        /// One of the numbers below this.
        case number(UInt32)
        /// Whether a rule matches (1) or not (0), in words why that is not known.
        case doubt(String)
    }

    enum End {
        case finished(Evaluation)
        case undecided(Choice, soFar: Evaluation)
    }

    private struct Undecided: Error {
        var choice: Choice
    }

    /// What a rule leads to.
    private enum Step {
        /// The rule goes on with its next instruction.
        case proceed
        /// The rule does not match.
        case skip
        case verdict(Verdict)
        case stop(Evaluation.Outcome, Evaluation.Translation? = nil)
    }

    private let ruleset: Ruleset
    private let environment: any RulesetEnvironment
    private var choices: ArraySlice<UInt32>
    private var registers = Registers()
    private var evaluation: Evaluation
    /// The rule at hand, as far as it matched.
    private var hit: RuleHit?
    /// Why it is not known whether the rule at hand matches.
    private var doubt: String?

    /// `NFT_JUMP_STACK_SIZE`.
    private static let stackLimit = 16

    init(
        _ ruleset: Ruleset, _ environment: any RulesetEnvironment, _ packet: Packet, _ connection: Connection?,
        choices: [UInt32]
    ) {
        self.ruleset = ruleset
        self.environment = environment
        self.choices = choices[...]
        evaluation = Evaluation(
            outcome: .accept, translation: nil, packet: packet, connection: connection, hits: [], draws: [],
            wasDecidedByRule: false)
    }

    consuming func run(from chain: String) -> End {
        var run = self
        do throws(Undecided) {
            run.evaluation.outcome = try run.follow(chain)
            return .finished(run.evaluation)
        } catch {
            return .undecided(error.choice, soFar: run.evaluation)
        }
    }

    // MARK: - Chains

    private mutating func follow(_ start: String) throws(Undecided) -> Evaluation.Outcome {
        var chain = start
        var position = 0
        var stack: [(chain: String, position: Int)] = []
        while true {
            guard let rules = ruleset.chains[chain]?.rules else {
                return .unknown("chain \(chain) of table \(ruleset.table) was not there any more when it was read")
            }
            guard position < rules.count else {
                guard let caller = stack.popLast() else { break }
                (chain, position) = caller
                continue
            }
            let step = try apply(rules[position], at: position, of: chain)
            position += 1
            switch step {
            case .proceed, .skip, .verdict(.continue): continue
            case .stop(let outcome, let translation):
                evaluation.translation = translation
                evaluation.wasDecidedByRule = true
                return outcome
            case .verdict(.accept):
                evaluation.wasDecidedByRule = true
                return .accept
            case .verdict(.drop):
                evaluation.wasDecidedByRule = true
                return .drop
            case .verdict(.return): position = rules.count
            case .verdict(.jump(let target)):
                // The kernel refuses rulesets that are deeper, so this is never seen with what it reported.
                guard stack.count < Self.stackLimit else { return .drop }
                stack.append((chain, position))
                (chain, position) = (target, 0)
            case .verdict(.goto(let target)): (chain, position) = (target, 0)
            }
        }
        return ruleset.chains[start]?.hook?.policy == .drop ? .drop : .accept
    }

    private mutating func apply(_ rule: Rule, at position: Int, of chain: String) throws(Undecided) -> Step {
        hit = RuleHit(table: ruleset.table, chain: chain, position: position, rule: rule, elements: [])
        doubt = nil
        for instruction in rule.instructions {
            let step = perform(instruction)
            if case .proceed = step, case .number(_, let modulus, let offset, let into) = instruction {
                registers.store(try draw(below: modulus) &+ offset, at: into)
            }
            switch step {
            case .proceed: continue
            case .verdict(.continue): continue
            case .skip: return .skip
            case .verdict, .stop:
                if let doubt, try choose(.doubt(doubt)) == 0 { return .skip }
                record()
                return step
            }
        }
        // A rule that ends here has done nothing, so it does not matter whether one in doubt matched.
        if doubt == nil { record() }
        return .proceed
    }

    private mutating func record() {
        if let hit { evaluation.hits.append(hit) }
    }

    private mutating func draw(below modulus: UInt32) throws(Undecided) -> UInt32 {
        guard modulus > 1 else { return 0 }
        let number = try choose(.number(modulus))
        evaluation.draws.append(.init(number: number, below: modulus))
        return number
    }

    private mutating func choose(_ choice: Choice) throws(Undecided) -> UInt32 {
        guard let made = choices.popFirst() else { throw Undecided(choice: choice) }
        return made
    }

    // MARK: - Instructions

    /// Goes on if so; does not match if not; and where nobody knows, goes on in doubt.
    private mutating func proceed(if condition: Bool?, or reason: @autoclosure () -> String) -> Step {
        switch condition {
        case true?: return .proceed
        case false?: return .skip
        case nil:
            doubt = doubt ?? "\(description): \(reason())"
            return .proceed
        }
    }

    /// The rule at hand, for messages.
    private var description: String {
        guard let hit else { return "\(ruleset.table)" }
        return hit.location + (hit.rule.comment.map { " (\($0))" } ?? "")
    }

    private mutating func perform(_ instruction: Instruction) -> Step {
        switch instruction {
        case .payload(let base, let offset, let length, let into):
            guard let bytes = evaluation.packet.bytes(base, offset: offset, length: length) else { return .skip }
            registers.store(bytes, at: into)
            return .proceed
        case .meta(let key, let into): return load(key, into)
        case .setMeta(let key, let from):
            guard key == .mark else { return .proceed }
            return effect { run in
                guard let bytes = run.registers.known(4, from: from) else { return "sets a mark that is not known" }
                run.evaluation.packet.mark = hostNumber(bytes)
                return nil
            }
        case .conntrack(let key, let direction, let into): return load(key, direction, into)
        case .setConntrack(let key, let from):
            guard key == .mark, evaluation.connection != nil else { return .proceed }
            return effect { run in
                guard let bytes = run.registers.known(4, from: from) else { return "sets a mark that is not known" }
                run.evaluation.connection?.mark = hostNumber(bytes)
                return nil
            }
        case .compare(let comparison, let register, let bytes):
            let order = registers.compare(register, bytes)
            let holds: Bool? =
                switch comparison {
                case .equal: registers.equals(register, bytes)
                case .notEqual: registers.equals(register, bytes).map { !$0 }
                case .less: order.map { $0 < 0 }
                case .lessOrEqual: order.map { $0 <= 0 }
                case .greater: order.map { $0 > 0 }
                case .greaterOrEqual: order.map { $0 >= 0 }
                }
            return proceed(if: holds, or: "depends on bytes that only the packet itself has")
        case .range(let inverted, let register, let from, let to):
            guard let low = registers.compare(register, from), let high = registers.compare(register, to) else {
                return proceed(if: nil, or: "depends on bytes that only the packet itself has")
            }
            return proceed(if: (low >= 0 && high <= 0) != inverted, or: "")
        case .bitwise(let from, let into, let mask, let xor):
            let values = registers.load(mask.count, from: from)
            registers.store(
                zip(values, zip(mask, xor)).map { value, operands in
                    // Where the mask is empty it does not matter what was there.
                    operands.0 == 0 ? operands.1 : value.map { $0 & operands.0 ^ operands.1 }
                }, at: into)
            return .proceed
        case .immediate(let bytes, let into):
            registers.store(bytes, at: into)
            return .proceed
        case .verdict(let verdict): return .verdict(verdict)
        case .lookup(let set, let key, let inverted):
            switch find(key, in: set) {
            case .found: return inverted ? .skip : .proceed
            case .absent: return inverted ? .proceed : .skip
            case .unclear(let reason): return proceed(if: nil, or: reason)
            }
        case .lookupData(let map, let key, let into):
            switch find(key, in: map) {
            case .found(let element):
                guard case .data(let data)? = element.value else { return unknown("map \(map) holds no data") }
                registers.store(data.bytes, at: into)
                return .proceed
            case .absent: return .skip
            case .unclear(let reason): return unknown(reason)
            }
        case .lookupVerdict(let map, let key):
            switch find(key, in: map) {
            case .found(let element):
                guard case .verdict(let verdict)? = element.value else { return unknown("map \(map) holds no verdict") }
                return .verdict(verdict)
            case .absent: return .skip
            case .unclear(let reason): return unknown(reason)
            }
        // The number itself is drawn by `apply`, which can stop for it.
        case .number: return .proceed
        case .destinationNAT(let family, let address, let port):
            guard family == evaluation.packet.family, evaluation.connection != nil else { return .skip }
            guard let bytes = registers.known(family.bitWidth / 8, from: address), let to = IPAddress(bytes: bytes)
            else {
                return unknown("sends the connection to an address that is not known")
            }
            var number: Port?
            if let port {
                guard let bytes = registers.known(2, from: port) else {
                    return unknown("sends the connection to a port that is not known")
                }
                number = Port(rawValue: UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
            }
            return .stop(.accept, .destination(to, number))
        case .masquerade(let fullyRandom): return .stop(.accept, .masquerade(fullyRandom: fullyRandom))
        case .reject: return .stop(.reject)
        case .routeLookup(let result, let flags, let into): return load(result, flags: flags, into)
        // What a rule remembers matters to later packets only; that its set has room is taken for granted.
        case .counter, .log, .remember: return .proceed
        case .limit: return proceed(if: nil, or: "lets only so many packets a second through")
        case .unknown(let name): return perform(unknown: name)
        }
    }

    /// Does something other than ending the rule.
    ///
    /// That is only certain where it is certain that the rule matches.
    private mutating func effect(_ body: (inout ChainRun) -> String?) -> Step {
        if let doubt { return .stop(.unknown(doubt)) }
        return body(&self).map { unknown($0) } ?? .proceed
    }

    private func unknown(_ reason: String) -> Step { .stop(.unknown("\(description): \(reason)")) }

    /// Expressions whose effect is nothing but to match or not, or to load registers; whether and what is not known.
    private static let conditions: Set<String> = [
        "match", "limit", "quota", "connlimit", "hash", "rt", "socket", "osf", "xfrm", "byteorder", "bitwise", "cmp",
        "range", "fib", "numgen", "tunnel",
    ]

    private mutating func perform(unknown name: String) -> Step {
        switch name {
        // Neither touches the packet; `log` without a group writes to the kernel's own log.
        case "log", "last": return .proceed
        case _ where Self.conditions.contains(name):
            registers = Registers()
            return proceed(if: nil, or: "has an expression '\(name)' that is not understood")
        default: return unknown("has an expression '\(name)' that is not understood")
        }
    }
}

// MARK: - Loads and lookups

extension ChainRun {
    private mutating func load(_ key: MetaKey, _ into: Register) -> Step {
        let packet = evaluation.packet
        func name(_ interface: PacketInterface?) -> PartlyKnownBytes {
            let bytes = interface.map { Array($0.name.description.utf8) } ?? []
            return bytes + Array(repeating: 0, count: 16 - bytes.count)
        }
        switch key {
        case .mark: registers.store(packet.mark, at: into)
        case .inputInterface: registers.store(UInt32(bitPattern: packet.input?.index ?? 0), at: into)
        case .outputInterface: registers.store(UInt32(bitPattern: packet.output?.index ?? 0), at: into)
        case .inputInterfaceName: registers.store(name(packet.input), at: into)
        case .outputInterfaceName: registers.store(name(packet.output), at: into)
        case .networkProtocol: registers.store([packet.family.netfilterNumber], at: into)
        case .transportProtocol: registers.store([packet.protocolNumber], at: into)
        case .trace: registers.store([0], at: into)
        }
        return .proceed
    }

    private mutating func load(_ key: ConntrackKey, _ direction: ConntrackDirection?, _ into: Register) -> Step {
        guard let connection = evaluation.connection else {
            guard key == .state else { return .skip }
            registers.store(ConntrackStates.invalid.rawValue, at: into)
            return .proceed
        }
        let tuple = direction == .reply ? connection.reply : connection.original
        /// An address of the family that the key is for; another's breaks the rule off.
        func store(_ address: IPAddress, _ family: AddressFamily) -> Step {
            guard address.family == family else { return .skip }
            registers.store(address.bytes, at: into)
            return .proceed
        }
        switch key {
        case .state: registers.store(connection.state.rawValue, at: into)
        case .direction: registers.store([connection.direction.rawValue], at: into)
        case .status: registers.store(connection.status.rawValue, at: into)
        case .mark: registers.store(connection.mark, at: into)
        case .transportProtocol: registers.store([tuple.protocolNumber], at: into)
        case .sourcePort: registers.store(portBytes(tuple.sourcePort), at: into)
        case .destinationPort: registers.store(portBytes(tuple.destinationPort), at: into)
        case .sourceIPv4: return store(tuple.source, .ipv4)
        case .destinationIPv4: return store(tuple.destination, .ipv4)
        case .sourceIPv6: return store(tuple.source, .ipv6)
        case .destinationIPv6: return store(tuple.destination, .ipv6)
        }
        return .proceed
    }

    private mutating func load(_ result: FibResult, flags: UInt32, _ into: Register) -> Step {
        // NFTA_FIB_F_SADDR = 1, NFTA_FIB_F_DADDR = 2; marks and interfaces in the question are not modelled.
        guard result == .addressType, flags == 1 || flags == 2 else {
            registers.store([nil, nil, nil, nil], at: into)
            return proceed(if: nil, or: "asks the routing table something that is not understood")
        }
        let address = flags == 1 ? evaluation.packet.source : evaluation.packet.destination
        do {
            registers.store(try environment.addressType(of: address), at: into)
        } catch {
            registers.store([nil, nil, nil, nil], at: into)
            return proceed(if: nil, or: "\(error)")
        }
        return .proceed
    }

    private enum Finding {
        case found(Element)
        case absent
        case unclear(String)
    }

    private mutating func find(_ register: Register, in set: String) -> Finding {
        guard let definition = ruleset.sets[set]?.definition else {
            return .unclear("looks into set \(set), whose keys are of a type that is not understood")
        }
        let length = definition.key.reduce(0) { $0 + $1.paddedLength }
        guard let key = registers.known(length, from: register) else {
            return .unclear("looks for bytes that only the packet itself has")
        }
        do {
            guard let element = try environment.element(ElementKey(bytes: key), of: set, in: ruleset.table) else {
                return .absent
            }
            hit?.elements.append(.init(set: set, element: element))
            return .found(element)
        } catch {
            return .unclear("\(error)")
        }
    }
}
