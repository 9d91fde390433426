import CLinux
import Glibc
public import NetworkAddresses
public import SystemPackage

/// A client that tries whether something answers, from the calling thread's network namespace.
public enum Probe {
    /// What came of a try.
    public enum Outcome: Hashable, Sendable {
        /// The answer, as far as it is text.
        case reply(String)
        /// The destination said that nobody listens, or broke the connection off.
        case refused
        /// Nothing came back in time.
        case timeout
        /// The kernel, ours or another's on the way, said why the packet cannot get there.
        case unreachable(Errno)
    }

    /// Connects, sends, and reads until the other side closes.
    ///
    /// - Parameter source: The address to come from; nil for the kernel's choice.
    public static func tcp(
        to destination: SocketAddress, from source: IPAddress? = nil, timeout: Duration, send text: String = ""
    ) throws(KernelError) -> Outcome {
        try outcome { () throws(KernelError) in
            let deadline = ContinuousClock.now + timeout
            let connection = try ProbeConnection.open(.tcp, to: destination, from: source, deadline: deadline)
            try connection.send(text, until: deadline)
            return try connection.receive(until: deadline) { _ in false }
        }
    }

    /// Sends a datagram and waits for one that answers it.
    public static func udp(
        to destination: SocketAddress, from source: IPAddress? = nil, timeout: Duration, send text: String = "probe"
    ) throws(KernelError) -> Outcome {
        try outcome { () throws(KernelError) in
            let deadline = ContinuousClock.now + timeout
            let connection = try ProbeConnection.open(.udp, to: destination, from: source, deadline: deadline)
            try connection.send(text, until: deadline)
            return try connection.receive(until: deadline) { _ in true }
        }
    }

    /// Tells errors that are an answer of the network from those that are none.
    private static func outcome(_ body: () throws(KernelError) -> [UInt8]) throws(KernelError) -> Outcome {
        do {
            return .reply(String(decoding: try body(), as: UTF8.self))
        } catch {
            switch error.errno {
            case .connectionRefused, .connectionReset, .brokenPipe: return .refused
            case .timedOut: return .timeout
            // The last two: an administrator's, by a rule or a route that prohibits.
            case .noRouteToHost, .networkUnreachable, .hostIsDown, .permissionDenied, .notPermitted:
                return .unreachable(error.errno)
            default: throw error
            }
        }
    }
}

/// A connection that lasts as long as its value: for what happens to flows that are already there.
public struct ProbeConnection: ~Copyable, Sendable {
    private let socket: Descriptor
    private let destination: SocketAddress

    /// Connects; `ECONNREFUSED`, `ETIMEDOUT` or `EHOSTUNREACH` where that does not succeed. UDP always does: the other
    /// side learns of it with the first text.
    public static func open(
        _ transport: TransportProtocol = .tcp, to destination: SocketAddress, from source: IPAddress? = nil,
        timeout: Duration
    ) throws(KernelError) -> ProbeConnection {
        try open(transport, to: destination, from: source, deadline: .now + timeout)
    }

    static func open(
        _ transport: TransportProtocol, to destination: SocketAddress, from source: IPAddress?,
        deadline: ContinuousClock.Instant
    ) throws(KernelError) -> ProbeConnection {
        let operation = "connect to \(transport) \(destination)"
        let socket = try Descriptor.socket(transport, destination.address.family, for: operation)
        if let source { try socket.bind(source, port: 0, for: "\(operation) from \(source)") }
        let raw = socket.rawValue
        do {
            let address = RawSocketAddress.bytes(destination.address, port: destination.port.rawValue)
            try systemCall(operation) { RawSocketAddress.lend(address) { connect(raw, $0, $1) } }
        } catch where error.errno == .nowInProgress {
            guard wait(raw, for: Int16(POLLOUT), until: deadline) else {
                throw KernelError(operation: operation, errno: .timedOut)
            }
            var code: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            try systemCall(operation) { getsockopt(raw, SOL_SOCKET, SO_ERROR, &code, &size) }
            guard code == 0 else { throw KernelError(operation: operation, errno: Errno(rawValue: code)) }
        }
        return ProbeConnection(socket: socket, destination: destination)
    }

    private init(socket: consuming Descriptor, destination: SocketAddress) {
        self.socket = socket
        self.destination = destination
    }

    /// The address and port the kernel chose for this end.
    public var localAddress: SocketAddress? {
        RawSocketAddress.filled { _ = getsockname(socket.rawValue, $0, $1) }
    }

    /// Sends a line and waits for one to come back: `ETIMEDOUT` where none does, `ECONNRESET` where the other side has
    /// closed.
    public func exchange(line: String, timeout: Duration) throws(KernelError) -> String {
        let deadline = ContinuousClock.now + timeout
        try send(line + "\n", until: deadline)
        let answer = try receive(until: deadline) { $0.last == UInt8(ascii: "\n") }
        guard answer.last == UInt8(ascii: "\n") else {
            throw KernelError(operation: "read from \(destination)", errno: .connectionReset)
        }
        return String(decoding: answer.dropLast(), as: UTF8.self)
    }

    /// Sends text without waiting for an answer.
    public func send(_ text: String, timeout: Duration) throws(KernelError) {
        try send(text, until: .now + timeout)
    }

    func send(_ text: String, until deadline: ContinuousClock.Instant) throws(KernelError) {
        let operation = "send to \(destination)"
        var rest = Array(text.utf8)
        while !rest.isEmpty {
            do {
                // MSG_NOSIGNAL: a broken connection is an error here and not the end of the process.
                let sent = try systemCall(operation) {
                    Glibc.send(socket.rawValue, rest, rest.count, Int32(MSG_NOSIGNAL))
                }
                rest.removeFirst(sent)
            } catch where error.errno == .wouldBlock {
                guard wait(socket.rawValue, for: Int16(POLLOUT), until: deadline) else {
                    throw KernelError(operation: operation, errno: .timedOut)
                }
            }
        }
    }

    /// Reads until `isWhole` says so or the other side has closed.
    func receive(
        until deadline: ContinuousClock.Instant, _ isWhole: ([UInt8]) -> Bool
    ) throws(KernelError) -> [UInt8] {
        let operation = "read from \(destination)"
        var answer: [UInt8] = []
        while true {
            guard wait(socket.rawValue, for: Int16(POLLIN), until: deadline) else {
                throw KernelError(operation: operation, errno: .timedOut)
            }
            let chunk = try socket.read(upTo: 1 << 16, for: operation)
            answer += chunk
            guard !chunk.isEmpty, !isWhole(answer) else { return answer }
            // A server that never stops is not one to wait for.
            guard answer.count < 1 << 20 else { throw KernelError(operation: operation, errno: .fileTooLarge) }
        }
    }
}
