public import NetworkAddresses

extension String: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        guard case .string(let text) = field.value else { throw field.mismatch("a string") }
        self = text
    }
}

extension Int: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        guard case .integer(let number) = field.value else { throw field.mismatch("a whole number") }
        self = number
    }
}

extension Bool: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        guard case .bool(let value) = field.value else { throw field.mismatch("true or false") }
        self = value
    }
}

extension Array: FieldReadable where Element: FieldReadable {
    /// Reads a list of which every element must be readable.
    public init(reading field: FieldReader) throws(FieldError) {
        self = []
        for element in try field.elements() { append(try element.read()) }
    }
}

extension Dictionary: FieldReadable where Key == String, Value == String {
    /// Reads labels or another map of strings to strings.
    public init(reading field: FieldReader) throws(FieldError) {
        self = [:]
        for entry in try field.map()?.entries ?? [] {
            self[entry.key] = try field[entry.key].read(as: String.self)
        }
    }
}

extension Port: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        let number = try field.read(as: Int.self)
        guard let port = Port(number) else { throw field.error("\(number) is no port (1 to 65535)") }
        self = port
    }
}

extension TransportProtocol: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        self = try field.choice(["TCP": .tcp, "UDP": .udp, "SCTP": .sctp], default: .tcp)
    }
}

extension IPAddress: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        let text = try field.read(as: String.self)
        guard let address = IPAddress(sloppy: text) else {
            throw field.error("\(FieldValue.quoted(text)) is no IP address")
        }
        self = address
    }

    /// Parses as Kubernetes does: leading zeros of IPv4 are passed over, and an IPv4-mapped address is IPv4.
    ///
    /// Objects that were accepted by old API servers still hold such addresses.
    init?(sloppy text: String) {
        if let address = IPAddress(text) {
            guard case .v6(let v6) = address, v6.rawValue >> 32 == 0xffff else {
                self = address
                return
            }
            self = .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: v6.rawValue)))
            return
        }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { part in
            let digits = part.drop { $0 == "0" }
            return digits.isEmpty && !part.isEmpty ? "0" : String(digits)
        }
        guard text.utf8.count <= 64, parts.count == 4, let address = IPv4Address(parts.joined(separator: ".")) else {
            return nil
        }
        self = .v4(address)
    }
}

extension IPPrefix: FieldReadable {
    /// Reads a network; host bits are passed over, as `10.0.0.1/24` is in objects of old API servers.
    public init(reading field: FieldReader) throws(FieldError) {
        let text = try field.read(as: String.self)
        guard let prefix = IPPrefix(sloppy: text) else {
            throw field.error("\(FieldValue.quoted(text)) is no network in CIDR notation")
        }
        self = prefix.network
    }

    /// Parses an address as Kubernetes does, and a length that is required.
    init?(sloppy text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(sloppy: String(parts[0])),
            (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let length = Int(parts[1])
        else { return nil }
        // An IPv4-mapped network counts its length from the start of the IPv6 address.
        let isMapped = address.family == .ipv4 && parts[0].contains(":")
        self.init(address, length: isMapped ? length - 96 : length)
    }
}

extension AddressFamily: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        switch try field.read(as: String.self) {
        case "IPv4": self = .ipv4
        case "IPv6": self = .ipv6
        default: throw field.error("\(field.value.excerpt) is none of IPv4, IPv6")
        }
    }
}
