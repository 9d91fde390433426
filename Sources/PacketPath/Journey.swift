public import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// A way's end.
public struct PathEnd: Hashable, Sendable {
    public var verdict: PathVerdict
    public var reason: ReasonCode
    /// One sentence that names the cause.
    public var cause: String
    public var place: Place
    /// What policy refused, where it did.
    public var denial: PolicyDenial?
}

/// A refusal by policy, as far as the kernel's rules tell.
public struct PolicyDenial: Hashable, Sendable {
    public var direction: NetworkPolicy.Direction
    /// The pod that is isolated.
    public var pod: NamespacedName?
    /// The policies that isolate it, as the rule names them.
    public var policies: [NamespacedName]
    /// The packet that was refused, behind any NAT.
    public var packet: Packet
}

/// Something that is not as it should be though the packet passes.
public struct Finding: Hashable, Sendable {
    public var reason: ReasonCode
    public var text: String
}

/// A packet under way: where it has been and what each place remembers of it.
struct Journey {
    var packet: Packet
    var isReply = false
    var hops: [Hop] = []
    var findings: [Finding] = []
    /// What conntrack knows at each place, and which of it the packet belongs to where it is now.
    private var connections: [Place: [Connection]] = [:]
    private var current = 0
    /// The service's endpoint that was picked.
    var backend: Backend?
    /// The size of the sender's packets, from its interface.
    var senderMTU: Int?
    var end: PathEnd?
    /// How many places were passed, so that a circle is noticed.
    var crossings = 0

    init(_ packet: Packet) { self.packet = packet }

    /// Notes a step at which nothing but this is to say.
    mutating func add(
        _ stage: Hop.Stage, _ text: String, at place: Place, _ evidence: Evidence, status: Hop.Status = .ok,
        owners: [Owner] = [], before: Packet? = nil, outer: Packet? = nil, hook: Hook? = nil
    ) {
        hops.append(
            Hop(
                place: place, stage: stage, status: status, text: text, owners: owners, evidence: evidence,
                packet: before ?? packet, packetAfter: before.flatMap { $0.moved(to: packet) }, outer: outer, hook: hook
            ))
    }

    /// Notes the last step and ends the journey.
    ///
    /// - Parameter cause: The sentence for the verdict; the step's own text where none is given.
    func ended(
        _ verdict: PathVerdict, _ reason: ReasonCode, _ stage: Hop.Stage, _ text: String, at place: Place,
        _ evidence: Evidence, cause: String? = nil, owners: [Owner] = [], outer: Packet? = nil, hook: Hook? = nil,
        denial: PolicyDenial? = nil
    ) -> [Journey] {
        var journey = self
        let status: Hop.Status =
            switch verdict {
            case .reachable: .ok
            case .denied: .denied
            case .broken, .partial: .broken
            case .inconclusive: .unknown
            }
        journey.add(stage, text, at: place, evidence, status: status, owners: owners, outer: outer, hook: hook)
        journey.end = PathEnd(
            verdict: verdict, reason: reason, cause: cause ?? "\(place): \(text)", place: place, denial: denial)
        return [journey]
    }

    func broken(
        _ reason: ReasonCode, _ stage: Hop.Stage, _ text: String, at place: Place, _ evidence: Evidence,
        cause: String? = nil, outer: Packet? = nil
    ) -> [Journey] {
        ended(.broken, reason, stage, text, at: place, evidence, cause: cause, outer: outer)
    }

    func inconclusive(_ stage: Hop.Stage, _ text: String, at place: Place, cause: String? = nil) -> [Journey] {
        ended(.inconclusive, .inconclusive, stage, text, at: place, Evidence(.computed), cause: cause)
    }
}

extension Journey {
    /// The packet's connection at the place.
    ///
    /// Where the packet enters, conntrack looks for its connection and else makes one.
    mutating func track(_ point: Hook.Point, at place: Place) -> Connection {
        guard point == .prerouting || point == .output else { return connections[place]![current] }
        for (index, known) in (connections[place] ?? []).enumerated() {
            let isAnswer = known.reply.matches(packet)
            guard isAnswer || known.original.matches(packet) else { continue }
            current = index
            var found = known
            found.direction = isAnswer ? .reply : .original
            if isReply {
                found.state = .established
                found.status.insert(.seenReply)
            }
            return found
        }
        var fresh = Connection(openedBy: packet)
        // An answer of a connection that this place never saw: TCP's cannot open one, a datagram does.
        if !packet.opensConnection, packet.protocolNumber == TransportProtocol.tcp.rawValue { fresh.state = .invalid }
        connections[place, default: []].append(fresh)
        current = connections[place]!.count - 1
        return fresh
    }

    mutating func remember(_ connection: Connection, at place: Place) { connections[place]![current] = connection }
}

/// An endpoint that a service picked.
public struct Backend: Hashable, Sendable {
    public var service: NamespacedName?
    /// Nil for an endpoint that is no pod.
    public var pod: NamespacedName?
    /// `shop/api-1`, or the address and port of an endpoint that is no pod.
    public var name: String
    /// Its place among the service's endpoints, from 1, and how many there are.
    public var number: Int
    public var count: Int
}

extension Packet {
    /// The later state of this packet, where NAT made it differ.
    func moved(to later: Packet) -> Packet? { tuple == later.tuple ? nil : later }

    /// `10.244.1.2:40000`, without a port where there is none.
    static func end(_ address: IPAddress, _ port: Port?) -> String {
        port.map { "\(address.bracketed):\($0)" } ?? "\(address)"
    }

    var destinationText: String { Self.end(destination, destinationPort) }
    var sourceText: String { Self.end(source, sourcePort) }
}

extension ConnectionTuple {
    /// Whether a packet belongs to this direction; a port that nobody knows may be any.
    func matches(_ packet: Packet) -> Bool {
        func same(_ one: Port?, _ other: Port?) -> Bool { one == nil || other == nil || one == other }
        return source == packet.source && destination == packet.destination && protocolNumber == packet.protocolNumber
            && same(sourcePort, packet.sourcePort) && same(destinationPort, packet.destinationPort)
    }
}
