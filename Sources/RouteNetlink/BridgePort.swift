/// How a bridge treats one of its ports.
public struct BridgePort: Hashable, Sendable {
    /// Whether a packet may leave by the port it came in.
    public var isHairpin: Bool
    /// Whether the port exchanges packets only with ports that are not isolated.
    public var isIsolated: Bool

    public init(isHairpin: Bool, isIsolated: Bool) {
        self.isHairpin = isHairpin
        self.isIsolated = isIsolated
    }
}
