/// The VLANs that a port of a bridge takes part in.
public struct PortVLANs: Hashable, Sendable {
    /// The VLAN of what comes without a tag, and without a tag it leaves (`pvid untagged`); 1…4094.
    public var untagged: UInt16?
    /// The VLANs whose packets come and leave with their tag; each within 1…4094.
    public var tagged: [ClosedRange<UInt16>]
    /// Whether the port stays in the VLAN that the bridge puts every new port into.
    public var keepsDefault: Bool

    public init(untagged: UInt16?, tagged: [ClosedRange<UInt16>] = [], keepsDefault: Bool = false) {
        self.untagged = untagged
        self.tagged = tagged
        self.keepsDefault = keepsDefault
    }
}

extension PortVLANs: CustomStringConvertible {
    public var description: String {
        let untagged = self.untagged.map { "VLAN \($0)" } ?? "no VLAN of its own"
        let tagged = self.tagged.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
        return untagged + (tagged.isEmpty ? "" : ", tagged \(tagged.joined(separator: " "))")
            + (keepsDefault ? ", the bridge's as well" : "")
    }
}
