import CLibMnl
import Glibc
import NetlinkWire
import Synchronization
import SystemPackage

/// A netlink socket: one request at a time, each matched with its answer by number.
///
/// It belongs to the namespace in which it was opened, whichever thread uses it. Requests from several threads queue.
struct NetlinkSocket: ~Copyable, Sendable {
    /// To wait for what the kernel tells unasked; a constant, and so outside of the mutex.
    let fileDescriptor: Int32
    // Not private, and neither is its type: Swift 6.3.1 makes a broken module of a private noncopyable type in a mutex.
    let state: Mutex<State>

    // Sendable: the handle is a file descriptor and constants; whoever holds the mutex is the only one to use it.
    struct State: ~Copyable, @unchecked Sendable {
        let socket: OpaquePointer
        var sequence: UInt32
        /// Longer than the longest datagram the kernel makes for a dump (32 KiB). Left as it comes: to fill it with
        /// zeros would cost a short process more than all that it reads.
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 1 << 16)

        init(socket: OpaquePointer, sequence: UInt32) {
            self.socket = socket
            self.sequence = sequence
        }

        deinit {
            mnl_socket_close(socket)
            buffer.deallocate()
        }
    }

    private init(owning socket: OpaquePointer) {
        fileDescriptor = mnl_socket_get_fd(socket)
        // A number nobody can foresee: an answer left over from another socket's life is not taken for ours.
        state = Mutex(State(socket: socket, sequence: .random(in: .min ... .max)))
    }

    /// Opens a socket of the calling thread's namespace.
    ///
    /// - Parameter bus: `NETLINK_ROUTE`, `NETLINK_NETFILTER` …
    static func open(_ bus: Int32, for operation: @autoclosure () -> String) throws(KernelError) -> NetlinkSocket {
        guard let socket = mnl_socket_open2(bus, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw KernelError(operation: operation(), errno: Errno(rawValue: errno))
        }
        let result = NetlinkSocket(owning: socket)
        // The kernel chooses the port: a process has several sockets, and its number is good for only one of them.
        try systemCall(operation()) { mnl_socket_bind(socket, 0, pid_t(MNL_SOCKET_AUTOPID)) }
        // Explanations with errors; without the request repeated in every answer; and dumps that heed their filters.
        // A kernel that lacks one of them still answers, so a refusal is no error.
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
            var on: Int32 = 1
            mnl_socket_setsockopt(socket, Int32(option), &on, socklen_t(MemoryLayout<Int32>.size))
        }
        return result
    }

    /// Sends a request and returns when the kernel has acknowledged it; what comes before that is visited.
    ///
    /// - Parameter operation: Asked for on failure only, and then free to use this socket itself.
    /// - Parameter reply: Called with each whole message of the answer.
    func exchange(
        _ request: [UInt8], for operation: @autoclosure () -> String,
        reply: (MessageHeader, Span<UInt8>) throws(DecodeError) -> Void = { _, _ in }
    ) throws(KernelError) {
        do {
            _ = try state.withLock { state throws(Failure) in
                try state.exchange(request, flags: UInt16(NLM_F_ACK), reply: reply)
            }
        } catch {
            throw error.during(operation())
        }
    }

    /// Asks for all objects of a kind, again where they changed while the kernel listed them.
    ///
    /// - Parameter read: The value in one message; nil where it is none the caller asked for.
    func dump<Value>(
        _ request: [UInt8], for operation: @autoclosure () -> String,
        read: (MessageHeader, Span<UInt8>) throws(DecodeError) -> Value?
    ) throws(KernelError) -> [Value] {
        // So many in a row only where something changes the tables without pause: then that is what to report.
        for _ in 0..<100 {
            var values: [Value] = []
            do {
                let isWhole = try state.withLock { state throws(Failure) in
                    try state.exchange(request, flags: UInt16(NLM_F_DUMP)) { header, message throws(DecodeError) in
                        if let value = try read(header, message) { values.append(value) }
                    }
                }
                if isWhole { return values }
            } catch {
                throw error.during(operation())
            }
        }
        throw KernelError(operation: operation(), errno: .interrupted)
    }

    /// An error before it has the name of the operation.
    struct Failure: Error {
        var errno: Errno
        var message: String?

        func during(_ operation: String) -> KernelError {
            KernelError(operation: operation, errno: errno, kernelMessage: message)
        }
    }
}

extension NetlinkSocket.State {
    /// - Returns: Whether all of the answer belongs to one moment: not marked `NLM_F_DUMP_INTR`.
    fileprivate mutating func exchange(
        _ request: [UInt8], flags: UInt16, reply: (MessageHeader, Span<UInt8>) throws(DecodeError) -> Void
    ) throws(NetlinkSocket.Failure) -> Bool {
        sequence &+= 1
        let (sequence, socket) = (sequence, socket)
        let request = request.addressed(sequence: sequence, flags: flags | UInt16(NLM_F_REQUEST))
        // Copied by the kernel before it returns.
        try Self.call { request.withUnsafeBytes { mnl_socket_sendto(socket, $0.baseAddress, $0.count) } }
        var isWhole = true
        var end: Acknowledgement?
        while end == nil {
            let received = try Self.call {
                mnl_socket_recvfrom(socket, buffer.baseAddress, buffer.count)
            }
            do throws(DecodeError) {
                try buffer.span.extracting(first: received).forEachMessage { header, message throws(DecodeError) in
                    // Another number: the answer to a request that was given up halfway.
                    guard header.sequence == sequence, end == nil else { return }
                    if header.flags & UInt16(NLM_F_DUMP_INTR) != 0 { isWhole = false }
                    end = try Acknowledgement(header: header, message: message)
                    if end == nil { try reply(header, message) }
                }
            } catch {
                throw NetlinkSocket.Failure(errno: .badMessage, message: "\(error)")
            }
        }
        if let end, end.errorNumber != 0 {
            throw NetlinkSocket.Failure(errno: Errno(rawValue: end.errorNumber), message: end.message)
        }
        return isWhole
    }

    @discardableResult
    private static func call(_ body: () -> Int) throws(NetlinkSocket.Failure) -> Int {
        do {
            return try systemCall("", body)
        } catch {
            throw NetlinkSocket.Failure(errno: error.errno, message: nil)
        }
    }
}

extension [UInt8] {
    /// The message with its number, and with these flags beside its own (`nlmsg_flags`, `nlmsg_seq`).
    fileprivate func addressed(sequence: UInt32, flags: UInt16) -> [UInt8] {
        var message = self
        Swift.withUnsafeBytes(of: flags) { for (offset, byte) in $0.enumerated() { message[6 + offset] |= byte } }
        Swift.withUnsafeBytes(of: sequence) { for (offset, byte) in $0.enumerated() { message[8 + offset] = byte } }
        return message
    }
}
