import CLibNl
import Glibc
import NetlinkWire
public import NetworkAddresses
public import RouteNetlink
import SystemPackage

extension RouteSocket {
    /// Asks the kernel where it would send a packet.
    ///
    /// - Parameter source: The packet's source; nil for one the kernel is to choose.
    /// - Parameter link: The link the packet arrives on, for one that is forwarded or delivered; nil for one sent here.
    /// - Parameter mark: The packet's mark, which policy routing may look at.
    ///
    /// Equivalent to `ip route get [fibmatch]`. The corresponding message is `RTM_GETROUTE`.
    public func decide(
        to destination: IPAddress, from source: IPAddress? = nil, arrivingOn link: Int32? = nil, mark: UInt32? = nil
    ) throws(KernelError) -> RouteDecision {
        let question = RouteQuestion(destination: destination, source: source, link: link, mark: mark)
        var decision = RouteDecision(kind: .refused("no answer"), link: 0, gateway: nil, source: nil, matched: nil)
        do {
            try socket.exchange(question.request(flags: 0), for: "\(question)") { _, message in
                decision = RouteDecision(message: message) ?? decision
            }
        } catch where error.refusedRoute != nil {
            // A refusal names no route.
            decision.kind = .refused(error.refusedRoute ?? "")
            // On its way in a packet meets a second check with the same EINVAL: whether its source belongs behind the
            // link (rp_filter, martian addresses). A blackhole would also refuse a packet that is sent from here.
            if link != nil, decision.kind == .refused("blackhole"),
                try decide(to: destination, mark: mark).kind != decision.kind
            {
                decision.kind = .refused("source validation")
            }
            return decision
        }
        // The resolved answer does not say which route it came from; asked for the route, the kernel does not resolve.
        try socket.exchange(question.request(flags: UInt32(RTM_F_FIB_MATCH)), for: "\(question)") { _, message in
            decision.matched = RouteDecision.matchedPrefix(message, family: destination.family)
        }
        return decision
    }
}

/// Where a packet is to be sent, as a question to the kernel.
private struct RouteQuestion: CustomStringConvertible {
    var destination: IPAddress
    var source: IPAddress?
    var link: Int32?
    var mark: UInt32?

    var description: String {
        "ask for the route to \(destination)" + (source.map { " from \($0)" } ?? "")
            + (link.map { " arriving on link \($0)" } ?? "") + (mark.map { " with mark \($0)" } ?? "")
    }

    func request(flags: UInt32) -> [UInt8] {
        let width = destination.family.bitWidth
        return AttributeWriter.message(type: UInt16(RTM_GETROUTE), flags: 0) { message in
            message.appendRouteHeader(
                family: destination.family, destinationLength: width, sourceLength: source == nil ? 0 : width,
                flags: flags)
            message.attribute(UInt16(RTA_DST.rawValue), bytes: destination.bytes)
            if let source { message.attribute(UInt16(RTA_SRC.rawValue), bytes: source.bytes) }
            if let link { message.attribute(UInt16(RTA_IIF.rawValue), link) }
            if let mark { message.attribute(UInt16(RTA_MARK.rawValue), mark) }
        }
    }
}

extension KernelError {
    /// The kind of route that refuses the packet; nil where the question itself was wrong.
    ///
    /// The kernel answers with the error a sender would get (`fib_props`).
    fileprivate var refusedRoute: String? {
        // An explained EINVAL is about the question, a bare one about the packet.
        guard kernelMessage == nil else { return nil }
        return switch errno {
        case .networkUnreachable: "no route"
        case .noRouteToHost: "unreachable"
        case .permissionDenied: "prohibit"
        case .invalidArgument: "blackhole"
        case .resourceTemporarilyUnavailable: "throw"
        // What kernels before 6.13 say for a source that does not belong behind the link.
        case .improperLink: "source validation"
        default: nil
        }
    }
}

extension RouteDecision {
    init?(message: Span<UInt8>) {
        let read = Libnl.read(message) { object -> RouteDecision? in
            let hop = rtnl_route_nexthop_n(object, 0)
            return RouteDecision(
                kind: Kind(routeType: Int(rtnl_route_get_type(object))), link: hop.map(rtnl_route_nh_get_ifindex) ?? 0,
                gateway: hop.flatMap(Libnl.gateway), source: Libnl.ip(rtnl_route_get_pref_src(object)), matched: nil)
        }
        guard let read else { return nil }
        self = read
    }

    fileprivate static func matchedPrefix(_ message: Span<UInt8>, family: AddressFamily) -> IPPrefix? {
        Libnl.read(message) { Libnl.prefix(rtnl_route_get_dst($0), family: family) }
    }
}

extension RouteDecision.Kind {
    fileprivate init(routeType: Int) {
        self =
            switch routeType {
            case RTN_UNICAST: .unicast
            case RTN_LOCAL, RTN_ANYCAST, RTN_BROADCAST, RTN_MULTICAST: .local
            case RTN_BLACKHOLE: .refused("blackhole")
            case RTN_UNREACHABLE: .refused("unreachable")
            case RTN_PROHIBIT: .refused("prohibit")
            case RTN_THROW: .refused("throw")
            default: .refused("route type \(routeType)")
            }
    }
}
