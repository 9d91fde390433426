public import NetworkAddresses
public import Nftables

/// What rules ask beyond the packet: the members of sets, and the machine's own addresses.
///
/// In the product the kernel answers; in tests the ruleset's own elements do (`RulesetElements`).
public protocol RulesetEnvironment {
    /// The element that a lookup of the key finds, the range that holds it in an interval set; nil where there is none.
    func element(_ key: ElementKey, of set: String, in table: TableName) throws -> Element?

    /// The type of the address in this machine's routing (`RTN_*`): 1 unicast, 2 local, 3 broadcast, 5 multicast …
    func addressType(of address: IPAddress) throws -> UInt32

    /// The source address that `masquerade` gives a packet leaving by this interface; nil where it finds none.
    func masqueradeAddress(on interface: PacketInterface, towards destination: IPAddress) throws -> IPAddress?
}

/// Rulesets that answer for themselves, for tests and for tables that are not in any kernel.
public struct RulesetElements: RulesetEnvironment, Sendable {
    public var rulesets: [TableName: Ruleset]
    /// This machine's own addresses, in the order in which `masquerade` takes them.
    public var localAddresses: [IPAddress]

    public init(_ rulesets: [Ruleset], localAddresses: [IPAddress] = []) {
        self.rulesets = Dictionary(rulesets.map { ($0.table, $0) }) { first, _ in first }
        self.localAddresses = localAddresses
    }

    public func element(_ key: ElementKey, of set: String, in table: TableName) -> Element? {
        guard let set = rulesets[table]?.sets[set] else { return nil }
        if !set.definition.isInterval { return set.elements[key] }
        return set.elements.values.first { $0.key <= key && key <= ($0.last ?? $0.key) }
    }

    public func addressType(of address: IPAddress) -> UInt32 {
        if address.isLoopback || localAddresses.contains(address) { return 2 }
        return address.isMulticast ? 5 : 1
    }

    public func masqueradeAddress(on interface: PacketInterface, towards destination: IPAddress) -> IPAddress? {
        localAddresses.first { $0.family == destination.family }
    }
}
