import ArgumentParser
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses

struct LabRequestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "request",
        abstract: "Sends requests from a pod and says which pods answered.",
        discussion: """
            The target is a service or a pod of the lab, or an address, with a port:

              fairlead lab request deployment/frontend -n shop --to svc/catalog:80 --count 20
              fairlead lab request web-0 --to pod/db-0:5432
              fairlead lab request web-0 --to 10.244.2.3:80
              fairlead lab request web-0 --to '[fd00:10:244:2::3]:80' --udp

            A service or pod of another namespace is written svc/payments.billing:443. It ends with 0 where every \
            request was answered, and with 1 otherwise.
            """)

    @OptionGroup var lab: LabOptions
    @OptionGroup var namespace: NamespaceOptions

    @Argument(help: ArgumentHelp("The pod that asks, or a workload for its first pod.", valueName: "pod"))
    var pod: String

    @Option(help: ArgumentHelp("Whom to ask.", valueName: "target"))
    var to: RequestTarget

    @Option(help: ArgumentHelp("How many requests, 1 to 10000.", valueName: "number"))
    var count = 1

    @Flag(help: "Send datagrams instead of opening connections.")
    var udp = false

    @Flag(name: .customShort("6"), help: "Use the target's IPv6 address.")
    var ipv6 = false

    @Option(
        help: ArgumentHelp("How long to wait for each answer, in milliseconds, 1 to 60000.", valueName: "milliseconds"))
    var timeout = 2000

    func validate() throws {
        guard (1...10000).contains(count) else { throw ValidationError("--count must be 1 to 10000") }
        guard (1...60000).contains(timeout) else { throw ValidationError("--timeout must be 1 to 60000") }
        _ = try ObjectArgument(pod)
    }

    func run() async throws {
        try LabCommand.requireRoot()
        let state = try LabState.open(lab.name)
        let pod = try ObjectArgument(pod).pod(in: state, namespace: namespace.namespace)
        let target = try to.address(in: state, namespace: namespace.namespace, family: ipv6 ? .ipv6 : .ipv4)
        guard let network = try NetworkNamespace.open(named: pod.namespaceName) else {
            throw LabError(
                "the network namespace \(pod.namespaceName) is gone", advice: "See 'fairlead lab status\(state.flag)'.")
        }
        let timeout = Duration.milliseconds(timeout)
        var answers: [String: Int] = [:]
        var failures: [String: Int] = [:]
        try network.withEntered { () throws(KernelError) in
            for _ in 0..<count {
                // An end of line, so that a server need not wait for more.
                let outcome =
                    udp
                    ? try Probe.udp(to: target, timeout: timeout)
                    : try Probe.tcp(to: target, timeout: timeout, send: "\n")
                switch outcome {
                case .reply(let text):
                    // A datagram's answer also tells the client's address.
                    let name = text.split { $0 == " " || $0 == "\n" }.first.map(String.init) ?? "an empty answer"
                    answers[name, default: 0] += 1
                case .refused: failures["refused: nobody listens there", default: 0] += 1
                case .timeout: failures["no answer within \(self.timeout) ms", default: 0] += 1
                case .unreachable(let errno): failures["unreachable: \(errno)", default: 0] += 1
                }
            }
        }
        try StandardStreams.writeOutput("\(pod.key.name) → \(target) (\(udp ? "udp" : "tcp"))\n")
        for (name, number) in answers.sorted(by: { $0.key < $1.key }) {
            let node = state.pods.first { $0.key.name == name }.map { " on \($0.node)" } ?? ""
            try StandardStreams.writeOutput("  \(number) × answered by \(name)\(node)\n")
        }
        for (reason, number) in failures.sorted(by: { $0.key < $1.key }) {
            try StandardStreams.writeOutput("  \(number) × \(reason)\n")
        }
        if !failures.isEmpty { throw ExitCode.failure }
    }
}

/// What requests go to: `svc/catalog:80`, `svc/catalog.shop:http`, `pod/db-0:5432`, `10.96.0.10:80`, `[fd00::1]:80`.
struct RequestTarget: ExpressibleByArgument {
    private enum Host {
        case address(IPAddress)
        case object(ObjectKind, String)
    }

    private var host: Host
    /// A number, or the name of a service's port.
    private var port: String

    init?(argument: String) {
        guard let colon = argument.lastIndex(of: ":") else { return nil }
        let text = String(argument[..<colon])
        port = String(argument[argument.index(after: colon)...])
        guard !port.isEmpty else { return nil }
        if let address = IPAddress(
            text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text)
        {
            host = .address(address)
        } else if let object = try? ObjectArgument(text), object.kind == .pod || object.kind == .service {
            host = .object(object.kind, object.name)
        } else {
            return nil
        }
    }

    /// The address and port meant.
    func address(in lab: LabState, namespace: String, family: AddressFamily) throws -> SocketAddress {
        switch host {
        case .address(let address): return SocketAddress(address, try number())
        case .object(let kind, let text):
            let snapshot = try lab.snapshot()
            let key = try key(of: text, kind, namespace: namespace, in: snapshot, lab)
            let addresses: [IPAddress]
            var number: Port?
            if kind == .service, let service = snapshot.services[key] {
                addresses = service.clusterIPs
                number = service.ports.first { $0.name == port }?.number
            } else {
                addresses = snapshot.pods[key]?.addresses ?? []
            }
            guard let address = addresses.first(where: { $0.family == family }) else {
                throw LabError("\(kind) \(key) has no \(family) address")
            }
            return SocketAddress(address, try number ?? self.number())
        }
    }

    /// The object's name: as written, or the part before the last dot where the rest is a namespace.
    private func key(
        of text: String, _ kind: ObjectKind, namespace: String, in snapshot: ClusterSnapshot, _ lab: LabState
    ) throws -> NamespacedName {
        func isThere(_ key: NamespacedName) -> Bool {
            kind == .service ? snapshot.services[key] != nil : snapshot.pods[key] != nil
        }
        var candidates = [NamespacedName(namespace: namespace, name: text)]
        if let dot = text.lastIndex(of: ".") {
            candidates.append(
                NamespacedName(namespace: String(text[text.index(after: dot)...]), name: String(text[..<dot])))
        }
        guard let key = candidates.first(where: isThere) else {
            throw LabError(
                "there is no \(kind) \(candidates[0])",
                advice: "'fairlead lab get all -A\(lab.flag)' lists what there is.")
        }
        return key
    }

    private func number() throws -> Port {
        guard let number = Port(port) else {
            throw LabError("\"\(port)\" is no port of the target, and no number of 1 to 65535")
        }
        return number
    }
}
