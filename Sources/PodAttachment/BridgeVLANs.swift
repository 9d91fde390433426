internal import CNIProtocol
public import NetworkAddresses
public import RouteNetlink

/// The keys `vlan`, `vlanTrunk` and `preserveDefaultVlan` of the `bridge` plugin.
public struct BridgeVLANs: Hashable, Sendable {
    /// The VLANs of a pod's port.
    public var port: PortVLANs
    /// The VLAN that the network is in; nil where it is only a trunk, whose gateway is in the bridge's own.
    public var network: UInt16?
    /// The interface of the node that has the VLAN's gateways, where there is one VLAN: `<bridge>.<vlan>`.
    public var gateway: InterfaceName?

    /// Nil where the keys ask for nothing.
    init?(_ reader: ConfigurationReader, bridge: InterfaceName) throws(CNIError) {
        let number = try reader.integer("vlan") ?? 0
        guard (0...4094).contains(number) else {
            throw reader.fault("vlan", "invalid VLAN ID \(number) (must be between 0 and 4094)")
        }
        let trunk = try Self.trunk(reader)
        guard number != 0 || !trunk.isEmpty else { return nil }
        network = number == 0 ? nil : UInt16(number)
        // A trunk without a VLAN for what has no tag has had VLAN 1 for it since before there was `vlan`.
        port = PortVLANs(
            untagged: network ?? 1, tagged: trunk, keepsDefault: try reader.isTrue("preserveDefaultVlan"))
        if let network {
            guard let name = InterfaceName("\(bridge).\(network)") else {
                throw reader.fault(
                    "vlan", "\(bridge).\(network), which the gateway is on, is too long for an interface")
            }
            gateway = name
        }
    }

    /// The VLANs of all entries, each once, in runs.
    private static func trunk(_ reader: ConfigurationReader) throws(CNIError) -> [ClosedRange<UInt16>] {
        var numbers: Set<UInt16> = []
        for entry in try reader.objects("vlanTrunk") {
            if let first = try number("minID", of: entry), let last = try number("maxID", of: entry) {
                guard first <= last else {
                    throw entry.fault("minID", "minID is greater than maxID in trunk parameter")
                }
                numbers.formUnion(first...last)
            } else {
                for (key, other) in [("minID", "maxID"), ("maxID", "minID")] where try entry.integer(key) != nil {
                    throw entry.fault(
                        other, "minID and maxID should be configured simultaneously, \(other) is missing")
                }
            }
            if let single = try number("id", of: entry) { numbers.insert(single) }
        }
        return numbers.sorted().reduce(into: []) { runs, number in
            if let last = runs.last, last.upperBound + 1 == number {
                runs[runs.count - 1] = last.lowerBound...number
            } else {
                runs.append(number...number)
            }
        }
    }

    private static func number(_ key: String, of entry: ConfigurationReader) throws(CNIError) -> UInt16? {
        guard let number = try entry.integer(key) else { return nil }
        guard (1...4094).contains(number) else { throw entry.fault(key, "incorrect trunk \(key) parameter") }
        return UInt16(number)
    }
}
