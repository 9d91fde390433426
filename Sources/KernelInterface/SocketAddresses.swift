import CLinux
import Glibc
import NetworkAddresses
import SystemPackage

/// Addresses in the form system calls take and fill in: `struct sockaddr_in` and `sockaddr_in6`.
///
/// Written byte by byte, because two C modules here bring a `sockaddr_in` each and Swift cannot tell them apart.
enum RawSocketAddress {
    /// An address with a port; 0 is "any" to bind to.
    static func bytes(_ address: IPAddress, port: UInt16) -> [UInt8] {
        let family = withUnsafeBytes(of: sa_family_t(address.family.netlink)) { Array($0) }
        let head = family + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
        return switch address.family {
        case .ipv4: head + address.bytes + [UInt8](repeating: 0, count: 8)
        // Before the address the flow label, behind it the link for addresses that need one.
        case .ipv6: head + [0, 0, 0, 0] + address.bytes + [0, 0, 0, 0]
        }
    }

    /// Lends an address to a system call.
    static func lend<Result>(_ bytes: [UInt8], _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        bytes.withUnsafeBytes { buffer in
            // Every kind of socket address begins as a sockaddr does; the length says how long it really is.
            body(buffer.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(buffer.count))
        }
    }

    /// The address a system call fills in; nil where it is none of IP or has no port.
    static func filled(
        by body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Void
    ) -> SocketAddress? {
        // As long as the longest kind.
        var bytes = [UInt8](repeating: 0, count: MemoryLayout<sockaddr_storage>.size)
        var length = socklen_t(bytes.count)
        bytes.withUnsafeMutableBytes { buffer in
            body(buffer.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
        }
        let family = bytes.withUnsafeBytes { $0.loadUnaligned(as: sa_family_t.self) }
        let address: IPAddress? =
            switch AddressFamily(netlink: Int32(family)) {
            case .ipv4: IPAddress(bytes: bytes[4..<8])
            case .ipv6: IPAddress(bytes: bytes[8..<24])
            case nil: nil
            }
        guard let address, let port = Port(rawValue: UInt16(bytes[2]) << 8 | UInt16(bytes[3])) else { return nil }
        return SocketAddress(address, port)
    }
}

extension Descriptor {
    /// A TCP or UDP socket that never makes its user wait.
    static func socket(
        _ transport: TransportProtocol, _ family: AddressFamily, for operation: @autoclosure () -> String
    ) throws(KernelError) -> Descriptor {
        Descriptor(
            owning: try systemCall(operation()) {
                fairlead_socket(Int32(family.netlink), transport == .udp ? 1 : 0, Int32(transport.rawValue))
            })
    }

    /// Sets a socket option to 1.
    func enable(_ option: Int32, level: Int32, for operation: @autoclosure () -> String) throws(KernelError) {
        var on: Int32 = 1
        try systemCall(operation()) {
            setsockopt(rawValue, level, option, &on, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    func bind(
        _ address: IPAddress, port: UInt16, for operation: @autoclosure () -> String
    ) throws(KernelError) {
        try systemCall(operation()) {
            RawSocketAddress.lend(RawSocketAddress.bytes(address, port: port)) { Glibc.bind(rawValue, $0, $1) }
        }
    }
}
