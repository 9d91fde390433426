import CLibNl
import Glibc
import NetlinkWire
import NetworkAddresses
public import RouteNetlink
import SystemPackage

/// Traffic control: what limits a link's rate.
///
/// Written attribute by attribute: libnl-route 3.7 counts a rate in an `int`, which ends at 17 Gbit/s, and knows tbf's
/// bucket only in clock ticks.
extension RouteSocket {
    /// Sets the token bucket at the root of a link, in place of what is there.
    ///
    /// Equivalent to `tc qdisc replace dev LINK root handle 1: tbf rate RATE burst BURST limit LIMIT`.
    public func replace(_ bucket: TokenBucket, on link: Int32) throws(KernelError) {
        let request = AttributeWriter.message(type: UInt16(RTM_NEWQDISC), flags: createOrReplace) { message in
            message.appendTrafficHeader(link: link, handle: firstHandle, parent: root)
            message.attribute(TrafficNumber.kind, text: "tbf")
            message.attribute(nested: TrafficNumber.options) { options in
                options.attribute(TrafficNumber.bucketParameters) { $0.append(bucket) }
                if bucket.rate > UInt64(UInt32.max) {
                    options.attribute(TrafficNumber.bucketRate64, bucket.rate)
                }
                options.attribute(TrafficNumber.bucketBurst, bucket.burst)
            }
        }
        try socket.exchange(request, for: "limit the rate of \(name(of: link))")
    }

    /// The token bucket at the root of a link; nil where something else is there.
    public func tokenBucket(of link: Int32) throws(KernelError) -> TokenBucket? {
        let request = AttributeWriter.message(type: UInt16(RTM_GETQDISC), flags: 0) { message in
            message.appendTrafficHeader(link: link)
        }
        let buckets = try socket.dump(request, for: "list queueing disciplines") {
            _, message throws(DecodeError) in
            try TokenBucket(message: message, link: link)
        }
        return buckets.first
    }

    /// Takes the queueing discipline from the root of a link; false where there was none but the kernel's own.
    @discardableResult
    public func removeRootDiscipline(of link: Int32) throws(KernelError) -> Bool {
        let request = AttributeWriter.message(type: UInt16(RTM_DELQDISC), flags: 0) { message in
            message.appendTrafficHeader(link: link, parent: root)
        }
        return try removing(
            request, absence: [.noSuchFileOrDirectory, .invalidArgument],
            for: "remove the queueing discipline of \(name(of: link))")
    }

    /// Sends everything that comes in by a link out of another one instead; an `ifb` gives it back once it has waited.
    ///
    /// Equivalent to `tc qdisc add dev LINK ingress` and
    /// `tc filter add dev LINK parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev TARGET`.
    public func redirectIngress(of link: Int32, to target: Int32) throws(KernelError) {
        let discipline = AttributeWriter.message(type: UInt16(RTM_NEWQDISC), flags: createOrReplace) { message in
            message.appendTrafficHeader(link: link, handle: ingressHandle, parent: ingress)
            message.attribute(TrafficNumber.kind, text: "ingress")
        }
        try socket.exchange(discipline, for: "take in what comes by \(name(of: link))")
        let filter = AttributeWriter.message(type: UInt16(RTM_NEWTFILTER), flags: createOrReplace) { message in
            message.appendTrafficHeader(link: link, parent: ingressHandle, info: everyProtocol)
            message.attribute(TrafficNumber.kind, text: "u32")
            message.attribute(nested: TrafficNumber.options) { options in
                options.attribute(TrafficNumber.selector) { $0.appendMatchAll() }
                options.attribute(nested: TrafficNumber.actions) { actions in
                    actions.attribute(nested: 1) { action in
                        action.attribute(TrafficNumber.actionKind, text: "mirred")
                        action.attribute(nested: TrafficNumber.actionOptions) { options in
                            options.attribute(TrafficNumber.mirredParameters) { $0.appendRedirect(to: target) }
                        }
                    }
                }
            }
        }
        try socket.exchange(filter, for: "redirect what comes by \(name(of: link)) to \(name(of: target))")
    }

    /// Where everything that comes in by a link is sent instead; nil where nothing is.
    public func ingressRedirection(of link: Int32) throws(KernelError) -> Int32? {
        let request = AttributeWriter.message(type: UInt16(RTM_GETTFILTER), flags: 0) { message in
            message.appendTrafficHeader(link: link, parent: ingressHandle)
        }
        do {
            return try socket.dump(request, for: "list filters of \(name(of: link))") {
                _, message throws(DecodeError) in
                try redirectionTarget(message)
            }.first
        } catch where error.errno == .invalidArgument || error.errno == .noSuchFileOrDirectory {
            // No ingress discipline to have filters.
            return nil
        }
    }

    /// Stops taking in what comes by a link: the filters go too.
    @discardableResult
    public func removeIngress(of link: Int32) throws(KernelError) -> Bool {
        let request = AttributeWriter.message(type: UInt16(RTM_DELQDISC), flags: 0) { message in
            message.appendTrafficHeader(link: link, handle: ingressHandle, parent: ingress)
        }
        return try removing(
            request, absence: [.noSuchFileOrDirectory, .invalidArgument],
            for: "remove the ingress discipline of \(name(of: link))")
    }

    /// Makes an intermediate functional block, the device that holds packets back for another one.
    ///
    /// Equivalent to `ip link add NAME type ifb`.
    public func addIntermediateBlock(_ link: NewLink) throws(KernelError) {
        let request = AttributeWriter.message(type: UInt16(RTM_NEWLINK), flags: createExclusively) { message in
            // struct ifinfomsg, with IFF_UP in what is set and what is meant.
            message.append(bytes: [0, 0, 0, 0])
            message.append(Int32(0))
            message.append(UInt32(link.isUp ? IFF_UP : 0))
            message.append(UInt32(link.isUp ? IFF_UP : 0))
            message.attribute(UInt16(IFLA_IFNAME), text: link.name.description)
            if let mtu = link.mtu { message.attribute(UInt16(IFLA_MTU), UInt32(clamping: mtu)) }
            message.attribute(nested: UInt16(IFLA_LINKINFO)) { $0.attribute(UInt16(IFLA_INFO_KIND), text: "ifb") }
        }
        try socket.exchange(request, for: "add intermediate block \(link.name)")
    }
}

private let createOrReplace = UInt16(NLM_F_CREATE | NLM_F_REPLACE)
private let createExclusively = UInt16(NLM_F_CREATE | NLM_F_EXCL)
/// `TC_H_ROOT`, `TC_H_INGRESS`, the handles `1:` and `ffff:`
private let root: UInt32 = 0xffff_ffff
private let ingress: UInt32 = 0xffff_fff1
private let firstHandle: UInt32 = 0x0001_0000
private let ingressHandle: UInt32 = 0xffff_0000
/// Priority 1 and `ETH_P_ALL` in network order (`TC_H_MAKE`).
private let everyProtocol: UInt32 = 1 << 16 | UInt32(UInt16(3).bigEndian)

/// Of `linux/rtnetlink.h`, `linux/pkt_sched.h` and `linux/pkt_cls.h`.
private enum TrafficNumber {
    /// `TCA_*`
    static let kind: UInt16 = 1
    static let options: UInt16 = 2
    /// `TCA_TBF_*`
    static let bucketParameters: UInt16 = 1
    static let bucketRate64: UInt16 = 4
    static let bucketBurst: UInt16 = 6
    /// `TCA_U32_*`
    static let selector: UInt16 = 5
    static let actions: UInt16 = 7
    /// `TCA_ACT_*`, `TCA_MIRRED_PARMS`
    static let actionKind: UInt16 = 1
    static let actionOptions: UInt16 = 2
    static let mirredParameters: UInt16 = 2
}

extension AttributeWriter {
    /// `struct tcmsg`
    fileprivate mutating func appendTrafficHeader(
        link: Int32, handle: UInt32 = 0, parent: UInt32 = 0, info: UInt32 = 0
    ) {
        append(bytes: [0, 0, 0, 0])
        append(link)
        append(handle)
        append(parent)
        append(info)
    }

    /// `struct tc_tbf_qopt`: two of `struct tc_ratespec`, then limit, buffer and MTU.
    fileprivate mutating func append(_ bucket: TokenBucket) {
        // TC_LINKLAYER_ETHERNET: the kernel computes, and wants no table of times for packets' lengths.
        append(bytes: [0, 1, 0, 0, 0, 0, 0, 0])
        append(UInt32(clamping: bucket.rate))
        append(bytes: [UInt8](repeating: 0, count: 12))
        append(bucket.limit)
        // The bucket's size is told in bytes, in an attribute of its own; there is no peak rate and so no MTU.
        append(UInt32(0))
        append(UInt32(0))
    }

    /// `struct tc_u32_sel` with one `struct tc_u32_key` that every packet matches.
    fileprivate mutating func appendMatchAll() {
        // TC_U32_TERMINAL, no shift, one key; the rest of the selector and the key are zero.
        append(bytes: [1, 0, 1, 0])
        append(bytes: [UInt8](repeating: 0, count: 12 + 16))
    }

    /// `struct tc_mirred`: `tc_gen` of five words, what to do, and with which link.
    fileprivate mutating func appendRedirect(to target: Int32) {
        append(UInt32(0))
        append(UInt32(0))
        // TC_ACT_STOLEN: this packet's way ends here.
        append(Int32(4))
        append(Int32(0))
        append(Int32(0))
        // TCA_EGRESS_REDIR
        append(Int32(1))
        append(target)
    }
}

/// Visits the options of a message about traffic control, where it is of this kind.
private func visitOptions(
    _ message: Span<UInt8>, of kind: String, _ visit: (UInt16, Span<UInt8>) throws(DecodeError) -> Void
) throws(DecodeError) {
    // Behind struct tcmsg.
    let start = MessageHeader.size + 20
    var isMeant = false
    try message.forEachAttribute(from: start) { type, value throws(DecodeError) in
        if type == TrafficNumber.kind { isMeant = value.text() == kind }
    }
    guard isMeant else { return }
    try message.forEachAttribute(from: start) { type, value throws(DecodeError) in
        if type == TrafficNumber.options { try value.forEachAttribute(visit) }
    }
}

extension TokenBucket {
    fileprivate init?(message: Span<UInt8>, link: Int32) throws(DecodeError) {
        let header = MessageHeader.size
        // The kernel lists those of every link.
        let (found, parent) = (
            try message.integer(at: header + 4, as: Int32.self), try message.integer(at: header + 12, as: UInt32.self)
        )
        guard found == link, parent == root else { return nil }
        var (rate, limit, burst): (UInt64?, UInt32, UInt32) = (nil, 0, 0)
        try visitOptions(message, of: "tbf") { type, value throws(DecodeError) in
            switch type {
            case TrafficNumber.bucketParameters:
                if rate == nil { rate = UInt64(try value.integer(at: 8, as: UInt32.self)) }
                limit = try value.integer(at: 24, as: UInt32.self)
                // Told in ticks of 64 ns for the time that the bucket lasts at its rate.
                burst = try value.integer(at: 28, as: UInt32.self)
            case TrafficNumber.bucketRate64: rate = try value.integer()
            default: break
            }
        }
        guard let rate else { return nil }
        let bytes = Double(burst) * 64 * Double(rate) / 1_000_000_000
        self.init(rate: rate, burst: UInt32(min(bytes.rounded(), Double(UInt32.max))), limit: limit)
    }
}

private func redirectionTarget(_ message: Span<UInt8>) throws(DecodeError) -> Int32? {
    var target: Int32?
    try visitOptions(message, of: "u32") { type, value throws(DecodeError) in
        guard type == TrafficNumber.actions else { return }
        try value.forEachAttribute { _, action throws(DecodeError) in
            try action.forEachAttribute { type, value throws(DecodeError) in
                guard type == TrafficNumber.actionOptions else { return }
                try value.forEachAttribute { type, value throws(DecodeError) in
                    if type == TrafficNumber.mirredParameters { target = try value.integer(at: 24, as: Int32.self) }
                }
            }
        }
    }
    return target
}
