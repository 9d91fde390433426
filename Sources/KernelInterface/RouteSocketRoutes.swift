import CLibNl
import Glibc
import NetlinkWire
import NetworkAddresses
public import RouteNetlink
import SystemPackage

extension RouteSocket {
    /// The routes of a table, in both families: those that lead to a link.
    ///
    /// - Parameters:
    ///   - origin: Only routes of this origin; nil for all.
    ///   - table: The table's number; the main one where nothing is said.
    ///
    /// Equivalent to `ip route show proto ORIGIN`. The corresponding message is a dump of `RTM_GETROUTE`.
    public func routes(
        origin: RouteOrigin? = nil, table: UInt32? = nil
    ) throws(KernelError) -> [Route] {
        let table = table ?? UInt32(mainTable)
        var routes: [Route] = []
        for family in AddressFamily.allCases {
            let request = AttributeWriter.message(type: UInt16(RTM_GETROUTE), flags: 0) { message in
                message.appendRouteHeader(
                    family: family, table: UInt8(exactly: table) ?? 0, origin: origin?.rawValue ?? 0)
                message.attribute(UInt16(RTA_TABLE.rawValue), table)
            }
            do {
                routes += try socket.dump(request, for: "list \(family) routes") { _, message in
                    // A kernel without IPv6 answers for it with the routes of all other families.
                    guard let route = Route(message: message), route.destination.family == family,
                        origin == nil || route.origin == origin, route.traits.table ?? UInt32(mainTable) == table
                    else { return nil }
                    return route
                }
            } catch where error.errno == .noSuchFileOrDirectory {
                // A namespace has no table before its first address or route.
            }
        }
        return routes
    }

    /// Adds a route to the main table; `EEXIST` where its destination has one already.
    ///
    /// - Parameter besideOthers: Whether other routes to the destination may be there; only the very same one may not.
    ///   The kernel then puts an IPv4 route before the others, and an IPv6 one among them as a further next hop.
    ///
    /// Equivalent to `ip route add`, or `ip route prepend`. The corresponding message is `RTM_NEWROUTE`.
    public func add(_ route: Route, besideOthers: Bool = false) throws(KernelError) {
        try send(route, besideOthers ? NLM_F_CREATE : NLM_F_CREATE | NLM_F_EXCL, for: "add \(words(for: route))")
    }

    /// Adds a route to the main table, in place of one with the same destination. Equivalent to `ip route replace`.
    public func replace(_ route: Route) throws(KernelError) {
        try send(route, NLM_F_CREATE | NLM_F_REPLACE, for: "replace \(words(for: route))")
    }

    private func send(_ route: Route, _ flags: Int32, for operation: @autoclosure () -> String) throws(KernelError) {
        let request = try Libnl.request(about: rtnl_route_alloc(), for: operation()) {
            route.describe(to: $0)
            return rtnl_route_build_add_request($0, flags, $1)
        }
        try socket.exchange(request, for: operation())
    }

    /// Removes a route of exactly this destination, gateway, link and origin; false where there is none.
    @discardableResult
    public func remove(_ route: Route) throws(KernelError) -> Bool {
        let request = try Libnl.request(about: rtnl_route_alloc(), for: "remove route \(route.destination)") {
            route.describe(to: $0)
            return rtnl_route_build_del_request($0, 0, $1)
        }
        return try removing(request, absence: [.noSuchProcess], for: "remove \(words(for: route))")
    }

    private func words(for route: Route) -> String {
        let gateway = route.gateway.map { " via \($0)" } ?? ""
        return "route \(route.destination)\(gateway) on \(name(of: route.link))"
    }
}

/// `RT_TABLE_MAIN`
let mainTable = UInt8(RT_TABLE_MAIN.rawValue)

extension AttributeWriter {
    /// `struct rtmsg`
    mutating func appendRouteHeader(
        family: AddressFamily, destinationLength: Int = 0, sourceLength: Int = 0, table: UInt8 = 0, origin: UInt8 = 0,
        flags: UInt32 = 0
    ) {
        append(bytes: [family.netlink, UInt8(destinationLength), UInt8(sourceLength), 0, table, origin, 0, 0])
        append(flags)
    }
}

extension Route {
    fileprivate func describe(to object: OpaquePointer) {
        rtnl_route_set_family(object, destination.family.netlink)
        Libnl.with(destination) { rtnl_route_set_dst(object, $0) }
        rtnl_route_set_table(object, traits.table ?? UInt32(mainTable))
        rtnl_route_set_protocol(object, origin.rawValue)
        rtnl_route_set_type(object, UInt8(RTN_UNICAST))
        // Said, because libnl's own guess does not look at a gateway of the other family.
        rtnl_route_set_scope(object, traits.scope ?? impliedScope)
        if let priority = traits.priority { rtnl_route_set_priority(object, priority) }
        if let size = traits.advertisedSegmentSize { rtnl_route_set_metric(object, Int32(RTAX_ADVMSS), size) }
        if let preferredSource { Libnl.with(preferredSource) { rtnl_route_set_pref_src(object, $0) } }
        if let mtu { rtnl_route_set_metric(object, Int32(RTAX_MTU), UInt32(clamping: mtu)) }
        // The route's own from the last line on.
        let hop = rtnl_route_nh_alloc()!
        rtnl_route_nh_set_ifindex(hop, link)
        if onLink { rtnl_route_nh_set_flags(hop, UInt32(RTNH_F_ONLINK)) }
        if let gateway {
            Libnl.with(gateway) { address in
                if gateway.family == destination.family {
                    rtnl_route_nh_set_gateway(hop, address)
                } else {
                    // An IPv4 route by way of an IPv6 neighbour (RFC 5549, RTA_VIA).
                    rtnl_route_nh_set_via(hop, address)
                }
            }
        }
        rtnl_route_add_nexthop(object, hop)
    }

    /// How far away the destination is when nobody says it.
    private var impliedScope: UInt8 { UInt8((gateway == nil ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE).rawValue) }

    /// Nil for what is no route to a link: local addresses, refusals, caches.
    ///
    /// Of a route with several next hops, the first.
    init?(message: Span<UInt8>) {
        let read = Libnl.read(message) { object -> Route? in
            guard rtnl_route_get_type(object) == UInt8(RTN_UNICAST),
                // A clone is a cache entry and not a route.
                rtnl_route_get_flags(object) & UInt32(RTM_F_CLONED) == 0,
                let family = AddressFamily(netlink: Int32(rtnl_route_get_family(object))),
                let destination = Libnl.prefix(rtnl_route_get_dst(object), family: family),
                let hop = rtnl_route_nexthop_n(object, 0)
            else { return nil }
            var mtu: UInt32 = 0
            let hasMTU = rtnl_route_get_metric(object, Int32(RTAX_MTU), &mtu) == 0
            var size: UInt32 = 0
            let hasSize = rtnl_route_get_metric(object, Int32(RTAX_ADVMSS), &size) == 0
            let (priority, table) = (rtnl_route_get_priority(object), rtnl_route_get_table(object))
            var route = Route(
                to: destination, via: Libnl.gateway(of: hop), link: rtnl_route_nh_get_ifindex(hop),
                onLink: rtnl_route_nh_get_flags(hop) & UInt32(RTNH_F_ONLINK) != 0,
                preferredSource: Libnl.ip(rtnl_route_get_pref_src(object)),
                origin: RouteOrigin(rawValue: rtnl_route_get_protocol(object)), mtu: hasMTU ? Int(mtu) : nil,
                traits: RouteTraits(
                    priority: priority == family.impliedPriority ? nil : priority,
                    advertisedSegmentSize: hasSize ? size : nil, table: table == UInt32(mainTable) ? nil : table))
            let scope = rtnl_route_get_scope(object)
            if family == .ipv4, scope != route.impliedScope { route.traits.scope = scope }
            return route
        }
        guard let read else { return nil }
        self = read
    }
}

extension Libnl {
    /// A next hop's gateway, of the route's family or of the other.
    static func gateway(of hop: OpaquePointer) -> IPAddress? {
        ip(rtnl_route_nh_get_gateway(hop)) ?? ip(rtnl_route_nh_get_via(hop))
    }
}

extension AddressFamily {
    /// The priority of a route that says none (`IP6_RT_PRIO_USER` in IPv6).
    fileprivate var impliedPriority: UInt32 { self == .ipv4 ? 0 : 1024 }
}
