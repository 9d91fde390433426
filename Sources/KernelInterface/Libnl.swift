import CLibMnl
import CLibNl
import Glibc
import NetworkAddresses
import SystemPackage

/// libnl-3 and libnl-route-3 as writer and reader of messages; sending and receiving is `NetlinkSocket`'s.
///
/// Every object of libnl lives inside one of these functions: who gets its pointer gets it for the time of a closure.
/// Allocation fails only when memory is out, and then Swift's own would too: hence the `!` on what libnl allocates.
enum Libnl {
    /// The request that `build` makes libnl-route write about `object`, whose owner this is.
    static func request(
        about object: OpaquePointer!, for operation: @autoclosure () -> String,
        _ build: (OpaquePointer, UnsafeMutablePointer<OpaquePointer?>) -> Int32
    ) throws(KernelError) -> [UInt8] {
        defer { nl_object_put(object) }
        return try request(for: operation()) { build(object, $0) }
    }

    /// The request that `build` makes libnl-route write.
    static func request(
        for operation: @autoclosure () -> String, _ build: (UnsafeMutablePointer<OpaquePointer?>) -> Int32
    ) throws(KernelError) -> [UInt8] {
        var message: OpaquePointer?
        let code = build(&message)
        guard code == 0, let message else {
            // The object lacks something: a mistake of ours, told in libnl's words.
            let words = String(cString: nl_geterror(code))
            throw KernelError(operation: operation(), errno: .invalidArgument, kernelMessage: words)
        }
        defer { nlmsg_free(message) }
        let header = nlmsg_hdr(message)!
        return Array(UnsafeRawBufferPointer(start: header, count: Int(header.pointee.nlmsg_len)))
    }

    /// What `body` reads from the object that a message of the kernel describes; nil also where libnl-route does not
    /// understand it.
    static func read<Value>(_ message: Span<UInt8>, _ body: (OpaquePointer) -> Value?) -> Value? {
        var object: OpaquePointer?
        message.withUnsafeBytes { bytes in
            // A datagram's messages begin at multiples of four in a buffer that is aligned better than that, and their
            // length has been checked. libnl copies the message.
            let header = UnsafeMutableRawPointer(mutating: bytes.baseAddress!).assumingMemoryBound(to: nlmsghdr.self)
            let copy = nlmsg_convert(header)!
            defer { nlmsg_free(copy) }
            // libnl finds the parser by the bus and the message type, and lends its result to the callback.
            nlmsg_set_proto(copy, NETLINK_ROUTE)
            withUnsafeMutablePointer(to: &object) { result in
                _ = nl_msg_parse(
                    copy,
                    { parsed, result in
                        nl_object_get(parsed)
                        result!.assumingMemoryBound(to: OpaquePointer?.self).pointee = parsed
                    }, result)
            }
        }
        guard let object else { return nil }
        defer { nl_object_put(object) }
        return body(object)
    }

    // MARK: - Addresses

    /// Lends an address for the time of `body`; what keeps it counts its own reference.
    @discardableResult
    static func with<Result>(_ prefix: IPPrefix, _ body: (OpaquePointer) -> Result) -> Result {
        with(prefix.address.bytes, family: Int32(prefix.family.netlink), length: prefix.length, body)
    }

    @discardableResult
    static func with<Result>(_ address: IPAddress, _ body: (OpaquePointer) -> Result) -> Result {
        with(address.hostPrefix, body)
    }

    @discardableResult
    static func with<Result>(_ mac: MACAddress, _ body: (OpaquePointer) -> Result) -> Result {
        with(mac.bytes, family: AF_LLC, length: 48, body)
    }

    private static func with<Result>(
        _ bytes: [UInt8], family: Int32, length: Int, _ body: (OpaquePointer) -> Result
    ) -> Result {
        let address = nl_addr_build(family, bytes, bytes.count)!
        defer { nl_addr_put(address) }
        nl_addr_set_prefixlen(address, Int32(length))
        return body(address)
    }

    /// The bytes of an address that belongs to an object.
    private static func bytes(_ address: OpaquePointer?) -> [UInt8] {
        guard let address, let start = nl_addr_get_binary_addr(address) else { return [] }
        return Array(UnsafeRawBufferPointer(start: start, count: Int(nl_addr_get_len(address))))
    }

    static func ip(_ address: OpaquePointer?) -> IPAddress? { IPAddress(bytes: bytes(address)) }

    static func mac(_ address: OpaquePointer?) -> MACAddress? { MACAddress(bytes: bytes(address)) }

    /// An address with its prefix length; a default route's destination has no bytes at all.
    static func prefix(_ address: OpaquePointer?, family: AddressFamily) -> IPPrefix? {
        guard let address else { return nil }
        let bytes = bytes(address)
        let ip = bytes.isEmpty ? IPAddress(number: 0, family: family) : IPAddress(bytes: bytes)
        return ip.flatMap { IPPrefix($0, length: Int(nl_addr_get_prefixlen(address))) }
    }
}

extension AddressFamily {
    /// Nil for families that are not IP.
    init?(netlink: Int32) {
        switch netlink {
        case AF_INET: self = .ipv4
        case AF_INET6: self = .ipv6
        default: return nil
        }
    }

    /// The number in netlink headers.
    var netlink: UInt8 { UInt8(self == .ipv4 ? AF_INET : AF_INET6) }
}
