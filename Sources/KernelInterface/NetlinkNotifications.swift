import CLibMnl
import Glibc
import NetlinkWire
import Synchronization
import SystemPackage

/// What the kernel tells without being asked.
extension NetlinkSocket {
    /// Joins a multicast group.
    func join(_ group: Int32, for operation: @autoclosure () -> String) throws(KernelError) {
        // Room for a node's restart, in which thousands of links change within a second. The plain option is bounded
        // by net.core.rmem_max; this one is root's.
        var (group, room): (Int32, Int32) = (group, 1 << 22)
        let descriptor = fileDescriptor
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, socklen_t(MemoryLayout<Int32>.size))
        try systemCall(operation()) {
            setsockopt(
                descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    /// Visits all messages there are, after waiting for the first.
    ///
    /// - Returns: Whether these are all: false where the socket's buffer overflowed.
    func notifications(
        timeout: Duration?, for operation: @autoclosure () -> String, _ visit: (MessageHeader, Span<UInt8>) -> Void
    ) throws(KernelError) -> Bool {
        do {
            return try state.withLock { state throws(Failure) in try state.notifications(timeout, visit) }
        } catch {
            throw error.during(operation())
        }
    }
}

extension NetlinkSocket.State {
    fileprivate mutating func notifications(
        _ timeout: Duration?, _ visit: (MessageHeader, Span<UInt8>) -> Void
    ) throws(NetlinkSocket.Failure) -> Bool {
        var isWhole = true
        let (descriptor, dontWait) = (mnl_socket_get_fd(socket), Int32(MSG_DONTWAIT))
        guard waitUntilReadable(descriptor, timeout: timeout) else { return true }
        while true {
            let received = recv(descriptor, buffer.baseAddress, buffer.count, dontWait)
            if received < 0 {
                switch errno {
                case EAGAIN: return isWhole
                case EINTR: continue
                case ENOBUFS: isWhole = false
                default: throw NetlinkSocket.Failure(errno: Errno(rawValue: errno), message: nil)
                }
                continue
            }
            // A broken message is passed over: it was not asked for, so there is no one to blame it on.
            try? buffer.span.extracting(first: received).forEachMessage { header, message throws(DecodeError) in
                visit(header, message)
            }
        }
    }
}
