public import NetworkAddresses

/// Addresses of one subnet that may be handed out, both ends included.
public struct AddressRange: Hashable, Sendable, CustomStringConvertible {
    /// The network whose prefix length and gateway the addresses get.
    public let subnet: IPPrefix
    public let first: IPAddress
    public let last: IPAddress
    /// Never handed out, wherever it lies.
    public let gateway: IPAddress

    /// Makes a range, filling in what is not given: the first address after the network's, the last one before IPv4's
    /// broadcast address, and the network's first address as the gateway.
    public init(
        subnet: IPPrefix, first: IPAddress? = nil, last: IPAddress? = nil, gateway: IPAddress? = nil
    ) throws(RangeError) {
        let family = subnet.family
        guard subnet.length <= family.bitWidth - 2 else {
            throw RangeError("Network \(subnet) too small to allocate from")
        }
        guard subnet.isNetwork else {
            throw RangeError(
                "Network has host bits set. For a subnet mask of length \(subnet.length) the network address is "
                    + "\(subnet.first)")
        }
        for (name, address) in [("RangeStart", first), ("RangeEnd", last)] {
            if let address, !subnet.contains(address) {
                throw RangeError("\(name) \(address) not in network \(subnet)")
            }
        }
        if let gateway, gateway.family != family {
            throw RangeError("gateway \(gateway) is not of the family of \(subnet)")
        }
        // The subnet has four addresses or more, so neither sum leaves it.
        let host = subnet.first.number
        let end = subnet.last.number - (family == .ipv4 ? 1 : 0)
        self.subnet = subnet
        self.first = first ?? IPAddress(number: host + 1, family: family) ?? subnet.first
        self.last = last ?? IPAddress(number: end, family: family) ?? subnet.last
        self.gateway = gateway ?? IPAddress(number: host + 1, family: family) ?? subnet.first
        guard self.first <= self.last else {
            throw RangeError("RangeStart \(self.first) is behind RangeEnd \(self.last)")
        }
    }

    public var family: AddressFamily { subnet.family }

    public func contains(_ address: IPAddress) -> Bool {
        address.family == family && first <= address && address <= last
    }

    func overlaps(_ other: AddressRange) -> Bool {
        family == other.family && first <= other.last && other.first <= last
    }

    /// How many addresses can be handed out.
    var capacity: UInt128 {
        // One less than the count, lest the whole of IPv6 overflow.
        let distance = last.number - first.number
        return contains(gateway) ? distance : distance == .max ? .max : distance + 1
    }

    public var description: String { "\(first)-\(last)" }
}

/// Ranges of one family that serve as one pool: an attachment gets one address out of it.
public struct RangeSet: Hashable, Sendable, CustomStringConvertible {
    public let ranges: [AddressRange]

    public init(_ ranges: [AddressRange]) throws(RangeError) {
        guard let family = ranges.first?.family else { throw RangeError("empty range set") }
        guard ranges.allSatisfy({ $0.family == family }) else { throw RangeError("mixed address families") }
        for (index, range) in ranges.enumerated() {
            if let other = ranges[(index + 1)...].first(where: range.overlaps) {
                throw RangeError("subnets \(range) and \(other) overlap")
            }
        }
        self.ranges = ranges
    }

    /// The family of every range.
    public var family: AddressFamily { ranges[0].family }

    public func range(of address: IPAddress) -> AddressRange? { ranges.first { $0.contains(address) } }

    func overlaps(_ other: RangeSet) -> Bool { ranges.contains { other.ranges.contains(where: $0.overlaps) } }

    /// How many addresses can be handed out.
    public var capacity: UInt128 {
        ranges.reduce(0) { sum, range in
            let (total, overflow) = sum.addingReportingOverflow(range.capacity)
            return overflow ? .max : total
        }
    }

    public var description: String { ranges.map(\.description).joined(separator: ",") }

    /// Makes sure that no address is in two sets, by the sets' places in the configuration.
    public static func checkDisjoint(_ sets: [RangeSet]) throws(RangeError) {
        for (index, set) in sets.enumerated() {
            for other in sets.indices.dropFirst(index + 1) where set.overlaps(sets[other]) {
                throw RangeError("range set \(index) overlaps with \(other)")
            }
        }
    }
}

/// Why ranges cannot be used; the wording is host-local's.
public struct RangeError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}
