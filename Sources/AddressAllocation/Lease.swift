public import NetworkAddresses

/// Who an address is leased to: an interface of a container.
public struct LeaseOwner: Hashable, Sendable, CustomStringConvertible {
    public var containerID: String
    public var interface: InterfaceName

    public init(containerID: String, interface: InterfaceName) {
        self.containerID = containerID
        self.interface = interface
    }

    public var description: String { "\(containerID) (\(interface))" }
}

/// An address and who has it.
public struct Lease: Hashable, Sendable {
    public var address: IPAddress
    public var owner: LeaseOwner

    public init(_ address: IPAddress, owner: LeaseOwner) {
        self.address = address
        self.owner = owner
    }
}

/// What an attachment asks of the pools: one address of each set, some of them by name.
public struct AddressRequest: Hashable, Sendable {
    /// One address is handed out of each.
    public let sets: [RangeSet]
    /// For each set the address that must be the one, where the request names it.
    public let named: [IPAddress?]

    /// Finds the set of each address in `requested`.
    ///
    /// Each set takes the first requested address that lies in it; it is an error when one is left over, or is the
    /// gateway.
    public init(sets: [RangeSet], requested: [IPAddress]) throws(RangeError) {
        var left = requested.reduce(into: [IPAddress]()) { if !$0.contains($1) { $0.append($1) } }
        var named: [IPAddress?] = []
        for (place, set) in sets.enumerated() {
            guard let index = left.firstIndex(where: { set.range(of: $0) != nil }) else {
                named.append(nil)
                continue
            }
            let address = left.remove(at: index)
            guard set.range(of: address)?.gateway != address else {
                throw RangeError("failed to allocate for range \(place): requested ip \(address) is subnet's gateway")
            }
            named.append(address)
        }
        guard left.isEmpty else {
            throw RangeError(
                "failed to allocate all requested IPs: " + left.map(\.description).joined(separator: " "))
        }
        self.sets = sets
        self.named = named
    }
}

/// How long a freed address rests before it is handed out again.
///
/// Connection tracking, neighbour caches and other nodes' knowledge of the address's last owner live on for a while; an
/// address reused at once gets the last owner's traffic.
public struct CoolDown: Hashable, Sendable {
    public var rest: Duration

    public init(rest: Duration) { self.rest = rest }

    /// Long enough for conntrack's UDP entries (30 s) and for neighbour entries to be asked about again.
    public static let standard = CoolDown(rest: .seconds(30))

    /// Whether an address freed at `freed` rests still. Both are times since boot: what was freed in the future was
    /// freed before the last boot, and nothing remembers it.
    public func isResting(freed: Duration, now: Duration) -> Bool { freed <= now && now - freed < rest }
}
