import NetworkAddresses

extension Ruleset: CustomStringConvertible {
    /// The table in nft's syntax: sets, then chains that are led to, then base chains; each group by name.
    ///
    /// What golden tests compare, and what `nft -f` reads.
    public var text: String {
        var lines = ["table \(table) {"]
        for (name, set) in sets.sorted(by: { $0.key < $1.key }) { lines += set.lines(name: name) + [""] }
        for name in chainOrder { lines += chains[name]!.lines(name: name) + [""] }
        if lines.last == "" { lines.removeLast() }
        return (lines + ["}"]).joined(separator: "\n")
    }

    public var description: String { text }

    /// Chains that are led to before base chains, so that a reader (and `nft -f`) meets what is named before its name.
    public var chainOrder: [String] {
        chains.keys.sorted {
            let (left, right) = (chains[$0]!.hook, chains[$1]!.hook)
            return (left == nil ? 0 : 1, left?.point.rawValue ?? 0, left?.priority ?? 0, $0)
                < (right == nil ? 0 : 1, right?.point.rawValue ?? 0, right?.priority ?? 0, $1)
        }
    }
}

extension NamedSet {
    fileprivate func lines(name: String) -> [String] {
        var lines = ["    \(definition.data == nil ? "set" : "map") \(name) {", "        \(definition.typeText)"]
        if definition.isInterval { lines.append("        flags interval") }
        if let expiry = definition.expiry {
            lines += [
                "        size \(SetDefinition.mostRemembered)", "        flags dynamic,timeout",
                "        timeout \(expiry)s",
            ]
        }
        if !elements.isEmpty {
            lines.append("        elements = {")
            for element in elements.values.sorted(by: { $0.key < $1.key }) {
                lines.append("            \(definition.text(of: element)),")
            }
            lines.append("        }")
        }
        return lines + ["    }"]
    }
}

extension SetDefinition {
    /// Whether nft needs `typeof` because a part has no named type.
    public var needsTypeOf: Bool {
        if case .values(let types)? = data, types.contains(.number) { return true }
        return key.contains(.number)
    }

    var typeText: String {
        let names = { (types: [KeyType]) in
            types.map { needsTypeOf ? $0.typeOfName : $0.typeName }.joined(separator: " . ")
        }
        let value =
            switch data {
            case nil: ""
            case .verdict?: " : verdict"
            case .values(let types)?: " : " + names(types)
            }
        return (needsTypeOf ? "typeof " : "type ") + names(key) + value
    }

    /// The element in nft's syntax.
    public func text(of element: Element) -> String {
        var text = ElementKey.text(of: element.key, as: key)
        if let last = element.last, last != element.key { text += "-" + ElementKey.text(of: last, as: key) }
        if let comment = element.comment { text += " comment \"\(comment)\"" }
        switch (element.value, data) {
        case (.verdict(let verdict)?, _): text += " : \(verdict)"
        case (.data(let bytes)?, .values(let types)?): text += " : " + ElementKey.text(of: bytes, as: types)
        default: break
        }
        return text
    }
}

extension ElementKey {
    static func text(of key: ElementKey, as types: [KeyType]) -> String {
        var rest = key.bytes[...]
        var parts: [String] = []
        for type in types {
            let part = rest.prefix(type.paddedLength)
            rest = rest.dropFirst(type.paddedLength)
            parts.append(type.text(of: Array(part)))
        }
        return parts.joined(separator: " . ")
    }
}

extension KeyType {
    /// The value in nft's syntax; a value of the wrong length is shown as its bytes.
    func text(of bytes: [UInt8]) -> String {
        let raw = "0x" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        guard bytes.count == paddedLength else { return raw }
        switch self {
        case .ipv4Address, .ipv6Address: return IPAddress(bytes: bytes)?.description ?? raw
        case .ethernetAddress: return MACAddress(bytes: bytes.prefix(6))?.description ?? raw
        case .transportProtocol: return TransportProtocol(rawValue: bytes[0])?.description ?? String(bytes[0])
        case .port: return String(UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
        case .number: return String(hostNumber(bytes))
        case .mark: return "0x" + hex(hostNumber(bytes))
        case .interfaceName: return "\"" + String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) + "\""
        }
    }
}

/// The inverse of `hostBytes`.
public func hostNumber(_ bytes: some Collection<UInt8>) -> UInt32 {
    UInt32(bigEndian: bytes.reduce(0) { $0 << 8 | UInt32($1) })
}

extension Chain {
    fileprivate func lines(name: String) -> [String] {
        var lines = ["    chain \(name) {"]
        if let comment { lines.append("        comment \"\(comment)\"") }
        if let hook {
            lines.append(
                "        type \(hook.kind.rawValue) hook \(hook.point) priority \(hook.priority); policy \(hook.policy);"
            )
        }
        return lines + rules.map { "        \($0.text)" } + ["    }"]
    }
}

extension Rule {
    /// The rule in nft's syntax; a rule read from the kernel is shown as its instructions.
    public var text: String {
        let body =
            statements.isEmpty
            ? instructions.map { "[ \($0) ]" }.joined(separator: " ") : statements.map(\.text).joined(separator: " ")
        return comment.map { "\(body) comment \"\($0)\"" } ?? body
    }
}
