internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// A trace as JSON: everything that any renderer or program may want, in names that stay.
///
/// Absent keys mean "does not apply"; keys are added, never renamed and never given another meaning.
public struct TraceDocument: Codable, Hashable, Sendable {
    public var apiVersion = "diag.fairlead.dev/v1"
    public var kind = "Trace"
    public var spec: Spec
    public var status: Status

    public struct Spec: Codable, Hashable, Sendable {
        public var from: String
        public var to: String
        public var `protocol`: String
        public var family: String?
        public var backend: String?
        public var mode = "static"
    }

    public struct Status: Codable, Hashable, Sendable {
        public var verdict: PathVerdict
        public var reasonCode: ReasonCode
        /// One sentence; empty where nothing is wrong.
        public var summary: String
        public var exitCode: Int32
        public var branches: [Branch]
    }

    public struct Branch: Codable, Hashable, Sendable {
        public var backend: Backend?
        public var verdict: PathVerdict
        public var reasonCode: ReasonCode
        public var summary: String
        public var at: String
        public var hops: [Hop]
        public var reply: [Hop]
        public var nearMiss: NearMiss?
        public var warnings: [Warning]
    }

    public struct Backend: Codable, Hashable, Sendable {
        public var name: String
        public var service: String?
        public var pod: String?
        public var number: Int
        public var count: Int
    }

    public struct Warning: Codable, Hashable, Sendable {
        public var reasonCode: ReasonCode
        public var text: String
    }

    public struct NearMiss: Codable, Hashable, Sendable {
        public var policy: String
        public var rulePath: String?
        public var failed: [String]
        public var text: String
        public var options: [String]
    }

    public struct Hop: Codable, Hashable, Sendable {
        public var seq: Int
        public var node: String
        /// `host`, or the pod whose network it is.
        public var netns: String
        public var stage: String
        public var decision: String
        public var text: String
        public var hook: String?
        public var priority: Int32?
        public var iif: String?
        public var oif: String?
        public var packetIn: Packet
        public var packetOut: Packet?
        public var outer: Packet?
        public var owner: [Owner]
        public var evidence: Evidence
    }

    public struct Packet: Codable, Hashable, Sendable {
        public var src: String
        public var sport: Int?
        public var dst: String
        public var dport: Int?
    }

    public struct Owner: Codable, Hashable, Sendable {
        public var kind: String
        public var namespace: String?
        public var name: String
        public var role: String
        public var rulePath: String?
    }

    public struct Evidence: Codable, Hashable, Sendable {
        public var source: String
        public var table: String?
        public var chain: String?
        public var handle: UInt64?
        public var generation: UInt32?
        public var rule: String?
    }
}

extension TraceDocument {
    public init(_ trace: Trace) {
        spec = Spec(
            from: trace.from, to: trace.to, protocol: trace.request.transport.description,
            family: trace.packet.map { $0.family.description }, backend: trace.request.backend)
        let leading = trace.leading
        status = Status(
            verdict: trace.verdict, reasonCode: trace.reason,
            summary: leading.end.verdict == .reachable ? trace.findings.first?.text ?? "" : leading.end.cause,
            exitCode: trace.verdict.exitCode, branches: trace.branches.map(Branch.init))
    }
}

extension TraceDocument.Branch {
    fileprivate init(_ branch: Trace.Branch) {
        backend = branch.backend.map {
            .init(
                name: $0.name, service: $0.service?.description, pod: $0.pod?.description, number: $0.number,
                count: $0.count)
        }
        verdict = branch.end.verdict
        reasonCode = branch.end.reason
        summary = branch.end.verdict == .reachable ? "" : branch.end.cause
        at = branch.end.place.description
        hops = branch.hops.enumerated().map { .init($1, number: $0 + 1) }
        reply = branch.reply.enumerated().map { .init($1, number: $0 + 1) }
        nearMiss = branch.nearMiss.map {
            .init(
                policy: $0.policy.description, rulePath: $0.rulePath, failed: $0.failed.map(\.kind.rawValue),
                text: $0.text,
                options: $0.options)
        }
        warnings = branch.findings.map { .init(reasonCode: $0.reason, text: $0.text) }
    }
}

extension TraceDocument.Hop {
    fileprivate init(_ hop: Hop, number: Int) {
        seq = number
        node = hop.place.node
        switch hop.place {
        case .node: netns = "host"
        case .pod(let key, _): netns = "pod \(key)"
        }
        stage = hop.stage.rawValue
        decision = hop.status.rawValue
        text = hop.text
        hook = hop.hook?.point.description
        priority = hop.hook?.priority
        iif = hop.packet.input?.name.description
        oif = hop.packet.output?.name.description
        packetIn = .init(hop.packet)
        packetOut = hop.packetAfter.map { .init($0) }
        outer = hop.outer.map { .init($0) }
        owner = hop.owners.map {
            .init(
                kind: $0.object.kind.description, namespace: $0.object.namespace, name: $0.object.name,
                role: $0.role.rawValue, rulePath: $0.rulePath)
        }
        evidence = .init(
            source: hop.evidence.source.rawValue, table: hop.evidence.table?.description, chain: hop.evidence.chain,
            handle: hop.evidence.handle, generation: hop.evidence.generation, rule: hop.evidence.rule)
    }
}

extension TraceDocument.Packet {
    fileprivate init(_ packet: Packet) {
        src = packet.source.description
        sport = packet.sourcePort.map { Int($0.rawValue) }
        dst = packet.destination.description
        dport = packet.destinationPort.map { Int($0.rawValue) }
    }
}
