import Foundation
import KernelInterface
import NetworkAddresses
import RouteNetlink

/// A service proxy in a node of its own, followed from outside.
///
/// All endpoints' addresses lead back to the node, where somebody listens on the ports that slices name and says which
/// it was: so a connection tells which state of the objects it was translated by.
final class ServiceProxy {
    enum Kind {
        case fairlead, kubeProxy
    }

    /// What was measured.
    struct Figures {
        var fromEmpty = Measurement()
        var change = Measurement()
        var resident: [Int] = []
        var processor: [Double] = []
    }

    private let kind: Kind
    private let program: String
    private let control: ControlPlane
    private let node: NetworkNamespace
    private let kubeconfig: String
    private let folder: String
    private let backends: [Backend]
    private var process: ChildProcess?
    private(set) var figures = Figures()

    /// Joins a namespace to the API server's by a veth pair.
    init(_ kind: Kind, _ program: String, number: Int, control: ControlPlane) throws {
        guard FileManager.default.isExecutableFile(atPath: program) else {
            throw BenchError("\(program) cannot be run")
        }
        (self.kind, self.program, self.control) = (kind, program, control)
        let node = try NetworkNamespace.anonymous()
        let (server, own) = ("172.30.\(number).1", "172.30.\(number).2")
        let routes = try control.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let inside = try node.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let (outer, inner) = (InterfaceName("node\(number)")!, InterfaceName("eth0")!)
        try routes.addVeth(NewLink(outer, isUp: true), peer: NewLink(inner), in: node)
        guard let veth = try routes.link(named: outer), let eth0 = try inside.link(named: inner) else {
            throw BenchError("the veth pair vanished")
        }
        try routes.add(InterfaceAddress(IPPrefix("\(server)/24")!, link: veth.index))
        try inside.change(link: 1, LinkChange(isUp: true))
        try inside.add(InterfaceAddress(IPPrefix("\(own)/24")!, link: eth0.index))
        try inside.change(link: eth0.index, LinkChange(isUp: true))
        try inside.add(Route(to: IPPrefix("0.0.0.0/0")!, via: IPAddress(server)!, link: eth0.index))
        _ = try node.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "ip", ["route", "add", "local", "10.128.0.0/9", "dev", "lo"], timeout: .seconds(10))
        }
        kubeconfig = try control.kubeconfig(server: server)
        folder = "\(control.folder)/node\(number)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        backends = try [Backend.original, Backend.changed].map { try Backend(port: $0, in: node) }
        for backend in backends { backend.start() }
        self.node = node
    }

    deinit {
        stop()
        for backend in backends { backend.end() }
    }

    private var arguments: [String] {
        switch kind {
        case .fairlead:
            ["--kubeconfig", kubeconfig, "--node-name", "n1", "--state-dir", folder, "--components", "services"]
        case .kubeProxy:
            // The conntrack settings are the initial namespace's, which is not ours to change.
            [
                "--kubeconfig", kubeconfig, "--hostname-override", "n1", "--proxy-mode", "nftables",
                "--conntrack-max-per-core", "0", "--conntrack-min", "0", "--conntrack-tcp-timeout-established", "0",
                "--conntrack-tcp-timeout-close-wait", "0",
            ]
        }
    }

    private func stop() {
        guard let process else { return }
        control.stop(process)
        self.process = nil
    }

    private func clear() throws {
        stop()
        try node.withEntered { () throws(KernelError) in
            let socket = try NftablesSocket.open()
            for table in try socket.tables() { try socket.removeTable(table) }
        }
    }

    /// Starts the proxy on a node without rules, and waits until services from all over answer.
    func fromEmpty(_ objects: ServedObjects) throws {
        try clear()
        let start = ContinuousClock.now
        let process = try control.start(program, arguments, log: name, in: node)
        self.process = process
        for number in objects.sample {
            while try answer(of: objects.address(number), within: .milliseconds(20)) == nil {
                guard ContinuousClock.now < start + .seconds(1800) else {
                    throw BenchError("\(name): service-\(number) does not answer after half an hour")
                }
            }
        }
        figures.fromEmpty.add(ContinuousClock.now - start)
        // What comes after, such as the other address family, belongs to the memory and the processor's time.
        sleep(2)
        figures.resident.append(Self.resident(of: process.pid))
        figures.processor.append(Self.processorSeconds(of: process.pid))
    }

    /// Gives one service's endpoints another port, again and again, and times it from the request to the first
    /// connection that arrives there.
    func changed(_ objects: ServedObjects, times: Int) async throws {
        for time in 0..<times {
            // The last change is over and done with; a kube-proxy also rests for a second after each.
            sleep(2)
            let number = (time * 7919) % objects.services
            let control = control
            let request = Task.detached {
                try control.request(
                    "\(ServedObjects.slices)/service-\(number)-1",
                    body: "{\"ports\":[{\"name\":\"http\",\"port\":\(Backend.changed)}]}",
                    method: "PATCH", type: "application/merge-patch+json")
            }
            let limit = ContinuousClock.now + .seconds(300)
            while try answer(of: objects.address(number), within: .milliseconds(200)) != "\(Backend.changed)" {
                // Asked without a pause, the question would take the processor from the one who is asked about.
                usleep(1000)
                guard ContinuousClock.now < limit else {
                    throw BenchError("\(name): service-\(number) does not change within five minutes")
                }
            }
            let seen = ContinuousClock.now
            let answer = try await request.value
            guard answer.code == 200 else { throw BenchError("PATCH: \(answer.answer)") }
            figures.change.add(seen - answer.sent)
            let back = try control.request(
                "\(ServedObjects.slices)/service-\(number)-1",
                body: "{\"ports\":[{\"name\":\"http\",\"port\":\(Backend.original)}]}",
                method: "PATCH", type: "application/merge-patch+json")
            guard back.code == 200 else { throw BenchError("PATCH: \(back.answer)") }
            while try self.answer(of: objects.address(number), within: .milliseconds(200)) != "\(Backend.original)" {
                usleep(1000)
            }
        }
        stop()
    }

    private func answer(of address: IPAddress, within patience: Duration) throws -> String? {
        let outcome = try node.withEntered { () throws(KernelError) in
            try Probe.tcp(to: SocketAddress(address, Port(80)!), timeout: patience, send: "x\n")
        }
        guard case .reply(let text) = outcome else { return nil }
        return text.split(whereSeparator: \.isWhitespace).joined()
    }
}

// MARK: - What a process uses

extension ServiceProxy {
    /// Megabytes.
    private static func resident(of pid: Int32) -> Int {
        let status = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return (line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) } ?? 0) / 1024
    }

    /// Of the process and of the children it has waited for.
    private static func processorSeconds(of pid: Int32) -> Double {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)) ?? ""
        // utime, stime, cutime, cstime: fields 14 to 17 of proc_pid_stat(5), the first after the name being 3.
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        return fields.dropFirst(11).prefix(4).compactMap { Double($0) }.reduce(0, +)
            / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    private var name: String { kind == .fairlead ? "fairlead-agent" : "kube-proxy" }

    func printFigures() {
        report(
            "\(name): process start to all services answering", figures.fromEmpty.median.milliseconds,
            target: kind == .fairlead ? "2 s at 10,000 x 2" : "")
        report(
            "\(name): one change, request sent to first connection by it, median / worst",
            "\(figures.change.median.milliseconds) / \(figures.change.percentile(1).milliseconds)")
        report(
            "\(name): resident memory / processor time so far",
            "\(figures.resident.sorted()[figures.resident.count / 2]) MB / \(String(format: "%.1f", figures.processor.sorted()[figures.processor.count / 2])) s"
        )
    }

    /// How many times as much this one takes.
    func printRatio(to own: ServiceProxy) {
        func times(_ a: Double, _ b: Double) -> String { String(format: "%.1f x", a / b) }
        let (peer, ours) = (figures, own.figures)
        report("ratio: from empty", times(peer.fromEmpty.median / ours.fromEmpty.median, 1))
        report("ratio: one change", times(peer.change.median / ours.change.median, 1))
        report(
            "ratio: resident memory / processor time",
            "\(times(Double(peer.resident.max()!), Double(ours.resident.max()!))) / \(times(peer.processor.max()!, ours.processor.max()!))"
        )
    }
}

/// Listens on one of the ports that slices name, for every address, and answers with the port.
private final class Backend: Sendable {
    static let original = 8080
    static let changed = 8081

    private let server: PodServer
    private let stop: StopSignal

    init(port: Int, in namespace: borrowing NetworkNamespace) throws {
        server = try namespace.withEntered { () throws(KernelError) in
            try PodServer.open(podName: "\(port)", tcpPorts: [Port(port)!], udpPorts: [])
        }
        stop = try StopSignal.open()
    }

    func start() { Thread.detachNewThread { self.server.serve(until: self.stop) } }

    func end() { stop.send() }
}
