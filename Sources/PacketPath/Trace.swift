public import KubernetesObjects
public import NetworkAddresses

/// A question: what becomes of a connection from here to there.
public struct TraceRequest: Hashable, Sendable {
    public enum Source: Hashable, Sendable {
        case pod(NamespacedName)
        case node(String)
    }

    public enum Target: Hashable, Sendable {
        case pod(NamespacedName)
        case service(NamespacedName)
        case node(String)
        case address(IPAddress)
    }

    public var source: Source
    public var target: Target
    /// A number, or the name of a service's or a container's port; nil where there is only one to choose from.
    public var port: String?
    public var transport: TransportProtocol
    /// Nil for the first family that both ends have.
    public var family: AddressFamily?
    /// Only this endpoint of a service: a pod's name, with or without its namespace, or an address.
    public var backend: String?

    public init(
        from source: Source, to target: Target, port: String? = nil, _ transport: TransportProtocol = .tcp,
        family: AddressFamily? = nil, backend: String? = nil
    ) {
        self.source = source
        self.target = target
        self.port = port
        self.transport = transport
        self.family = family
        self.backend = backend
    }
}

/// Why a question could not even be asked.
public struct TraceError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}

/// The answer: what becomes of the connection's first packet at every backend, and of the answers.
public struct Trace: Hashable, Sendable {
    /// One backend's way; a target that is no service has one branch without a backend.
    public struct Branch: Hashable, Sendable {
        public var backend: Backend?
        public var end: PathEnd
        public var hops: [Hop]
        /// The answer's way back, where the packet got there.
        public var reply: [Hop]
        public var findings: [Finding]
        public var nearMiss: NearMiss?
    }

    public var request: TraceRequest
    /// The ends as a person would say them: `shop/web-0`, `svc pay/api:80`.
    public var from: String
    public var to: String
    /// The packet as the sender makes it; nil where there was none to make.
    public var packet: Packet?
    public var branches: [Branch]
    public var verdict: PathVerdict

    /// The branch that the verdict is about: the first that is not reachable, or just the first.
    public var leading: Branch { branches.first { $0.end.verdict != .reachable } ?? branches[0] }

    /// The code of the verdict; of a packet that passes, that of what is not as it should be.
    public var reason: ReasonCode {
        let leading = leading
        return leading.end.verdict == .reachable ? leading.findings.first?.reason ?? .allowed : leading.end.reason
    }
}

/// Follows a connection's first packet through the cluster, and its answer back.
///
/// Assumed is a new connection from a port of the sender's choice; whether a conntrack entry of an older one is in its
/// way is not looked at.
public func trace(_ request: TraceRequest, in cluster: any PathCluster) throws(TraceError) -> Trace {
    let question = try TraceQuestion(request, cluster)
    guard let packet = question.packet else { return question.unanswerable }
    let walk = PathWalk(cluster: cluster)
    var branches = walk.originate(Journey(packet), at: question.place).map { journey in
        Trace.Branch(journey, reply: walk.answer(to: journey, sent: packet, from: question.place), in: cluster)
    }
    // Random choices that made no difference are one branch.
    var seen: Set<Trace.Branch> = []
    branches = branches.filter { seen.insert($0).inserted }
    if let wanted = request.backend {
        let names = branches.compactMap(\.backend?.name)
        branches = branches.filter { $0.backend?.isCalled(wanted) ?? false }
        guard !branches.isEmpty else {
            throw TraceError(
                "\(question.to) has no backend \(wanted)"
                    + (names.isEmpty ? "" : "; it has \(names.sorted().joined(separator: ", "))"))
        }
    }
    branches.sort { ($0.backend?.number ?? 0) < ($1.backend?.number ?? 0) }
    return Trace(
        request: request, from: question.from, to: question.to, packet: packet, branches: branches,
        verdict: PathVerdict(over: branches.map(\.end.verdict)))
}

extension Backend {
    fileprivate func isCalled(_ wanted: String) -> Bool {
        wanted == name || wanted == pod?.name || name.hasPrefix("\(wanted):") || name.hasPrefix("[\(wanted)]:")
    }
}

extension Trace.Branch {
    init(_ journey: Journey, reply: Journey?, in cluster: any PathCluster) {
        backend = journey.backend
        hops = journey.hops
        self.reply = reply?.hops ?? []
        findings = journey.findings
        // Every journey ends; one that did not is our own mistake, and no reason to claim anything.
        end =
            journey.end
            ?? PathEnd(
                verdict: .inconclusive, reason: .inconclusive, cause: "the walk did not come to an end",
                place: journey.hops.last?.place ?? .node("?"), denial: nil)
        if let back = reply?.end, back.verdict != .reachable {
            end = back
            end.cause = "the packet arrives, but not its answer: " + back.cause
        }
        nearMiss = end.denial.flatMap { NearMiss($0, in: cluster) }
    }
}
