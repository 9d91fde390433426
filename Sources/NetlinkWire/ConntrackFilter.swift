public import NetworkAddresses

/// What connections have in common that are to be forgotten together.
///
/// Nil stands for anything.
public struct ConntrackFilter: Hashable, Sendable {
    /// One of the two tuples of a connection: as its first packet was, or as the answers come (`CTA_TUPLE_*`, and by the
    /// same numbers `CTA_FILTER_*_FLAGS`).
    public enum Direction: UInt16, CaseIterable, Sendable {
        case original = 1
        case reply = 2
    }

    public var direction: Direction
    public var family: AddressFamily
    public var source: IPAddress?
    public var destination: IPAddress?
    /// The protocol, and the port that its packets of this direction go to.
    public var service: Service?

    /// A port of a protocol.
    public struct Service: Hashable, Sendable {
        public var transport: TransportProtocol
        public var port: Port

        public init(_ transport: TransportProtocol, _ port: Port) {
            self.transport = transport
            self.port = port
        }
    }

    /// The connections whose packets of one direction come from `source`.
    public init(_ direction: Direction, from source: IPAddress) {
        (self.direction, family, self.source) = (direction, source.family, source)
    }

    /// The connections of a family that were begun with a port, of `destination` or of any address.
    public init(_ family: AddressFamily, to service: Service, at destination: IPAddress?) {
        (direction, self.family, self.destination, self.service) = (.original, family, destination, service)
    }

    /// Whether a connection is one of these.
    public func matches(_ entry: ConntrackEntry) -> Bool {
        let tuple = direction == .original ? entry.original : entry.reply
        return tuple.source.family == family && (source ?? tuple.source) == tuple.source
            && (destination ?? tuple.destination) == tuple.destination
            && service.map { $0.transport == tuple.transport && $0.port == tuple.destinationPort } ?? true
    }
}

extension ConntrackFilter: CustomStringConvertible {
    public var description: String {
        let port = service.map { "\($0.transport) " } ?? ""
        let ends = (source?.description ?? "*", destination?.description ?? "*", service.map { ":\($0.port)" } ?? "")
        return "\(direction) \(port)\(ends.0) → \(ends.1)\(ends.2)"
    }
}
