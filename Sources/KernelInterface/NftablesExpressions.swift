internal import CLibNftnl
internal import Glibc
internal import NetworkAddresses
internal import Nftables

// Registers travel as NFT_REG32_00 (8) + word; the kernel reports those at a multiple of four words by their old
// names, NFT_REG_1 (1) to NFT_REG_4.

private func number(of register: Register) -> UInt32 { 8 + UInt32(register.word) }

private func register(_ number: UInt32) -> Register? {
    switch number {
    case 1...4: Register(word: Int(number - 1) * 4)
    case 8...23: Register(word: Int(number - 8))
    default: nil
    }
}

/// The libnftnl expression for an instruction. One exhaustive switch: a new instruction does not compile until it is
/// here.
func encode(_ instruction: Instruction) -> OpaquePointer {
    func make(_ name: String, _ numbers: (UInt16, UInt32)...) -> OpaquePointer {
        let expression = nftnl_expr_alloc(name)!
        for (attribute, value) in numbers { nftnl_expr_set_u32(expression, attribute, value) }
        return expression
    }
    func put(_ bytes: [UInt8], _ attribute: UInt16, in expression: OpaquePointer) {
        nftnl_expr_set(expression, attribute, bytes, UInt32(bytes.count))
    }
    func put(_ text: String, _ attribute: UInt16, in expression: OpaquePointer) {
        nftnl_expr_set_str(expression, attribute, text)
    }
    switch instruction {
    case .payload(let base, let offset, let length, let into):
        return make(
            "payload", (NFTNL_EXPR_PAYLOAD_BASE.attribute, base.rawValue),
            (NFTNL_EXPR_PAYLOAD_OFFSET.attribute, UInt32(offset)),
            (NFTNL_EXPR_PAYLOAD_LEN.attribute, UInt32(length)), (NFTNL_EXPR_PAYLOAD_DREG.attribute, number(of: into)))
    case .meta(let key, let into):
        return make(
            "meta", (NFTNL_EXPR_META_KEY.attribute, key.rawValue), (NFTNL_EXPR_META_DREG.attribute, number(of: into)))
    case .setMeta(let key, let from):
        return make(
            "meta", (NFTNL_EXPR_META_KEY.attribute, key.rawValue), (NFTNL_EXPR_META_SREG.attribute, number(of: from)))
    case .conntrack(let key, let direction, let into):
        let expression = make(
            "ct", (NFTNL_EXPR_CT_KEY.attribute, key.rawValue), (NFTNL_EXPR_CT_DREG.attribute, number(of: into)))
        if let direction { nftnl_expr_set_u8(expression, NFTNL_EXPR_CT_DIR.attribute, direction.rawValue) }
        return expression
    case .setConntrack(let key, let from):
        return make("ct", (NFTNL_EXPR_CT_KEY.attribute, key.rawValue), (NFTNL_EXPR_CT_SREG.attribute, number(of: from)))
    case .compare(let comparison, let source, let bytes):
        let expression = make(
            "cmp", (NFTNL_EXPR_CMP_SREG.attribute, number(of: source)),
            (NFTNL_EXPR_CMP_OP.attribute, comparison.rawValue))
        put(bytes, NFTNL_EXPR_CMP_DATA.attribute, in: expression)
        return expression
    case .range(let inverted, let source, let from, let to):
        let expression = make(
            "range", (NFTNL_EXPR_RANGE_SREG.attribute, number(of: source)),
            (NFTNL_EXPR_RANGE_OP.attribute, inverted ? 1 : 0))
        put(from, NFTNL_EXPR_RANGE_FROM_DATA.attribute, in: expression)
        put(to, NFTNL_EXPR_RANGE_TO_DATA.attribute, in: expression)
        return expression
    case .bitwise(let from, let into, let mask, let xor):
        let expression = make(
            "bitwise", (NFTNL_EXPR_BITWISE_SREG.attribute, number(of: from)),
            (NFTNL_EXPR_BITWISE_DREG.attribute, number(of: into)),
            (NFTNL_EXPR_BITWISE_LEN.attribute, UInt32(mask.count)))
        put(mask, NFTNL_EXPR_BITWISE_MASK.attribute, in: expression)
        put(xor, NFTNL_EXPR_BITWISE_XOR.attribute, in: expression)
        return expression
    case .immediate(let bytes, let into):
        let expression = make("immediate", (NFTNL_EXPR_IMM_DREG.attribute, number(of: into)))
        put(bytes, NFTNL_EXPR_IMM_DATA.attribute, in: expression)
        return expression
    case .verdict(let verdict):
        let expression = make(
            "immediate", (NFTNL_EXPR_IMM_DREG.attribute, 0),
            (NFTNL_EXPR_IMM_VERDICT.attribute, UInt32(bitPattern: verdict.code)))
        if let chain = verdict.target { put(chain, NFTNL_EXPR_IMM_CHAIN.attribute, in: expression) }
        return expression
    case .lookup(let set, let key, let inverted):
        let expression = make(
            "lookup", (NFTNL_EXPR_LOOKUP_SREG.attribute, number(of: key)),
            (NFTNL_EXPR_LOOKUP_FLAGS.attribute, inverted ? 1 : 0))
        put(set, NFTNL_EXPR_LOOKUP_SET.attribute, in: expression)
        return expression
    case .lookupData(let map, let key, let into):
        let expression = make(
            "lookup", (NFTNL_EXPR_LOOKUP_SREG.attribute, number(of: key)),
            (NFTNL_EXPR_LOOKUP_DREG.attribute, number(of: into)))
        put(map, NFTNL_EXPR_LOOKUP_SET.attribute, in: expression)
        return expression
    case .lookupVerdict(let map, let key):
        let expression = make(
            "lookup", (NFTNL_EXPR_LOOKUP_SREG.attribute, number(of: key)), (NFTNL_EXPR_LOOKUP_DREG.attribute, 0))
        put(map, NFTNL_EXPR_LOOKUP_SET.attribute, in: expression)
        return expression
    case .remember(let set, let key):
        // NFT_DYNSET_OP_UPDATE: adds the element, or starts its time anew.
        let expression = make(
            "dynset", (NFTNL_EXPR_DYNSET_SREG_KEY.attribute, number(of: key)), (NFTNL_EXPR_DYNSET_OP.attribute, 1))
        put(set, NFTNL_EXPR_DYNSET_SET_NAME.attribute, in: expression)
        return expression
    case .number(let source, let modulus, let offset, let into):
        return make(
            "numgen", (NFTNL_EXPR_NG_DREG.attribute, number(of: into)), (NFTNL_EXPR_NG_TYPE.attribute, source.rawValue),
            (NFTNL_EXPR_NG_MODULUS.attribute, modulus), (NFTNL_EXPR_NG_OFFSET.attribute, offset))
    case .destinationNAT(let family, let address, let port):
        let expression = make(
            "nat", (NFTNL_EXPR_NAT_TYPE.attribute, 1),
            (NFTNL_EXPR_NAT_FAMILY.attribute, UInt32(family.netfilterNumber)),
            (NFTNL_EXPR_NAT_REG_ADDR_MIN.attribute, number(of: address)))
        if let port { nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN.attribute, number(of: port)) }
        return expression
    case .masquerade(let fullyRandom):
        return make("masq", (NFTNL_EXPR_MASQ_FLAGS.attribute, fullyRandom ? 0x10 : 0))
    case .reject(let type, let code):
        let expression = make("reject", (NFTNL_EXPR_REJECT_TYPE.attribute, type))
        nftnl_expr_set_u8(expression, NFTNL_EXPR_REJECT_CODE.attribute, code)
        return expression
    case .routeLookup(let result, let flags, let into):
        return make(
            "fib", (NFTNL_EXPR_FIB_DREG.attribute, number(of: into)),
            (NFTNL_EXPR_FIB_RESULT.attribute, result.rawValue),
            (NFTNL_EXPR_FIB_FLAGS.attribute, flags))
    case .counter: return make("counter")
    case .limit(let rate, let seconds, let burst):
        let expression = make("limit", (NFTNL_EXPR_LIMIT_BURST.attribute, burst), (NFTNL_EXPR_LIMIT_TYPE.attribute, 0))
        nftnl_expr_set_u64(expression, NFTNL_EXPR_LIMIT_RATE.attribute, rate)
        nftnl_expr_set_u64(expression, NFTNL_EXPR_LIMIT_UNIT.attribute, seconds)
        return expression
    case .log(let prefix, let group):
        let expression = nftnl_expr_alloc("log")!
        put(prefix, NFTNL_EXPR_LOG_PREFIX.attribute, in: expression)
        nftnl_expr_set_u16(expression, NFTNL_EXPR_LOG_GROUP.attribute, group)
        return expression
    case .unknown(let name):
        preconditionFailure("an instruction read from the kernel but not understood (\(name)) is never written")
    }
}

/// The instruction that a libnftnl expression stands for.
func decode(_ expression: OpaquePointer) -> Instruction {
    let name = String(cString: nftnl_expr_get_str(expression, NFTNL_EXPR_NAME.attribute))
    return decode(name, ExpressionReader(expression: expression)) ?? .unknown(name)
}

/// Typed access to an expression's attributes.
private struct ExpressionReader {
    let expression: OpaquePointer

    func has(_ attribute: UInt16) -> Bool { nftnl_expr_is_set(expression, attribute) }

    func number(_ attribute: UInt16) -> UInt32? {
        has(attribute) ? nftnl_expr_get_u32(expression, attribute) : nil
    }

    func register(_ attribute: UInt16) -> Register? { number(attribute).flatMap(KernelInterface.register) }

    func text(_ attribute: UInt16) -> String? {
        has(attribute) ? nftnl_expr_get_str(expression, attribute).map(String.init(cString:)) : nil
    }

    func bytes(_ attribute: UInt16) -> [UInt8]? {
        var length: UInt32 = 0
        guard has(attribute), let data = nftnl_expr_get(expression, attribute, &length) else { return nil }
        return Array(UnsafeRawBufferPointer(start: data, count: Int(length)))
    }
}

private func decode(_ name: String, _ reader: ExpressionReader) -> Instruction? {
    switch name {
    case "payload":
        guard let base = reader.number(NFTNL_EXPR_PAYLOAD_BASE.attribute).flatMap(PayloadBase.init),
            let offset = reader.number(NFTNL_EXPR_PAYLOAD_OFFSET.attribute),
            let length = reader.number(NFTNL_EXPR_PAYLOAD_LEN.attribute),
            let into = reader.register(NFTNL_EXPR_PAYLOAD_DREG.attribute)
        else { return nil }
        return .payload(base, offset: Int(offset), length: Int(length), into: into)
    case "meta":
        guard let key = reader.number(NFTNL_EXPR_META_KEY.attribute).flatMap(MetaKey.init) else { return nil }
        if let into = reader.register(NFTNL_EXPR_META_DREG.attribute) { return .meta(key, into: into) }
        return reader.register(NFTNL_EXPR_META_SREG.attribute).map { .setMeta(key, from: $0) }
    case "ct":
        guard let key = reader.number(NFTNL_EXPR_CT_KEY.attribute).flatMap(ConntrackKey.init) else { return nil }
        if let from = reader.register(NFTNL_EXPR_CT_SREG.attribute) { return .setConntrack(key, from: from) }
        let direction =
            reader.has(NFTNL_EXPR_CT_DIR.attribute)
            ? ConntrackDirection(rawValue: nftnl_expr_get_u8(reader.expression, NFTNL_EXPR_CT_DIR.attribute)) : nil
        return reader.register(NFTNL_EXPR_CT_DREG.attribute).map { .conntrack(key, direction, into: $0) }
    case "cmp":
        guard let comparison = reader.number(NFTNL_EXPR_CMP_OP.attribute).flatMap(ComparisonOperator.init),
            let source = reader.register(NFTNL_EXPR_CMP_SREG.attribute),
            let bytes = reader.bytes(NFTNL_EXPR_CMP_DATA.attribute)
        else { return nil }
        return .compare(comparison, source, bytes)
    case "range":
        guard let inverted = reader.number(NFTNL_EXPR_RANGE_OP.attribute),
            let source = reader.register(NFTNL_EXPR_RANGE_SREG.attribute),
            let from = reader.bytes(NFTNL_EXPR_RANGE_FROM_DATA.attribute),
            let to = reader.bytes(NFTNL_EXPR_RANGE_TO_DATA.attribute)
        else { return nil }
        return .range(inverted: inverted == 1, source, from: from, to: to)
    case "bitwise":
        // NFT_BITWISE_BOOL is 0 and all this model knows; shifts are another operation.
        guard reader.number(NFTNL_EXPR_BITWISE_OP.attribute) ?? 0 == 0,
            let from = reader.register(NFTNL_EXPR_BITWISE_SREG.attribute),
            let into = reader.register(NFTNL_EXPR_BITWISE_DREG.attribute),
            let mask = reader.bytes(NFTNL_EXPR_BITWISE_MASK.attribute),
            let xor = reader.bytes(NFTNL_EXPR_BITWISE_XOR.attribute)
        else { return nil }
        return .bitwise(from: from, into: into, mask: mask, xor: xor)
    case "immediate":
        if let verdict = reader.number(NFTNL_EXPR_IMM_VERDICT.attribute) {
            return Verdict(code: Int32(bitPattern: verdict), chain: reader.text(NFTNL_EXPR_IMM_CHAIN.attribute))
                .map { .verdict($0) }
        }
        guard let into = reader.register(NFTNL_EXPR_IMM_DREG.attribute),
            let bytes = reader.bytes(NFTNL_EXPR_IMM_DATA.attribute)
        else { return nil }
        return .immediate(bytes, into: into)
    case "lookup":
        guard let set = reader.text(NFTNL_EXPR_LOOKUP_SET.attribute),
            let key = reader.register(NFTNL_EXPR_LOOKUP_SREG.attribute)
        else { return nil }
        guard let destination = reader.number(NFTNL_EXPR_LOOKUP_DREG.attribute) else {
            return .lookup(set: set, key: key, inverted: reader.number(NFTNL_EXPR_LOOKUP_FLAGS.attribute) ?? 0 & 1 == 1)
        }
        if destination == 0 { return .lookupVerdict(map: set, key: key) }
        return register(destination).map { .lookupData(map: set, key: key, into: $0) }
    case "dynset":
        guard reader.number(NFTNL_EXPR_DYNSET_OP.attribute) == 1, !reader.has(NFTNL_EXPR_DYNSET_SREG_DATA.attribute),
            let set = reader.text(NFTNL_EXPR_DYNSET_SET_NAME.attribute),
            let key = reader.register(NFTNL_EXPR_DYNSET_SREG_KEY.attribute)
        else { return nil }
        return .remember(set: set, key: key)
    case "numgen":
        guard let source = reader.number(NFTNL_EXPR_NG_TYPE.attribute).flatMap(NumberSource.init),
            let modulus = reader.number(NFTNL_EXPR_NG_MODULUS.attribute),
            let into = reader.register(NFTNL_EXPR_NG_DREG.attribute)
        else { return nil }
        return .number(source, modulus: modulus, offset: reader.number(NFTNL_EXPR_NG_OFFSET.attribute) ?? 0, into: into)
    case "nat":
        guard reader.number(NFTNL_EXPR_NAT_TYPE.attribute) == 1,
            let family = AddressFamily.allCases.first(where: {
                UInt32($0.netfilterNumber) == reader.number(NFTNL_EXPR_NAT_FAMILY.attribute)
            }), let address = reader.register(NFTNL_EXPR_NAT_REG_ADDR_MIN.attribute)
        else { return nil }
        return .destinationNAT(family, address: address, port: reader.register(NFTNL_EXPR_NAT_REG_PROTO_MIN.attribute))
    case "masq": return .masquerade(fullyRandom: reader.number(NFTNL_EXPR_MASQ_FLAGS.attribute) ?? 0 & 0x10 != 0)
    case "reject":
        guard let type = reader.number(NFTNL_EXPR_REJECT_TYPE.attribute) else { return nil }
        return .reject(type: type, code: nftnl_expr_get_u8(reader.expression, NFTNL_EXPR_REJECT_CODE.attribute))
    case "fib":
        guard let result = reader.number(NFTNL_EXPR_FIB_RESULT.attribute).flatMap(FibResult.init),
            let flags = reader.number(NFTNL_EXPR_FIB_FLAGS.attribute),
            let into = reader.register(NFTNL_EXPR_FIB_DREG.attribute)
        else { return nil }
        return .routeLookup(result, flags: flags, into: into)
    case "counter": return .counter
    case "limit":
        return .limit(
            rate: nftnl_expr_get_u64(reader.expression, NFTNL_EXPR_LIMIT_RATE.attribute),
            seconds: nftnl_expr_get_u64(reader.expression, NFTNL_EXPR_LIMIT_UNIT.attribute),
            burst: reader.number(NFTNL_EXPR_LIMIT_BURST.attribute) ?? 0)
    case "log":
        guard reader.has(NFTNL_EXPR_LOG_GROUP.attribute) else { return nil }
        return .log(
            prefix: reader.text(NFTNL_EXPR_LOG_PREFIX.attribute) ?? "",
            group: nftnl_expr_get_u16(reader.expression, NFTNL_EXPR_LOG_GROUP.attribute))
    default: return nil
    }
}

extension Verdict {
    /// `NF_DROP`, `NF_ACCEPT`, `NFT_CONTINUE` …
    var code: Int32 {
        switch self {
        case .drop: 0
        case .accept: 1
        case .continue: -1
        case .jump: -3
        case .goto: -4
        case .return: -5
        }
    }

    init?(code: Int32, chain: String?) {
        switch (code, chain) {
        case (0, _): self = .drop
        case (1, _): self = .accept
        case (-1, _): self = .continue
        case (-5, _): self = .return
        case (-3, let chain?): self = .jump(chain)
        case (-4, let chain?): self = .goto(chain)
        default: return nil
        }
    }
}

// libnftnl's anonymous enums arrive in Swift as Int, as UInt32 or as structs of one; this makes them alike.
extension Int { var attribute: UInt16 { UInt16(self) } }
extension RawRepresentable where RawValue == UInt32 { var attribute: UInt16 { UInt16(rawValue) } }
