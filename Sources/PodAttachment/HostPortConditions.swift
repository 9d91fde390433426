internal import CNIProtocol
internal import NetworkAddresses
internal import Nftables

/// The keys `conditionsV4` and `conditionsV6`: what a packet must be for the network's host ports to be there for it.
///
/// Written in nft's words (`ip saddr != 192.0.2.0/24`, `iifname eth1`, `tcp sport 1024-65535`, `meta mark 0x1`,
/// `fib saddr type local`) or in those of iptables (`! -d 192.0.2.0/24`, `-i eth1`, `-s`, `-p`, `--sport`, `--dport`),
/// split into the array's strings in any way. What neither says is refused: a condition left out would open a port.
struct HostPortConditions {
    private var words: ArraySlice<String>
    private let family: AddressFamily
    private var statements: [Statement] = []

    /// Reads the key of the family; no condition where it is absent or empty.
    static func statements(
        _ reader: ConfigurationReader, _ family: AddressFamily
    ) throws(CNIError) -> [Statement] {
        let key = "conditionsV\(family.digit)"
        let words = try reader.strings(key).flatMap { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
        var conditions = HostPortConditions(words: words[...], family: family)
        do throws(NotUnderstood) {
            while !conditions.words.isEmpty { try conditions.readOne() }
        } catch {
            throw CNIError(
                .unsupportedField, "\(key): \"\(words.joined(separator: " "))\" is not understood at \"\(error.word)\"",
                details: "conditions are for example: ip saddr != 192.0.2.0/24, iifname eth1, tcp sport 1024-65535, "
                    + "meta mark 0x1, or -s, -d, -i, -p, --sport, --dport, each with ! before it or not")
        }
        return conditions.statements
    }

    private init(words: ArraySlice<String>, family: AddressFamily) {
        self.words = words
        self.family = family
    }

    /// The word at which reading ended.
    private struct NotUnderstood: Error { var word: String }

    private mutating func next() throws(NotUnderstood) -> String {
        guard let word = words.popFirst() else { throw NotUnderstood(word: "its end") }
        return word.first == "\"" && word.last == "\"" && word.count > 2 ? String(word.dropFirst().dropLast()) : word
    }

    private mutating func readOne() throws(NotUnderstood) {
        if words.first == "meta" { _ = try next() }
        let start = try next()
        switch start {
        case "!":
            try readOption(try next(), negated: true)
        case _ where start.first == "-":
            try readOption(start, negated: false)
        case "ip", "ip6":
            guard start == family.headerName else { throw NotUnderstood(word: start) }
            try readAddress(of: try next())
        case "tcp", "udp", "sctp":
            guard let transport = TransportProtocol(start) else { throw NotUnderstood(word: start) }
            statements.append(.match(.transportProtocol, .transport(transport)))
            try readPort(of: try next())
        case "th": try readPort(of: try next())
        case "l4proto":
            let negated = negation()
            try append(.transportProtocol, transport: try next(), negated: negated)
        case "iifname":
            let negated = negation()
            try appendInterface(try next(), negated: negated)
        case "mark":
            let negated = negation()
            try appendMark(try next(), negated: negated)
        case "fib": try readAddressType()
        default: throw NotUnderstood(word: start)
        }
    }

    // MARK: - nft's words

    /// Takes the operator, if one is written.
    private mutating func negation() -> Bool {
        guard words.first == "!=" || words.first == "==" else { return false }
        return words.popFirst() == "!="
    }

    private mutating func readAddress(of end: String) throws(NotUnderstood) {
        let field: Field
        switch end {
        case "saddr": field = .source(family)
        case "daddr": field = .destination(family)
        default: throw NotUnderstood(word: end)
        }
        let negated = negation()
        try append(field, address: try next(), negated: negated)
    }

    private mutating func readPort(of end: String) throws(NotUnderstood) {
        let field: Field
        switch end {
        case "sport": field = .sourcePort
        case "dport": field = .destinationPort
        default: throw NotUnderstood(word: end)
        }
        let negated = negation()
        try append(field, ports: try next(), between: "-", negated: negated)
    }

    private mutating func readAddressType() throws(NotUnderstood) {
        let end = try next()
        let fields = ["saddr": Field.sourceAddressType, "daddr": .destinationAddressType]
        guard let field = fields[end] else { throw NotUnderstood(word: end) }
        let type = try next()
        guard type == "type" else { throw NotUnderstood(word: type) }
        let negated = negation()
        let value = try next()
        guard value == "local" else { throw NotUnderstood(word: value) }
        statements.append(.match(field, .local, negated: negated))
    }

    // MARK: - iptables' words

    private mutating func readOption(_ option: String, negated: Bool) throws(NotUnderstood) {
        switch option {
        case "-s", "--source", "--src": try append(.source(family), address: try next(), negated: negated)
        case "-d", "--destination", "--dst": try append(.destination(family), address: try next(), negated: negated)
        case "-i", "--in-interface": try appendInterface(try next(), negated: negated)
        case "-p", "--protocol": try append(.transportProtocol, transport: try next(), negated: negated)
        case "--sport", "--source-port": try append(.sourcePort, ports: try next(), between: ":", negated: negated)
        case "--dport", "--destination-port":
            try append(.destinationPort, ports: try next(), between: ":", negated: negated)
        default: throw NotUnderstood(word: option)
        }
    }

    // MARK: - Values

    private mutating func append(_ field: Field, address word: String, negated: Bool) throws(NotUnderstood) {
        guard let prefix = IPPrefix(word)?.network ?? IPAddress(word)?.hostPrefix, prefix.family == family else {
            throw NotUnderstood(word: word)
        }
        statements.append(.match(field, .prefix(prefix), negated: negated))
    }

    private mutating func append(_ field: Field, transport word: String, negated: Bool) throws(NotUnderstood) {
        guard let transport = TransportProtocol(word) else { throw NotUnderstood(word: word) }
        statements.append(.match(field, .transport(transport), negated: negated))
    }

    private mutating func append(
        _ field: Field, ports word: String, between separator: Character, negated: Bool
    ) throws(NotUnderstood) {
        let ports = word.split(separator: separator, omittingEmptySubsequences: false).compactMap { Port(String($0)) }
        switch ports.count {
        case 1 where !word.contains(separator):
            statements.append(.match(field, .port(ports[0]), negated: negated))
        case 2 where ports[0] < ports[1]:
            statements.append(.match(field, .ports(ports[0]...ports[1]), negated: negated))
        default: throw NotUnderstood(word: word)
        }
    }

    private mutating func appendInterface(_ word: String, negated: Bool) throws(NotUnderstood) {
        // A trailing asterisk or plus is a pattern, which is a condition of another kind.
        guard let name = InterfaceName(word), !word.hasSuffix("*"), !word.hasSuffix("+") else {
            throw NotUnderstood(word: word)
        }
        statements.append(.match(.inputInterfaceName, .interface(name), negated: negated))
    }

    private mutating func appendMark(_ word: String, negated: Bool) throws(NotUnderstood) {
        let digits = word.hasPrefix("0x") ? UInt32(word.dropFirst(2), radix: 16) : UInt32(word)
        guard let number = digits else { throw NotUnderstood(word: word) }
        statements.append(.match(.packetMark, .mark(MaskedMark(number, mask: .max)), negated: negated))
    }
}

extension AddressFamily {
    fileprivate var headerName: String { self == .ipv4 ? "ip" : "ip6" }
}
