import Glibc
import KernelInterface
import NetworkAddresses
import RouteNetlink
import SystemPackage
import Testing

@testable import fairlead_cni

/// A server in a namespace for as long as the value lives: it answers with its name, and by UDP with its client's
/// address.
final class Server {
    private let shared: Serving
    private let thread: pthread_t

    init(_ name: String, tcp: Set<Int> = [], udp: Set<Int> = [], in namespace: borrowing NetworkNamespace) throws {
        let server = try namespace.withEntered { () throws(KernelError) in
            try PodServer.open(
                podName: name, tcpPorts: Set(tcp.compactMap { Port($0) }), udpPorts: Set(udp.compactMap { Port($0) }))
        }
        shared = Serving(server: server, stop: try StopSignal.open())
        thread = shared.start()
    }

    deinit {
        shared.stop.send()
        pthread_join(thread, nil)
    }

    private final class Serving: Sendable {
        let server: PodServer
        let stop: StopSignal

        init(server: consuming PodServer, stop: consuming StopSignal) {
            self.server = server
            self.stop = stop
        }

        func start() -> pthread_t {
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { context in
                    let serving = Unmanaged<Serving>.fromOpaque(context!).takeRetainedValue()
                    serving.server.serve(until: serving.stop)
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            return thread
        }
    }
}

/// A machine beside the node, on a network that both share: 198.51.100.0/24 and fd00:51::/64, the node with .1 and ::1.
final class Outside {
    let namespace: NetworkNamespace

    init(beside node: Node) throws {
        namespace = try NetworkNamespace.anonymous()
        let there = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let host = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try host.addVeth(NewLink(name("uplink"), isUp: true), peer: NewLink(name("eth0"), isUp: true), in: namespace)
        let (here, far) = (try host.link(named: name("uplink"))!.index, try there.link(named: name("eth0"))!.index)
        for (prefix, other) in [("198.51.100.1/24", "198.51.100.2/24"), ("fd00:51::1/64", "fd00:51::2/64")] {
            try host.add(InterfaceAddress(IPPrefix(prefix)!, link: here))
            try there.add(InterfaceAddress(IPPrefix(other)!, link: far))
        }
        while try host.decide(to: IPAddress("fd00:51::1")!).kind != .local { usleep(200) }
        while try !host.link(index: here)!.isRunning || !there.link(index: far)!.isRunning { usleep(200) }
    }
}

/// What a client in a namespace is answered; nil where nothing comes back.
func ask(
    _ transport: TransportProtocol, _ address: String, _ port: Int, from namespace: borrowing NetworkNamespace,
    source: String? = nil
) throws -> String? {
    let destination = SocketAddress(IPAddress(address)!, Port(port)!)
    let source = source.flatMap { IPAddress($0) }
    let outcome = try namespace.withEntered { () throws(KernelError) in
        switch transport {
        case .tcp: try Probe.tcp(to: destination, from: source, timeout: .seconds(2), send: "hello\n")
        default: try Probe.udp(to: destination, from: source, timeout: .seconds(1))
        }
    }
    guard case .reply(let text) = outcome else { return nil }
    return text.split(separator: "\n").first.map(String.init)
}

extension NetworkNamespace {
    /// What a program prints in this namespace.
    func output(of program: String, _ arguments: String..., input: String = "") throws -> String {
        try withEntered { () throws(KernelError) in
            try ChildProcess.capture(program, arguments, input: Array(input.utf8), timeout: .seconds(20)).text
        }
    }
}
