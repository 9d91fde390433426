import class Foundation.Thread
import Glibc
import KubernetesObjects
import Lab
import NetworkAddresses
import Synchronization

@testable import KernelInterface

/// Numbered datagrams from a pod to a service, one each millisecond, and back from whichever pod they reach.
///
/// A number that is missing at either end is a lost packet, since nothing is ever sent again.
final class NumberedStream: Sendable {
    struct Tally: Sendable {
        var sent: UInt32 = 0
        /// What arrived at the pods, and at which.
        var arrived: [UInt32] = []
        var pods: Set<String> = []
        /// What came back to the client.
        var returned: [UInt32] = []
        var trouble: String?
        fileprivate var isEnding = false
        fileprivate var hasEnded = false
    }

    private let tally = Mutex(Tally())

    var now: Tally { tally.withLock(\.self) }

    /// Begins to send.
    ///
    /// - Parameter answering: The pods that send back what comes in at `port`.
    init(from client: LabPod, to service: SocketAddress, answering pods: [LabPod], at port: Port) throws(KernelError) {
        let family = service.address.family
        let sender = try client.inside { () throws(KernelError) in
            let socket = try Descriptor.socket(.udp, family, for: "open a stream's socket")
            let raw = socket.rawValue
            try systemCall("connect to \(service)") {
                RawSocketAddress.lend(RawSocketAddress.bytes(service.address, port: service.port.rawValue)) {
                    connect(raw, $0, $1)
                }
            }
            return Connection(owning: fcntl(raw, F_DUPFD_CLOEXEC, 3))
        }
        var echoes: [(socket: Connection, pod: String)] = []
        for pod in pods {
            let echo = try pod.inside { () throws(KernelError) in
                let socket = try Descriptor.socket(.udp, family, for: "open a pod's socket")
                try socket.bind(IPAddress(number: 0, family: family)!, port: port.rawValue, for: "listen on \(port)")
                return Connection(owning: fcntl(socket.rawValue, F_DUPFD_CLOEXEC, 3))
            }
            echoes.append((echo, pod.key.name))
        }
        Thread.detachNewThread { [self, echoes] in run(sender, echoes) }
    }

    private func run(_ sender: Connection, _ echoes: [(socket: Connection, pod: String)]) {
        var requests = ([sender] + echoes.map(\.socket)).map { pollfd(fd: $0.rawValue, events: Int16(POLLIN), revents: 0) }
        var next = ContinuousClock.now
        while true {
            let isEnding = tally.withLock(\.isEnding)
            if !isEnding, ContinuousClock.now >= next {
                next = .now + .milliseconds(1)
                send(by: sender)
            }
            // What is under way when the last has been sent has two seconds.
            let count = poll(&requests, nfds_t(requests.count), isEnding ? 2000 : 1)
            if count == 0, isEnding { break }
            if requests[0].revents != 0 { takeReturned(sender) }
            for (request, echo) in zip(requests.dropFirst(), echoes) where request.revents != 0 { answer(echo.socket, echo.pod) }
        }
        tally.withLock { $0.hasEnded = true }
    }

    private func send(by sender: Connection) {
        tally.withLock { tally in
            tally.sent += 1
            let text = Array("\(tally.sent)".utf8)
            if Glibc.send(sender.rawValue, text, text.count, 0) != text.count {
                tally.trouble = tally.trouble ?? "number \(tally.sent) cannot be sent: error \(errno)"
            }
        }
    }

    private func takeReturned(_ sender: Connection) {
        var buffer = [UInt8](repeating: 0, count: 64)
        let count = recv(sender.rawValue, &buffer, buffer.count, 0)
        tally.withLock { tally in
            if let number = Self.number(buffer, count) {
                tally.returned.append(number)
            } else {
                tally.trouble = tally.trouble ?? "the client was told of error \(errno) after \(tally.sent)"
            }
        }
    }

    private func answer(_ socket: Connection, _ pod: String) {
        var buffer = [UInt8](repeating: 0, count: 64)
        var count = 0
        let client = RawSocketAddress.filled { count = recvfrom(socket.rawValue, &buffer, buffer.count, 0, $0, $1) }
        guard let client, let number = Self.number(buffer, count) else { return }
        RawSocketAddress.lend(RawSocketAddress.bytes(client.address, port: client.port.rawValue)) {
            _ = sendto(socket.rawValue, buffer, count, 0, $0, $1)
        }
        tally.withLock { tally in
            tally.arrived.append(number)
            tally.pods.insert(pod)
        }
    }

    private static func number(_ buffer: [UInt8], _ count: Int) -> UInt32? {
        count > 0 ? UInt32(String(decoding: buffer[..<count], as: UTF8.self)) : nil
    }

    /// Sends no more, waits for what is under way, and tells what became of everything.
    func end() -> Tally {
        tally.withLock { $0.isEnding = true }
        while !tally.withLock(\.hasEnded) { usleep(1000) }
        return now
    }
}

/// Lines to a service and back on one connection, each waiting for the one before.
final class LineStream: Sendable {
    struct Tally: Sendable {
        var answers = 0
        var trouble: String?
        fileprivate var isEnding = false
        fileprivate var hasEnded = false
    }

    private let connection: ProbeConnection
    private let tally = Mutex(Tally())

    init(from client: LabPod, to service: SocketAddress) throws(KernelError) {
        connection = try client.inside { () throws(KernelError) in
            try ProbeConnection.open(.tcp, to: service, timeout: .seconds(10))
        }
        try connection.send("stream\n", timeout: .seconds(5))
        Thread.detachNewThread { [self] in run() }
    }

    private func run() {
        var partner: Substring?
        do {
            while !tally.withLock(\.isEnding) {
                let number = tally.withLock(\.answers)
                let answer = try connection.exchange(line: "\(number)", timeout: .seconds(20))
                let words = answer.split(separator: " ")
                guard words.count == 2, words[1] == "\(number)", partner == nil || partner == words[0] else {
                    tally.withLock { $0.trouble = "\(answer) is the answer to \(number)" }
                    break
                }
                partner = words[0]
                tally.withLock { $0.answers += 1 }
                usleep(1000)
            }
        } catch {
            tally.withLock { $0.trouble = "\(error)" }
        }
        tally.withLock { $0.hasEnded = true }
    }

    /// Ends the connection, and tells how many lines came back.
    func end() -> Tally {
        tally.withLock { $0.isEnding = true }
        while !tally.withLock(\.hasEnded) { usleep(1000) }
        return tally.withLock(\.self)
    }
}
