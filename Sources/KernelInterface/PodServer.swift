import CLinux
import Glibc
public import NetworkAddresses
import SystemPackage

/// The lab's stand-in for a pod's containers: listens on their ports and answers with the pod's name.
///
/// - TCP: an HTTP request gets an HTTP answer, anything else the name in a line; the connection is then closed. A
///   client that says nothing gets the name after 200 ms. A client that sends the line `stream` keeps its connection,
///   and every later line comes back with the name in front.
/// - UDP: every datagram is answered with the name and the client's address.
///
/// One thread serves all, and no client can make it wait: a client that is slow, silent or hostile costs one of a
/// bounded number of places, which it loses to newer ones.
public struct PodServer: ~Copyable, Sendable {
    let podName: String
    let listeners: [Listener]

    /// Opens every port in both families; `EADDRINUSE` where one is taken, and then none stays open.
    ///
    /// IPv4 and IPv6 have sockets of their own, so that a client's address is always told in its own family. Where the
    /// kernel has no IPv6, there are the IPv4 ones.
    public static func open(
        podName: String, tcpPorts: Set<Port>, udpPorts: Set<Port>
    ) throws(KernelError) -> PodServer {
        var listeners: [Listener] = []
        for (transport, ports) in [(TransportProtocol.tcp, tcpPorts), (.udp, udpPorts)] {
            for port in ports.sorted() {
                for family in AddressFamily.allCases {
                    do throws(KernelError) {
                        listeners.append(try Listener(transport, family, port))
                    } catch where family == .ipv6 && error.errno == .addressFamilyNotSupported {
                        continue
                    }
                }
            }
        }
        return PodServer(podName: podName, listeners: listeners)
    }

    /// Opens the ports, calls `ready`, and serves until `SIGTERM` or `SIGINT`: all of the stand-in's program.
    public static func run(
        podName: String, tcpPorts: Set<Port>, udpPorts: Set<Port>, ready: () -> Void
    ) throws(KernelError) {
        let stop = try StopSignal.onTermination()
        let server = try open(podName: podName, tcpPorts: tcpPorts, udpPorts: udpPorts)
        ready()
        server.serve(until: stop)
    }

    /// Answers clients until the signal is given.
    public func serve(until stop: borrowing StopSignal) {
        var clients = PodClients(podName: podName)
        let (stopDescriptor, events) = (stop.descriptor.rawValue, Int16(POLLIN))
        while true {
            var requests = [pollfd(fd: stopDescriptor, events: events, revents: 0)]
            requests += listeners.map { pollfd(fd: $0.socket, events: events, revents: 0) }
            requests += clients.pollRequests
            let now = ContinuousClock.now
            let timeout = clients.nextDeadline.map { max($0 - now, .zero).pollMilliseconds } ?? -1
            // Interrupted: the clients' deadlines are looked at, and the wait begins anew.
            if poll(&requests, nfds_t(requests.count), timeout) > 0 {
                guard requests[0].revents == 0 else { return }
                clients.serve(requests.dropFirst(1 + listeners.count).filter { $0.revents != 0 }.map(\.fd))
                for (listener, request) in zip(listeners, requests.dropFirst()) where request.revents != 0 {
                    switch listener.transport {
                    case .udp: answerDatagrams(at: listener.socket)
                    default: clients.accept(at: listener.socket)
                    }
                }
            }
            clients.expire(at: .now)
        }
    }

    private func answerDatagrams(at socket: Int32) {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        // Bounded, so that a flood of datagrams does not shut out everybody else.
        for _ in 0..<64 {
            var received = 0
            let client = RawSocketAddress.filled { address, length in
                received = recvfrom(socket, &buffer, buffer.count, 0, address, length)
            }
            // An error may also be the news that an earlier answer found no one (ECONNREFUSED): go on either way.
            guard received >= 0 else { return }
            guard let client else { continue }
            let answer = Array("\(podName) \(client)\n".utf8)
            RawSocketAddress.lend(RawSocketAddress.bytes(client.address, port: client.port.rawValue)) {
                _ = sendto(socket, answer, answer.count, 0, $0, $1)
            }
        }
    }

    /// One open port.
    final class Listener: Sendable {
        let transport: TransportProtocol
        private let descriptor: Descriptor

        var socket: Int32 { descriptor.rawValue }

        init(_ transport: TransportProtocol, _ family: AddressFamily, _ port: Port) throws(KernelError) {
            let operation = "listen on \(family) \(transport) port \(port)"
            let socket = try Descriptor.socket(transport, family, for: operation)
            if family == .ipv6 { try socket.enable(IPV6_V6ONLY, level: Int32(IPPROTO_IPV6), for: operation) }
            if transport == .tcp { try socket.enable(SO_REUSEADDR, level: SOL_SOCKET, for: operation) }
            try socket.bind(IPAddress(number: 0, family: family)!, port: port.rawValue, for: operation)
            let raw = socket.rawValue
            if transport == .tcp { try systemCall(operation) { listen(raw, 512) } }
            self.transport = transport
            descriptor = socket
        }
    }
}
