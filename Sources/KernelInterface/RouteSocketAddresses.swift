import CLibNl
import Glibc
import NetlinkWire
import NetworkAddresses
public import RouteNetlink
import SystemPackage

extension RouteSocket {
    /// The addresses of one link, or of all.
    ///
    /// All of them are of one moment. Of one link they are where they fit one datagram, some hundreds: of a list that it
    /// filters itself the kernel does not tell that it changed in between.
    ///
    /// Equivalent to `ip address`. The corresponding message is a dump of `RTM_GETADDR`.
    public func addresses(of link: Int32? = nil) throws(KernelError) -> [InterfaceAddress] {
        let request = AttributeWriter.message(type: UInt16(RTM_GETADDR), flags: 0) { message in
            // struct ifaddrmsg: family, prefix length, flags, scope, link. The kernel filters by the link.
            message.append(bytes: [0, 0, 0, 0])
            message.append(link ?? 0)
        }
        let addresses = try socket.dump(request, for: "list addresses") { _, message in
            InterfaceAddress(message: message)
        }
        // Kernels before 5.0 do not filter.
        return addresses.filter { link == nil || $0.link == link }
    }

    /// The IPv6 addresses that somebody else on their link has: asked for before they were to serve, and answered.
    ///
    /// Equivalent to `ip -6 address show dadfailed`. The corresponding message is a dump of `RTM_GETADDR`.
    public func duplicates() throws(KernelError) -> [InterfaceAddress] {
        let request = AttributeWriter.message(type: UInt16(RTM_GETADDR), flags: 0) { message in
            message.append(bytes: [UInt8(AF_INET6), 0, 0, 0])
            message.append(Int32(0))
        }
        return try socket.dump(request, for: "list IPv6 addresses") { _, message in
            let hasFailed = Libnl.read(message) { rtnl_addr_get_flags($0) & UInt32(IFA_F_DADFAILED) != 0 }
            return hasFailed == true ? InterfaceAddress(message: message) : nil
        }
    }

    /// Adds an address to a link.
    ///
    /// - Parameters:
    ///   - prefixRoute: Whether the kernel also adds the route to the address's network.
    ///   - askingFirst: Whether an IPv6 address serves only once nobody on the link has claimed it, after a second or
    ///     two; otherwise at once (`nodad`).
    ///
    /// Equivalent to `ip address add PREFIX dev LINK nodad`. The corresponding message is `RTM_NEWADDR`.
    public func add(
        _ address: InterfaceAddress, prefixRoute: Bool = true, askingFirst: Bool = false
    ) throws(KernelError) {
        var flags: Int32 = address.prefix.family == .ipv6 && !askingFirst ? IFA_F_NODAD : 0
        if !prefixRoute { flags |= IFA_F_NOPREFIXROUTE }
        let request = try Libnl.request(about: rtnl_addr_alloc(), for: "add address \(address.prefix)") {
            object, message in
            address.describe(to: object)
            // The kernel sends to it anyway, but programs ask for it (`SIOCGIFBRDADDR`).
            if address.prefix.family == .ipv4, address.prefix.length < 31 {
                Libnl.with(address.prefix.last) { rtnl_addr_set_broadcast(object, $0) }
            }
            rtnl_addr_set_flags(object, UInt32(flags))
            return rtnl_addr_build_add_request(object, NLM_F_EXCL, message)
        }
        try socket.exchange(request, for: "add address \(address.prefix) to \(name(of: address.link))")
    }

    /// Removes an address; false where the link does not have it.
    @discardableResult
    public func remove(_ address: InterfaceAddress) throws(KernelError) -> Bool {
        let request = try Libnl.request(about: rtnl_addr_alloc(), for: "remove address \(address.prefix)") {
            address.describe(to: $0)
            return rtnl_addr_build_delete_request($0, 0, $1)
        }
        return try removing(
            request, absence: [.addressNotAvailable],
            for: "remove address \(address.prefix) from \(name(of: address.link))")
    }
}

extension InterfaceAddress {
    fileprivate func describe(to object: OpaquePointer) {
        rtnl_addr_set_ifindex(object, link)
        Libnl.with(prefix) { rtnl_addr_set_local(object, $0) }
    }

    /// Nil for an address of another family.
    init?(message: Span<UInt8>) {
        let read = Libnl.read(message) { object -> InterfaceAddress? in
            guard AddressFamily(netlink: rtnl_addr_get_family(object)) != nil,
                let address = Libnl.ip(rtnl_addr_get_local(object)),
                let prefix = IPPrefix(address, length: Int(rtnl_addr_get_prefixlen(object)))
            else { return nil }
            return InterfaceAddress(prefix, link: rtnl_addr_get_ifindex(object))
        }
        guard let read else { return nil }
        self = read
    }
}
