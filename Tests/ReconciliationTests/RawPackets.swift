import Glibc
import KernelInterface
import NetworkAddresses
import SystemPackage

/// A raw IPv4 socket of one protocol: for those that the kernel here has no other sockets for.
final class RawPackets {
    private let descriptor: Int32

    /// Opens it in the calling thread's network namespace.
    init(_ transport: TransportProtocol) throws(KernelError) {
        descriptor = socket(AF_INET, Int32(SOCK_RAW.rawValue), Int32(transport.rawValue))
        guard descriptor >= 0 else { throw KernelError(operation: "open a raw socket", errno: Errno(rawValue: errno)) }
    }

    deinit { close(descriptor) }

    /// Sends the SCTP chunk that begins an association.
    func sendInit(to target: SocketAddress, from source: UInt16) throws {
        var packet: [UInt8] = [UInt8(source >> 8), UInt8(source & 0xff)] + target.port.bytes + [0, 0, 0, 0, 0, 0, 0, 0]
        // INIT, 20 bytes: tag, window, streams out and in, first number.
        packet += [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]
        let sum = checksum(packet)
        for index in 0..<4 { packet[8 + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt32(index))) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        guard case .v4(let v4) = target.address else { preconditionFailure("IPv4 only") }
        address.sin_addr.s_addr = v4.rawValue.bigEndian
        let sent = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(descriptor, packet, packet.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard sent == packet.count else { throw KernelError(operation: "send to \(target)", errno: Errno(rawValue: errno)) }
    }

    /// The next packet's sender and destination port; nil when none comes in time.
    func next(within milliseconds: Int32) -> (source: IPAddress, port: UInt16)? {
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&request, 1, milliseconds) > 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        let header = Int(buffer[0] & 15) * 4
        guard count >= header + 12, let source = IPAddress(bytes: buffer[12..<16]) else { return nil }
        return (source, UInt16(buffer[header + 2]) << 8 | UInt16(buffer[header + 3]))
    }

    /// CRC-32C of RFC 9260, without which connection tracking takes the packet for broken.
    private func checksum(_ bytes: [UInt8]) -> UInt32 {
        var remainder = UInt32.max
        for byte in bytes {
            remainder ^= UInt32(byte)
            for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0x82f6_3b78 : 0) }
        }
        return ~remainder
    }
}
