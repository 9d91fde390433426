internal import Nftables

/// What `nft` keeps beside tables, chains, rules, sets and elements to print them as they were written: type, length
/// and value, one byte each for the first two (libnftnl's `udata`).
enum UserData {
    /// A comment of a rule, chain or element: type 0 in each of them.
    static func comment(_ text: String) -> [UInt8] {
        // In one go: every element of a big batch has one.
        [UInt8](unsafeUninitializedCapacity: text.utf8.count + 3) { bytes, count in
            bytes[0] = 0
            bytes[1] = UInt8(text.utf8.count + 1)
            let (_, end) = UnsafeMutableBufferPointer(rebasing: bytes[2...]).initialize(from: text.utf8)
            bytes[2 + end] = 0
            count = text.utf8.count + 3
        }
    }

    /// The comment among the records, where there is one.
    static func comment(in bytes: UnsafeRawBufferPointer) -> String? {
        var rest = bytes[...]
        while rest.count >= 2 {
            let (type, length) = (rest[rest.startIndex], Int(rest[rest.startIndex + 1]))
            guard rest.count >= 2 + length else { return nil }
            let value = rest.dropFirst(2).prefix(length)
            if type == 0 { return String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) }
            rest = rest.dropFirst(2 + length)
        }
        return nil
    }

    /// How a set's key and data are to be printed (`NFTNL_UDATA_SET_*`).
    ///
    /// nft prints a part without a named type only when it finds an expression of that type here (`typeof`).
    static func types(of definition: SetDefinition) -> [UInt8] {
        // Byte order: 0 for a concatenation, 1 for the host's, as of a name, 2 for big-endian, as of an address.
        var order: UInt32 = definition.key.count == 1 && !definition.needsTypeOf ? 2 : 0
        if definition.key == [.interfaceName] { order = 1 }
        var bytes = number(0, order)
        guard definition.needsTypeOf else {
            if case .values? = definition.data { bytes += number(1, 0) }
            return bytes
        }
        let key = record(3, expression(of: definition.key))
        switch definition.data {
        case nil: return bytes + key
        case .values(let types)?: return bytes + number(1, 0) + key + record(4, expression(of: types)) + number(6, 0)
        // EXPR_VERDICT. nft heeds the key's types only where it finds the data's as well.
        case .verdict?: return bytes + number(1, 0) + key + record(4, number(0, 1) + record(1, [])) + number(6, 0)
        }
    }

    private static func expression(of types: [KeyType]) -> [UInt8] {
        guard types.count > 1 else { return expression(of: types[0]) }
        let parts = types.enumerated().flatMap { record(UInt8($0.offset), expression(of: $0.element)) }
        return number(0, 13) + record(1, parts)  // EXPR_CONCAT
    }

    /// The expression that `KeyType.typeOfName` writes.
    private static func expression(of type: KeyType) -> [UInt8] {
        switch type {
        // EXPR_PAYLOAD: protocol description and header field.
        case .ipv4Address: number(0, 7) + record(1, number(0, 12) + number(1, 12))
        case .ipv6Address: number(0, 7) + record(1, number(0, 13) + number(1, 9))
        case .port: number(0, 7) + record(1, number(0, 11) + number(1, 2))
        case .ethernetAddress: number(0, 7) + record(1, number(0, 17) + number(1, 2))
        // EXPR_META: the NFT_META_* key.
        case .transportProtocol: number(0, 9) + record(1, number(0, 16))
        case .mark: number(0, 9) + record(1, number(0, 3))
        case .interfaceName: number(0, 9) + record(1, number(0, 6))
        // EXPR_NUMGEN: type, modulus, offset.
        case .number: number(0, 23) + record(1, number(0, 0) + number(1, 2) + number(2, 0))
        }
    }

    private static func record(_ type: UInt8, _ value: [UInt8]) -> [UInt8] { [type, UInt8(value.count)] + value }

    private static func number(_ type: UInt8, _ value: UInt32) -> [UInt8] { record(type, hostBytes(value)) }
}
