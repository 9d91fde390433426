import ArgumentParser
import Foundation
import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import PacketPath

struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Says what becomes of a connection, step by step, and why.",
        discussion: """
            Follows a connection's first packet through a lab: the pod's route, the service and the endpoint it picks, \
            the policies, the tunnel, the other node, the listening socket, and the answer's way back. It asks each \
            kernel on the way and sends nothing.

              fairlead trace pod/web-0 -n shop --to svc/api:80
              fairlead trace shop/pod/web-0 --to pay/svc/api:http --backend api-1
              fairlead trace pod/web-0 -n shop --to pod/db-0:5432 --family ipv6
              fairlead trace deploy/web -n shop --to 10.96.0.10:53 --proto udp -o json

            Ends with 0 where the connection works, 2 where a policy denies it, 3 where something is broken, 4 where \
            that cannot be told, 5 where some backends work and others do not, and 1 where the question makes no sense.
            """)

    @Argument(
        help: ArgumentHelp("Who connects: pod/NAME, NAMESPACE/pod/NAME, deploy/NAME, node/NAME.", valueName: "from"))
    var source: String

    @Option(
        help: ArgumentHelp("Where to: svc/NAME:PORT, pod/NAME:PORT, node/NAME:PORT, ADDRESS:PORT.", valueName: "target")
    )
    var to: String

    @OptionGroup var namespace: NamespaceOptions

    @Option(
        help: ArgumentHelp("The protocol: tcp, udp or sctp.", valueName: "protocol"), transform: transportProtocol)
    var proto = TransportProtocol.tcp

    @Option(
        help: ArgumentHelp(
            "The address family: ipv4 or ipv6. Without, the first that both ends have.", valueName: "family"),
        transform: addressFamily)
    var family: AddressFamily?

    @Option(help: ArgumentHelp("Only this endpoint of the service: a pod's name or an address.", valueName: "name"))
    var backend: String?

    @Option(
        name: [.long, .customLong("name")],
        help: ArgumentHelp("The lab: 1 to 20 lower-case letters, digits and inner dashes.", valueName: "name"))
    var lab = LabName.default

    @Option(name: .shortAndLong, help: ArgumentHelp("The form: table or json.", valueName: "form"))
    var output = OutputForm.table

    @Flag(
        name: .shortAndLong, help: "Show every backend, every step of the answer, and where each statement comes from.")
    var verbose = false

    @Flag(help: "No colour, even on a terminal. NO_COLOR in the environment says the same.")
    var noColor = false

    enum OutputForm: String, ExpressibleByArgument {
        case table, json
    }

    func validate() throws { _ = try ends() }

    private func ends() throws -> (from: TraceEnd, to: TraceEnd) {
        let from = try TraceEnd(source, namespace: namespace.namespace)
        if let port = from.port {
            throw ValidationError("\"\(source)\" has a port, \(port); the sender's port is its own choice")
        }
        return (from, try TraceEnd(to, namespace: namespace.namespace))
    }

    func run() throws {
        let trace: Trace
        do {
            try LabCommand.requireRoot()
            let (from, target) = try ends()
            let state = try LabState.open(lab)
            let cluster = try LabPathCluster(state)
            let request = TraceRequest(
                from: try from.source(in: state), to: try target.target(in: state), port: target.port, proto,
                family: family,
                backend: backend)
            trace = try PacketPath.trace(request, in: cluster)
        } catch {
            try StandardStreams.writeError("error: \(error)\n")
            throw ExitCode(1)
        }
        try StandardStreams.writeOutput(try text(trace))
        guard trace.verdict.exitCode == 0 else { throw ExitCode(trace.verdict.exitCode) }
    }

    private func text(_ trace: Trace) throws -> String {
        switch output {
        case .table: return TraceText(isColoured: isColoured, isVerbose: verbose).text(trace)
        case .json:
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(TraceDocument(trace)), as: UTF8.self) + "\n"
        }
    }

    /// https://no-color.org: any value but an empty one.
    private var isColoured: Bool {
        !noColor && isatty(1) == 1 && (StandardStreams.environment()["NO_COLOR"] ?? "").isEmpty
    }
}

extension TraceEnd {
    fileprivate func source(in lab: LabState) throws -> TraceRequest.Source {
        switch subject {
        case .object(.pod, let key): return .pod(key)
        case .object(.node, let key): return .node(key.name)
        case .object(let kind, let key) where kind.hasPods:
            return .pod(try ObjectArgument("\(kind)/\(key.name)").pod(in: lab, namespace: key.namespace).key)
        case .object(let kind, let key):
            throw TraceError("\(kind) \(key) does not connect: name a pod, a workload or a node")
        case .address(let address):
            guard let pod = lab.pod(at: address) else {
                throw TraceError("no pod of lab \(lab.name) has the address \(address)")
            }
            return .pod(pod.key)
        }
    }

    fileprivate func target(in lab: LabState) throws -> TraceRequest.Target {
        switch subject {
        case .object(.pod, let key): return .pod(key)
        case .object(.service, let key): return .service(key)
        case .object(.node, let key): return .node(key.name)
        case .object(let kind, let key) where kind.hasPods:
            return .pod(try ObjectArgument("\(kind)/\(key.name)").pod(in: lab, namespace: key.namespace).key)
        case .object(let kind, let key):
            throw TraceError(
                "\(kind) \(key) is nothing to connect to: name a service, a pod, a workload, a node or an address")
        case .address(let address): return .address(address)
        }
    }
}

extension ObjectKind {
    fileprivate var hasPods: Bool {
        switch self {
        case .deployment, .statefulSet, .daemonSet, .replicaSet: true
        default: false
        }
    }
}

/// Values of options, read by hand so that no other command is bound to the same words.
private func transportProtocol(_ text: String) throws -> TransportProtocol {
    guard let transport = TransportProtocol(text) else {
        throw ValidationError("\"\(text)\" is none of tcp, udp, sctp")
    }
    return transport
}

private func addressFamily(_ text: String) throws -> AddressFamily {
    switch text.lowercased() {
    case "ipv4", "4": return .ipv4
    case "ipv6", "6": return .ipv6
    default: throw ValidationError("\"\(text)\" is none of ipv4, ipv6")
    }
}
