import CLibNl
import Glibc
import NetlinkWire
import NetworkAddresses
public import RouteNetlink
import SystemPackage

extension RouteSocket {
    /// The neighbour entries of one link, or of all.
    ///
    /// Equivalent to `ip neighbour`. The corresponding message is a dump of `RTM_GETNEIGH`.
    public func neighbors(link: Int32? = nil) throws(KernelError) -> [Neighbor] {
        let request = AttributeWriter.message(type: UInt16(RTM_GETNEIGH), flags: 0) { message in
            message.appendNeighborHeader(family: UInt8(AF_UNSPEC), link: 0)
            if let link { message.attribute(UInt16(NDA_IFINDEX), link) }
        }
        let neighbors = try socket.dump(request, for: "list neighbours") { _, message in Neighbor(message: message) }
        return neighbors.filter { link == nil || $0.link == link }
    }

    /// Sets a neighbour entry, in place of one for the same address. Equivalent to `ip neighbour replace`.
    public func replace(_ neighbor: Neighbor) throws(KernelError) {
        let operation = "set neighbour \(neighbor.address)"
        let request = try Libnl.request(about: rtnl_neigh_alloc(), for: operation) {
            neighbor.describe(to: $0)
            return rtnl_neigh_build_add_request($0, NLM_F_CREATE | NLM_F_REPLACE, $1)
        }
        try socket.exchange(request, for: "\(operation) on \(name(of: neighbor.link))")
    }

    /// Removes a neighbour entry; false where there is none for the address.
    @discardableResult
    public func remove(_ neighbor: Neighbor) throws(KernelError) -> Bool {
        let operation = "remove neighbour \(neighbor.address)"
        let request = try Libnl.request(about: rtnl_neigh_alloc(), for: operation) {
            neighbor.describe(to: $0)
            return rtnl_neigh_build_delete_request($0, 0, $1)
        }
        return try removing(
            request, absence: [.noSuchFileOrDirectory], for: "\(operation) from \(name(of: neighbor.link))")
    }

    /// The entries of a VXLAN device that name a remote node; multicast and local ones are left out.
    ///
    /// Equivalent to `bridge fdb show dev LINK self`.
    public func forwardingEntries(link: Int32) throws(KernelError) -> [ForwardingEntry] {
        let request = AttributeWriter.message(type: UInt16(RTM_GETNEIGH), flags: 0) { message in
            message.appendNeighborHeader(family: UInt8(AF_BRIDGE), link: link)
        }
        let entries = try socket.dump(request, for: "list forwarding entries of \(name(of: link))") { _, message in
            ForwardingEntry(message: message)
        }
        return entries.filter { $0.link == link }
    }

    /// Sets where a VXLAN device sends packets for an Ethernet address. Equivalent to `bridge fdb replace … self`.
    public func replace(_ entry: ForwardingEntry) throws(KernelError) {
        let operation = "set forwarding entry \(entry.mac) to \(entry.remote)"
        let request = try Libnl.request(about: rtnl_neigh_alloc(), for: operation) {
            entry.describe(to: $0)
            return rtnl_neigh_build_add_request($0, NLM_F_CREATE | NLM_F_REPLACE, $1)
        }
        try socket.exchange(request, for: "\(operation) on \(name(of: entry.link))")
    }

    /// Removes a forwarding entry; false where there is none of that address to that node.
    @discardableResult
    public func remove(_ entry: ForwardingEntry) throws(KernelError) -> Bool {
        let operation = "remove forwarding entry \(entry.mac) to \(entry.remote)"
        let request = try Libnl.request(about: rtnl_neigh_alloc(), for: operation) {
            entry.describe(to: $0)
            return rtnl_neigh_build_delete_request($0, 0, $1)
        }
        return try removing(
            request, absence: [.noSuchFileOrDirectory], for: "\(operation) from \(name(of: entry.link))")
    }
}

extension AttributeWriter {
    /// `struct ndmsg`
    fileprivate mutating func appendNeighborHeader(family: UInt8, link: Int32) {
        append(bytes: [family, 0, 0, 0])
        append(link)
        append(bytes: [0, 0, 0, 0])
    }
}

extension Neighbor.State {
    /// `ndm_state`
    fileprivate var number: Int32 {
        switch self {
        case .permanent: NUD_PERMANENT
        case .learned: NUD_REACHABLE
        case .incomplete: NUD_INCOMPLETE
        case .failed: NUD_FAILED
        case .none: NUD_NOARP
        }
    }

    fileprivate init(number: Int32) {
        self =
            if number & NUD_PERMANENT != 0 {
                .permanent
            } else if number & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE) != 0 {
                .learned
            } else if number & NUD_INCOMPLETE != 0 {
                .incomplete
            } else if number & NUD_FAILED != 0 {
                .failed
            } else {
                .none
            }
    }
}

extension Neighbor {
    fileprivate func describe(to object: OpaquePointer) {
        rtnl_neigh_set_ifindex(object, link)
        Libnl.with(address) { rtnl_neigh_set_dst(object, $0) }
        if let mac { Libnl.with(mac) { rtnl_neigh_set_lladdr(object, $0) } }
        rtnl_neigh_set_state(object, state.number)
    }

    /// Nil for what is no neighbour of IP: forwarding entries come in the same form.
    init?(message: Span<UInt8>) {
        let read = Libnl.read(message) { object -> Neighbor? in
            guard AddressFamily(netlink: rtnl_neigh_get_family(object)) != nil,
                let address = Libnl.ip(rtnl_neigh_get_dst(object))
            else { return nil }
            return Neighbor(
                address, mac: Libnl.mac(rtnl_neigh_get_lladdr(object)), link: rtnl_neigh_get_ifindex(object),
                state: State(number: rtnl_neigh_get_state(object)))
        }
        guard let read else { return nil }
        self = read
    }
}

extension ForwardingEntry {
    fileprivate func describe(to object: OpaquePointer) {
        rtnl_neigh_set_ifindex(object, link)
        // Before the family, against which libnl would check the address.
        Libnl.with(remote) { rtnl_neigh_set_dst(object, $0) }
        rtnl_neigh_set_family(object, AF_BRIDGE)
        Libnl.with(mac) { rtnl_neigh_set_lladdr(object, $0) }
        // In the device's own table and not in that of a bridge above it.
        rtnl_neigh_set_flags(object, UInt32(NTF_SELF))
        rtnl_neigh_set_state(object, NUD_PERMANENT | NUD_NOARP)
    }

    /// Nil for an entry that names no remote node.
    init?(message: Span<UInt8>) {
        let read = Libnl.read(message) { object -> ForwardingEntry? in
            guard rtnl_neigh_get_family(object) == AF_BRIDGE, let mac = Libnl.mac(rtnl_neigh_get_lladdr(object)),
                let remote = Libnl.ip(rtnl_neigh_get_dst(object))
            else { return nil }
            return ForwardingEntry(mac, to: remote, link: rtnl_neigh_get_ifindex(object))
        }
        guard let read else { return nil }
        self = read
    }
}
