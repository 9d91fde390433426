import CLibMnl
import CLibNl
import Glibc
import NetlinkWire
public import RouteNetlink
import SystemPackage

/// A change in a network namespace, told by the kernel when it has happened.
public enum RouteChange: Hashable, Sendable {
    /// A link is new or has changed; also when it comes from another namespace.
    case link(Link)
    case linkRemoved(Link)
    case address(InterfaceAddress)
    case addressRemoved(InterfaceAddress)
    /// A route of the main table.
    case route(Route)
    case routeRemoved(Route)
    case neighbor(Neighbor)
    case neighborRemoved(Neighbor)
    case forwardingEntry(ForwardingEntry)
    case forwardingEntryRemoved(ForwardingEntry)
    /// More happened than the socket's buffer holds: what is known must be listed anew.
    case missed
}

/// Tells what changes in a network namespace, whoever changes it (rtnetlink's multicast groups).
public struct RouteMonitor: ~Copyable, Sendable {
    private let socket: NetlinkSocket

    /// Opens a monitor in the calling thread's network namespace; it tells what happens from now on.
    public static func open() throws(KernelError) -> RouteMonitor {
        let operation = "open route monitor"
        let socket = try NetlinkSocket.open(NETLINK_ROUTE, for: operation)
        let groups = [
            RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR,
            RTNLGRP_IPV6_ROUTE,
        ]
        for group in groups { try socket.join(Int32(group.rawValue), for: operation) }
        return RouteMonitor(socket: socket)
    }

    private init(socket: consuming NetlinkSocket) { self.socket = socket }

    /// To wait on together with other things (`poll`); readable when `next` has something.
    public var fileDescriptor: Int32 { socket.fileDescriptor }

    /// The changes since the last call, in their order; empty where the timeout passes before any.
    ///
    /// - Parameter timeout: How long to wait for the first; nil for ever.
    public func next(timeout: Duration? = nil) throws(KernelError) -> [RouteChange] {
        var changes: [RouteChange] = []
        let isWhole = try socket.notifications(timeout: timeout, for: "read route changes") { header, message in
            if let change = RouteChange(header.type, message) { changes.append(change) }
        }
        return isWhole ? changes : changes + [.missed]
    }
}

extension RouteChange {
    /// Nil for what nothing here is about: other tables, other families, a bridge's word about its ports.
    fileprivate init?(_ type: UInt16, _ message: Span<UInt8>) {
        let change: RouteChange? =
            switch Int(type) {
            case RTM_NEWLINK: Link(message: message).map { .link($0) }
            case RTM_DELLINK: Link(message: message).map { .linkRemoved($0) }
            case RTM_NEWADDR: InterfaceAddress(message: message).map { .address($0) }
            case RTM_DELADDR: InterfaceAddress(message: message).map { .addressRemoved($0) }
            case RTM_NEWROUTE: Route(message: message).flatMap { $0.traits.table == nil ? .route($0) : nil }
            case RTM_DELROUTE: Route(message: message).flatMap { $0.traits.table == nil ? .routeRemoved($0) : nil }
            case RTM_NEWNEIGH:
                Neighbor(message: message).map { .neighbor($0) }
                    ?? ForwardingEntry(message: message).map { .forwardingEntry($0) }
            case RTM_DELNEIGH:
                Neighbor(message: message).map { .neighborRemoved($0) }
                    ?? ForwardingEntry(message: message).map { .forwardingEntryRemoved($0) }
            default: nil
            }
        guard let change else { return nil }
        self = change
    }
}
