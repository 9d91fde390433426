extension Instruction: CustomStringConvertible {
    /// In the manner of `nft --debug=netlink`: `payload load 4b @ network header + 16 => r0`.
    public var description: String {
        switch self {
        case .payload(let base, let offset, let length, let into):
            "payload load \(length)b @ \(base) header + \(offset) => \(into)"
        case .meta(let key, let into): "meta load \(key) => \(into)"
        case .setMeta(let key, let from): "meta set \(key) with \(from)"
        case .conntrack(let key, let direction, let into):
            "ct load \(key) => \(into)" + (direction.map { ", dir \($0)" } ?? "")
        case .setConntrack(let key, let from): "ct set \(key) with \(from)"
        case .compare(let comparison, let register, let bytes):
            "cmp \(comparison.word) \(register) \(hexadecimal(bytes))"
        case .range(let inverted, let register, let from, let to):
            "range \(inverted ? "neq" : "eq") \(register) \(hexadecimal(from)) \(hexadecimal(to))"
        case .bitwise(let from, let into, let mask, let xor):
            "bitwise \(into) = (\(from) & \(hexadecimal(mask))) ^ \(hexadecimal(xor))"
        case .immediate(let bytes, let into): "immediate \(into) \(hexadecimal(bytes))"
        case .verdict(let verdict): "immediate \(verdict)"
        case .lookup(let set, let key, let inverted): "lookup \(key) set \(set)" + (inverted ? " inverted" : "")
        case .lookupData(let map, let key, let into): "lookup \(key) set \(map) => \(into)"
        case .lookupVerdict(let map, let key): "lookup \(key) set \(map) => verdict"
        case .remember(let set, let key): "dynset update \(key) set \(set)"
        case .number(let source, let modulus, let offset, let into):
            "numgen \(source == .random ? "random" : "inc") mod \(modulus)" + (offset == 0 ? "" : " offset \(offset)")
                + " => \(into)"
        case .destinationNAT(let family, let address, let port):
            "nat dnat \(family.nft) addr \(address)" + (port.map { " proto \($0)" } ?? "")
        case .masquerade(let fullyRandom): fullyRandom ? "masq fully-random" : "masq"
        case .reject(let type, let code): "reject type \(type) code \(code)"
        case .routeLookup(let result, let flags, let into): "fib \(result) flags \(flags) => \(into)"
        case .counter: "counter"
        case .limit(let rate, let seconds, let burst): "limit rate \(rate)/\(seconds)s burst \(burst)"
        case .log(let prefix, let group): "log prefix \"\(prefix)\" group \(group)"
        case .unknown(let name): "\(name) (not understood)"
        }
    }
}

extension Register: CustomStringConvertible {
    public var description: String { "r\(word)" }
}

extension ComparisonOperator {
    fileprivate var word: String {
        switch self {
        case .equal: "eq"
        case .notEqual: "neq"
        case .less: "lt"
        case .lessOrEqual: "lte"
        case .greater: "gt"
        case .greaterOrEqual: "gte"
        }
    }
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
    "0x" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
