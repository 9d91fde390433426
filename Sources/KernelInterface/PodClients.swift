import CLinux
import Glibc
import NetworkAddresses
import SystemPackage

/// The TCP connections of a `PodServer`.
struct PodClients: ~Copyable {
    private let podName: String
    /// By descriptor.
    private var clients: [Int32: PodClient] = [:]
    /// Descriptors from the oldest connection to the newest; may still name some that have ended.
    private var arrivals: [Int32] = []

    /// Enough for any test here, and far from the usual limit of 1024 descriptors.
    private static let limit = 512

    init(podName: String) { self.podName = podName }

    var pollRequests: [pollfd] {
        clients.map { pollfd(fd: $0.key, events: $0.value.events, revents: 0) }
    }

    var nextDeadline: ContinuousClock.Instant? { clients.values.compactMap(\.deadline).min() }

    /// Takes the connections that wait at a socket; the oldest make room.
    mutating func accept(at socket: Int32) {
        for _ in 0..<64 {
            var accepted: Int32 = -1
            let peer = RawSocketAddress.filled { accepted = fairlead_accept(socket, $0, $1) }
            guard accepted >= 0 else { return }
            let connection = Connection(owning: accepted)
            guard let peer else { continue }
            clients[accepted] = PodClient(connection, peer: peer, podName: podName)
            arrivals.append(accepted)
            while clients.count > Self.limit, !arrivals.isEmpty { clients[arrivals.removeFirst()] = nil }
        }
    }

    /// Serves the clients whose descriptors are ready.
    mutating func serve(_ descriptors: [Int32]) {
        for descriptor in descriptors { update(descriptor) { $0.proceed() } }
    }

    /// Does what is due for clients who have let time pass.
    mutating func expire(at now: ContinuousClock.Instant) {
        for (descriptor, client) in clients where client.deadline.map({ $0 <= now }) ?? false {
            update(descriptor) { $0.timeHasPassed() }
        }
    }

    private mutating func update(_ descriptor: Int32, _ body: (inout PodClient) -> Void) {
        // Taken out meanwhile, so that what changes is not copied first.
        guard var client = clients.removeValue(forKey: descriptor) else { return }
        body(&client)
        if client.isDone {
            arrivals.removeAll { $0 == descriptor }
        } else {
            clients[descriptor] = client
        }
    }
}

/// A connection that is closed with its last mention.
final class Connection: Sendable {
    private let descriptor: Descriptor
    var rawValue: Int32 { descriptor.rawValue }
    init(owning rawValue: Int32) { descriptor = Descriptor(owning: rawValue) }
}

/// One client of a `PodServer`, from its first byte to the last.
struct PodClient {
    private let connection: Connection
    private let peer: SocketAddress
    private let podName: String
    private var phase = Phase.asking
    /// Received and not yet understood.
    private var received: [UInt8] = []
    /// To be sent.
    private var pending: [UInt8] = []
    /// Whether the client has said all it will say.
    private var hasEnded = false
    /// When to go on although nothing has happened.
    private(set) var deadline: ContinuousClock.Instant?

    private enum Phase {
        /// What the client wants is not yet known.
        case asking
        /// An HTTP request whose headers have not ended.
        case requesting
        /// Every line is echoed.
        case streaming
        /// The answer is on its way. What the client still sends is read and dropped: closing with unread bytes would
        /// make the kernel send a reset, which may overtake the answer.
        case answering
        case done
    }

    /// The longest line or header block that is looked at as one.
    private static let lineLimit = 4096

    init(_ connection: Connection, peer: SocketAddress, podName: String) {
        self.connection = connection
        self.peer = peer
        self.podName = podName
        deadline = .now + .milliseconds(200)
    }

    var isDone: Bool { if case .done = phase { true } else { false } }

    /// What to wait for. A client that does not read what it is sent is not read from either.
    var events: Int16 {
        let isReading = !hasEnded && pending.count <= Self.lineLimit
        return Int16((isReading ? POLLIN : 0) | (pending.isEmpty ? 0 : POLLOUT))
    }

    /// Reads and writes what is possible now.
    mutating func proceed() {
        if !hasEnded && pending.count <= Self.lineLimit { read() }
        write()
    }

    mutating func timeHasPassed() {
        deadline = nil
        switch phase {
        case .asking: answer(line)
        case .requesting: answer(httpAnswer)
        case .streaming: break
        case .answering, .done: phase = .done
        }
        write()
    }

    private var line: String { podName + "\n" }

    private mutating func read() {
        var buffer = [UInt8](repeating: 0, count: Self.lineLimit)
        let count = recv(connection.rawValue, &buffer, buffer.count, 0)
        if count > 0 {
            if case .answering = phase { return }
            received += buffer[..<count]
            understand()
        } else if count == 0 {
            // It may still listen.
            hasEnded = true
            switch phase {
            case .asking: answer(line)
            case .requesting: answer(httpAnswer)
            case .streaming: answer("")
            case .answering, .done: break
            }
        } else if errno != EAGAIN && errno != EINTR {
            phase = .done
        }
    }

    private mutating func understand() {
        if case .asking = phase {
            if received.starts(with: "stream\n".utf8) || received.starts(with: "stream\r\n".utf8) {
                phase = .streaming
                deadline = nil
                received.removeFirst(received.firstIndex(of: newline)! + 1)
            } else if isHTTPRequest {
                phase = .requesting
            } else if !mayBecomeMore {
                answer(line)
            }
        }
        switch phase {
        case .requesting where received.count >= Self.lineLimit || hasHeaderEnd: answer(httpAnswer)
        case .streaming: echo()
        default: break
        }
    }

    /// Sends every whole line back with the name in front; a line without end goes back in pieces.
    private mutating func echo() {
        while !received.isEmpty {
            let isTooLong = received.count >= Self.lineLimit
            guard let end = received.firstIndex(of: newline) ?? (isTooLong ? received.count - 1 : nil) else { return }
            pending += Array(podName.utf8) + [UInt8(ascii: " ")] + received[...end]
            received.removeFirst(end + 1)
        }
    }

    /// Whether the bytes so far may be the beginning of a method or of `stream`: one packet need not hold it all.
    private var mayBecomeMore: Bool {
        received.allSatisfy { isUpperCase($0) } && received.count <= 8 || "stream\r\n".utf8.starts(with: received)
    }

    private var isHTTPRequest: Bool {
        let method = received.prefix { isUpperCase($0) }
        return (3...8).contains(method.count) && received.dropFirst(method.count).first == UInt8(ascii: " ")
    }

    private var hasHeaderEnd: Bool {
        let lines = received.split(separator: newline, omittingEmptySubsequences: false)
        // The last piece is what comes after the last newline, and so no line yet.
        return lines.dropLast().contains { $0.isEmpty || $0.elementsEqual([UInt8(ascii: "\r")]) }
    }

    private var httpAnswer: String {
        let head = """
            HTTP/1.1 200 OK\r
            content-type: text/plain\r
            content-length: \(line.utf8.count)\r
            x-pod: \(podName)\r
            x-client: \(peer)\r
            connection: close\r
            \r

            """
        return received.starts(with: "HEAD ".utf8) ? head : head + line
    }

    private mutating func answer(_ text: String) {
        pending += Array(text.utf8)
        phase = .answering
        // How long a client may take to read the answer and to close.
        deadline = .now + .seconds(2)
        received = []
    }

    private mutating func write() {
        while !pending.isEmpty, !isDone {
            // MSG_NOSIGNAL: a client that has gone away must not end the server.
            let sent = send(connection.rawValue, pending, pending.count, Int32(MSG_NOSIGNAL))
            if sent >= 0 {
                pending.removeFirst(sent)
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                phase = .done
            }
        }
        guard case .answering = phase else { return }
        // The end of the answer; the connection closes when the client has read it and closes too.
        shutdown(connection.rawValue, Int32(SHUT_WR))
        if hasEnded { phase = .done }
    }
}

private let newline = UInt8(ascii: "\n")

private func isUpperCase(_ byte: UInt8) -> Bool { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) }
