import CLibNl
import Glibc
import NetlinkWire
public import NetworkAddresses
public import RouteNetlink
import SystemPackage

/// Not in the Glibc module, which has the flags of 16 bits only.
private let IFF_LOWER_UP: UInt32 = 1 << 16

/// A link to be made.
public struct NewLink: Hashable, Sendable {
    public var name: InterfaceName
    /// Nil for one the kernel chooses at random.
    public var mac: MACAddress?
    /// Nil for the kind's default.
    public var mtu: Int?
    public var isUp: Bool
    /// The bridge to become a port of.
    public var bridge: Int32?

    public init(
        _ name: InterfaceName, mac: MACAddress? = nil, mtu: Int? = nil, isUp: Bool = false, bridge: Int32? = nil
    ) {
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.isUp = isUp
        self.bridge = bridge
    }
}

/// What to change about a link; nil leaves it as it is.
public struct LinkChange: Hashable, Sendable {
    public var isUp: Bool?
    public var mtu: Int?
    public var mac: MACAddress?
    /// `.some(nil)` takes the link out of its bridge.
    public var bridge: Int32??
    /// A link that is up can be renamed only since Linux 6.2.
    public var name: InterfaceName?
    public var alias: String?
    /// Whether the link takes in packets for any Ethernet address (`IFF_PROMISC`).
    public var isPromiscuous: Bool?

    public init(
        isUp: Bool? = nil, mtu: Int? = nil, mac: MACAddress? = nil, bridge: Int32?? = nil, name: InterfaceName? = nil,
        alias: String? = nil, isPromiscuous: Bool? = nil
    ) {
        self.isUp = isUp
        self.mtu = mtu
        self.mac = mac
        self.bridge = bridge
        self.name = name
        self.alias = alias
        self.isPromiscuous = isPromiscuous
    }
}

extension RouteSocket {
    /// All links of the namespace.
    ///
    /// Equivalent to `ip link`. The corresponding message is a dump of `RTM_GETLINK`.
    public func links() throws(KernelError) -> [Link] {
        let request = AttributeWriter.message(type: UInt16(RTM_GETLINK), flags: 0) { message in
            // struct ifinfomsg, all zero: every link.
            message.append(bytes: [UInt8](repeating: 0, count: 16))
        }
        return try socket.dump(request, for: "list links") { _, message in Link(message: message) }
    }

    /// The link of this name; nil where there is none.
    public func link(named name: InterfaceName) throws(KernelError) -> Link? {
        try link(0, name.description, for: "look up link \(name)")
    }

    /// The link of this number; nil where there is none, as for the 0 of a route that leads nowhere.
    public func link(index: Int32) throws(KernelError) -> Link? {
        // No link has another; libnl ends the process that asks for one.
        guard index > 0 else { return nil }
        return try link(index, nil, for: "look up link \(index)")
    }

    private func link(_ index: Int32, _ name: String?, for operation: String) throws(KernelError) -> Link? {
        let request = try Libnl.request(for: operation) { rtnl_link_build_get_request(index, name, $0) }
        var link: Link?
        do {
            try socket.exchange(request, for: operation) { _, message in link = Link(message: message) }
        } catch where error.errno == .noSuchDevice {
            return nil
        }
        return link
    }

    /// The number this namespace has for another one, which `Link.peerNamespaceID` gives; nil where it has none yet.
    ///
    /// Equivalent to `ip netns list-id`. The corresponding message is `RTM_GETNSID`.
    public func identifier(of namespace: borrowing NetworkNamespace) throws(KernelError) -> Int32? {
        let (descriptor, inode) = (namespace.descriptor.rawValue, namespace.inode)
        // Not in libnl-route; the kernel's own number for the attribute NETNSA_FD is 3, for NETNSA_NSID 1.
        let request = AttributeWriter.message(type: UInt16(RTM_GETNSID), flags: 0) { message in
            message.append(bytes: [0, 0, 0, 0])
            message.attribute(3, descriptor)
        }
        var identifier: Int32 = -1
        try socket.exchange(request, for: "ask for the number of network namespace \(inode)") {
            _, message throws(DecodeError) in
            try message.forEachAttribute(from: MessageHeader.size + 4) { type, value throws(DecodeError) in
                if type == 1 { identifier = try value.integer() }
            }
        }
        return identifier < 0 ? nil : identifier
    }

    /// Makes a veth pair with its peer in another namespace, each end with its name, address and MTU, and this end in
    /// its bridge and up.
    ///
    /// One message for all of it, so there is no moment in which half of the pair exists or has the wrong name. Only a
    /// peer that is to be up costs a second one, because the kernel refuses to raise it before it has its other end; a
    /// caller with a socket of the peer's namespace does that better there.
    ///
    /// Equivalent to `ip link add END type veth peer PEER netns NS`. The corresponding message is `RTM_NEWLINK`.
    ///
    /// - Returns: this end, whose `peerIndex` is the other's number there, before it is up and in its bridge; nil where
    ///   the kernel does not say (before Linux 6.2).
    @discardableResult
    public func addVeth(
        _ end: NewLink, peer: NewLink, in peerNamespace: borrowing NetworkNamespace
    ) throws(KernelError) -> Link? {
        let made = try addVeth(end, peer: peer, peerNamespace: peerNamespace.descriptor.rawValue)
        guard peer.isUp else { return made }
        try undoing(end) { () throws(KernelError) in
            let there = try peerNamespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
            try there.raise(peer.name)
        }
        return made
    }

    /// Makes a veth pair with both ends in this namespace.
    public func addVeth(_ end: NewLink, peer: NewLink) throws(KernelError) {
        _ = try addVeth(end, peer: peer, peerNamespace: nil)
        guard peer.isUp else { return }
        try undoing(end) { () throws(KernelError) in try raise(peer.name) }
    }

    private func raise(_ name: InterfaceName) throws(KernelError) {
        // By its name, and so without asking for its number first.
        try apply(to: 0, for: "set \(name) up") { object in
            rtnl_link_set_name(object, name.description)
            set(IFF_UP, true, object)
        }
    }

    /// Deletes the new link again where `body` fails, because a caller told of an error expects nothing to be there.
    private func undoing(_ link: NewLink, _ body: () throws(KernelError) -> Void) throws(KernelError) {
        do {
            try body()
        } catch {
            if let made = try self.link(named: link.name) { try deleteLink(index: made.index) }
            throw error
        }
    }

    private func addVeth(_ end: NewLink, peer: NewLink, peerNamespace: Int32?) throws(KernelError) -> Link? {
        let operation = "add link \(end.name) with peer \(peer.name)"
        guard peer.bridge == nil else {
            // The kernel ignores a master in the peer's half, and nothing asked for is left out silently.
            throw KernelError(
                operation: operation, errno: .invalidArgument, kernelMessage: "the peer cannot join a bridge at once")
        }
        return try add(end, rtnl_link_veth_alloc(), for: operation) { object in
            let other = rtnl_link_veth_get_peer(object)!
            defer { nl_object_put(other) }
            var down = peer
            down.isUp = false
            down.describe(to: other)
            if let peerNamespace { rtnl_link_set_ns_fd(other, peerNamespace) }
        }
    }

    /// Makes a bridge. Equivalent to `ip link add NAME type bridge`.
    public func addBridge(_ bridge: NewLink) throws(KernelError) {
        try add(bridge, rtnl_link_bridge_alloc(), for: "add bridge \(bridge.name)") { _ in }
    }

    /// Makes a VXLAN device. Equivalent to `ip link add NAME type vxlan id VNI dstport PORT local LOCAL nolearning`.
    ///
    /// - Parameter underlay: The link whose MTU bounds the tunnel's and through which its packets leave.
    public func addVXLAN(_ device: NewLink, _ vxlan: VXLAN, underlay: Int32? = nil) throws(KernelError) {
        try add(device, rtnl_link_vxlan_alloc(), for: "add VXLAN device \(device.name)") { object in
            rtnl_link_vxlan_set_id(object, vxlan.vni)
            rtnl_link_vxlan_set_port(object, UInt32(vxlan.port.rawValue))
            rtnl_link_vxlan_set_learning(object, vxlan.learning ? 1 : 0)
            if let local = vxlan.local { Libnl.with(local) { rtnl_link_vxlan_set_local(object, $0) } }
            if let underlay { rtnl_link_vxlan_set_link(object, UInt32(underlay)) }
        }
    }

    /// - Returns: what the kernel says that it made, which saves asking for its number.
    @discardableResult
    private func add(
        _ link: NewLink, _ object: OpaquePointer!, for operation: String, _ describe: (OpaquePointer) -> Void
    ) throws(KernelError) -> Link? {
        let request = try Libnl.request(about: object, for: operation) {
            link.describe(to: $0)
            describe($0)
            return rtnl_link_build_add_request($0, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, $1)
        }
        var made: Link?
        try socket.exchange(request, for: operation) { _, message in made = Link(message: message) ?? made }
        return made
    }

    /// Changes what `change` names about a link, all in one message.
    public func change(link index: Int32, _ change: LinkChange) throws(KernelError) {
        try apply(to: index, for: "change \(name(of: index))") { object in
            if let isUp = change.isUp { set(IFF_UP, isUp, object) }
            if let isPromiscuous = change.isPromiscuous { set(IFF_PROMISC, isPromiscuous, object) }
            if let mtu = change.mtu { rtnl_link_set_mtu(object, UInt32(clamping: mtu)) }
            if let mac = change.mac { Libnl.with(mac) { rtnl_link_set_addr(object, $0) } }
            if let bridge = change.bridge { rtnl_link_set_master(object, bridge ?? 0) }
            if let name = change.name { rtnl_link_set_name(object, name.description) }
            if let alias = change.alias { rtnl_link_set_ifalias(object, alias) }
        }
    }

    /// Moves a link to another namespace; it arrives down and without addresses.
    public func move(link index: Int32, to namespace: borrowing NetworkNamespace) throws(KernelError) {
        let (target, inode) = (namespace.descriptor.rawValue, namespace.inode)
        try apply(to: index, for: "move \(name(of: index)) to network namespace \(inode)") { object in
            rtnl_link_set_ns_fd(object, target)
        }
    }

    private func apply(
        to index: Int32, for operation: @autoclosure () -> String, _ describe: (OpaquePointer) -> Void
    ) throws(KernelError) {
        let request = try Libnl.request(about: rtnl_link_alloc(), for: operation()) { changes, result in
            describe(changes)
            // libnl asks for the link as it was; its number is all that reaches the message.
            let original = rtnl_link_alloc()!
            defer { nl_object_put(original) }
            rtnl_link_set_ifindex(original, index)
            return rtnl_link_build_change_request(original, changes, 0, result)
        }
        try socket.exchange(request, for: operation())
    }

    /// Deletes a link; false where there is none of that number. A veth takes its other end with it.
    @discardableResult
    public func deleteLink(index: Int32) throws(KernelError) -> Bool {
        let request = try Libnl.request(about: rtnl_link_alloc(), for: "delete link \(index)") {
            rtnl_link_set_ifindex($0, index)
            return rtnl_link_build_delete_request($0, $1)
        }
        return try removing(request, absence: [], for: "delete \(name(of: index))")
    }
}

extension AttributeWriter {
    /// `struct ifinfomsg`
    mutating func appendLinkHeader(family: UInt8, index: Int32) {
        append(family)
        append(bytes: [0, 0, 0])
        append(index)
        append(UInt32(0))
        append(UInt32(0))
    }
}

extension NewLink {
    fileprivate func describe(to object: OpaquePointer) {
        rtnl_link_set_name(object, name.description)
        if let mac { Libnl.with(mac) { rtnl_link_set_addr(object, $0) } }
        if let mtu { rtnl_link_set_mtu(object, UInt32(clamping: mtu)) }
        if let bridge { rtnl_link_set_master(object, bridge) }
        if isUp { set(IFF_UP, true, object) }
    }
}

private func set(_ flag: Int, _ isSet: Bool, _ object: OpaquePointer) {
    if isSet { rtnl_link_set_flags(object, UInt32(flag)) } else { rtnl_link_unset_flags(object, UInt32(flag)) }
}

extension Link {
    /// Nil for a message that describes no link: a bridge's word about one of its ports comes in the same form.
    init?(message: Span<UInt8>) {
        // Read from the header, because libnl's object for a bridge itself also says AF_BRIDGE.
        guard (try? message.integer(at: MessageHeader.size, as: UInt8.self)) == UInt8(AF_UNSPEC) else { return nil }
        let read = Libnl.read(message) { object -> Link? in
            guard let name = InterfaceName(String(cString: rtnl_link_get_name(object))) else { return nil }
            let flags = rtnl_link_get_flags(object)
            let (master, peer) = (rtnl_link_get_master(object), rtnl_link_get_link(object))
            var namespace: Int32 = 0
            let isElsewhere = rtnl_link_get_link_netnsid(object, &namespace) == 0
            return Link(
                index: rtnl_link_get_ifindex(object), name: name, kind: Kind(object),
                mac: Libnl.mac(rtnl_link_get_addr(object)), mtu: Int(rtnl_link_get_mtu(object)),
                isUp: flags & UInt32(IFF_UP) != 0, hasCarrier: flags & IFF_LOWER_UP != 0,
                isRunning: flags & UInt32(IFF_RUNNING) != 0, bridge: master == 0 ? nil : master,
                peerIndex: peer == 0 ? nil : peer,
                peerNamespaceID: isElsewhere ? namespace : nil,
                alias: rtnl_link_get_ifalias(object).map { String(cString: $0) })
        }
        guard let read else { return nil }
        self = read
    }
}

extension Link.Kind {
    fileprivate init(_ object: OpaquePointer) {
        let kind = rtnl_link_get_type(object).map { String(cString: $0) } ?? ""
        switch kind {
        case "veth": self = .veth
        case "bridge": self = .bridge
        case "vxlan":
            var (vni, port): (UInt32, UInt32) = (0, 0)
            var local: OpaquePointer?
            rtnl_link_vxlan_get_id(object, &vni)
            rtnl_link_vxlan_get_port(object, &port)
            // Nil and not an address where the device has none. The copy is ours.
            defer { nl_addr_put(local) }
            let hasLocal = rtnl_link_vxlan_get_local(object, &local) == 0
            // A device in external mode has no port of its own to speak of.
            guard let tunnelPort = Port(rawValue: UInt16(truncatingIfNeeded: port)) else {
                self = .other(kind)
                return
            }
            self = .vxlan(
                VXLAN(
                    vni: vni, port: tunnelPort, local: hasLocal ? Libnl.ip(local) : nil,
                    learning: rtnl_link_vxlan_get_learning(object) == 1))
        // ARPHRD_LOOPBACK, of <net/if_arp.h>.
        case "" where rtnl_link_get_arptype(object) == 772: self = .loopback
        default: self = .other(kind)
        }
    }
}
