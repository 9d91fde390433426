import CLibNl
import Glibc
import NetlinkWire
import NetworkAddresses
public import RouteNetlink
import SystemPackage

/// Bridges and their ports, of which libnl-route 3.7 knows neither isolation nor VLANs.
extension RouteSocket {
    /// Sets how a bridge treats one of its ports.
    ///
    /// - Parameter hairpin: Whether a packet may leave by the port it came in.
    /// - Parameter isolated: Whether the port exchanges packets only with ports that are not isolated.
    ///
    /// Equivalent to `bridge link set dev PORT hairpin on isolated on`.
    public func setBridgePort(link index: Int32, hairpin: Bool?, isolated: Bool?) throws(KernelError) {
        // libnl-route 3.7 does not know isolation.
        let request = AttributeWriter.message(type: UInt16(RTM_SETLINK), flags: 0) { message in
            message.appendLinkHeader(family: UInt8(AF_BRIDGE), index: index)
            message.attribute(nested: UInt16(IFLA_PROTINFO)) { port in
                if let hairpin { port.attribute(UInt16(IFLA_BRPORT_MODE), UInt8(hairpin ? 1 : 0)) }
                if let isolated { port.attribute(UInt16(IFLA_BRPORT_ISOLATED), UInt8(isolated ? 1 : 0)) }
            }
        }
        try socket.exchange(request, for: "set bridge port \(name(of: index))")
    }

    /// How its bridge treats a link; nil where the link is no bridge's port.
    ///
    /// Equivalent to `ip -d link show PORT`. The corresponding message is `RTM_GETLINK`.
    public func bridgePort(_ link: Int32) throws(KernelError) -> BridgePort? {
        let operation = "look at bridge port \(name(of: link))"
        let request = AttributeWriter.message(type: UInt16(RTM_GETLINK), flags: 0) { message in
            message.appendLinkHeader(family: UInt8(AF_UNSPEC), index: link)
        }
        var port: BridgePort?
        try socket.exchange(request, for: operation) { _, message throws(DecodeError) in
            port = try BridgeMessages.port(in: message)
        }
        return port
    }

    /// Makes a bridge keep the VLANs of its ports apart; `EOPNOTSUPP` from a kernel that cannot.
    ///
    /// Equivalent to `ip link set BRIDGE type bridge vlan_filtering 1`. The corresponding message is `RTM_NEWLINK`.
    public func filterVLANs(on bridge: Int32) throws(KernelError) {
        try socket.exchange(
            BridgeMessages.filterVLANs(on: bridge), for: "filter VLANs on bridge \(name(of: bridge))")
    }

    /// Gives a port that has just joined its bridge its VLANs.
    ///
    /// Equivalent to `bridge vlan del dev PORT vid 1` and `bridge vlan add dev PORT vid VLAN pvid untagged`.
    public func setVLANs(of port: Int32, _ vlans: PortVLANs) throws(KernelError) {
        let operation = "set the VLANs of \(name(of: port))"
        if !vlans.keepsDefault, let initial = try defaultVLAN(of: port, for: operation) {
            try socket.exchange(BridgeMessages.leaveVLAN(initial, port: port), for: operation)
        }
        try socket.exchange(BridgeMessages.joinVLANs(vlans, port: port), for: operation)
    }

    /// The VLAN that the port's bridge puts every new port into; nil where it puts them into none.
    private func defaultVLAN(of port: Int32, for operation: String) throws(KernelError) -> UInt16? {
        guard let bridge = try link(index: port)?.bridge else {
            throw KernelError(operation: operation, errno: .invalidArgument, kernelMessage: "it is no bridge's port")
        }
        let request = AttributeWriter.message(type: UInt16(RTM_GETLINK), flags: 0) { message in
            message.appendLinkHeader(family: UInt8(AF_UNSPEC), index: bridge)
        }
        var vlan: UInt16?
        try socket.exchange(request, for: operation) { _, message throws(DecodeError) in
            vlan = try BridgeMessages.defaultVLAN(in: message)
        }
        return vlan == 0 ? nil : vlan
    }
}

/// The messages about bridges' VLANs, apart from the socket: not every kernel can be asked what it makes of them.
enum BridgeMessages {
    /// `IFLA_BR_VLAN_FILTERING`, `IFLA_BR_VLAN_DEFAULT_PVID` of `linux/if_link.h`.
    private static let filtering: UInt16 = 7
    private static let defaultNumber: UInt16 = 39
    /// `IFLA_BRIDGE_VLAN_INFO` and the bits of `struct bridge_vlan_info` of `linux/if_bridge.h`.
    private static let information: UInt16 = 2
    private static let isOwn: UInt16 = 1 << 1
    private static let leavesUntagged: UInt16 = 1 << 2
    private static let beginsRange: UInt16 = 1 << 3
    private static let endsRange: UInt16 = 1 << 4

    static func filterVLANs(on bridge: Int32) -> [UInt8] {
        AttributeWriter.message(type: UInt16(RTM_NEWLINK), flags: 0) { message in
            message.appendLinkHeader(family: UInt8(AF_UNSPEC), index: bridge)
            message.attribute(nested: UInt16(IFLA_LINKINFO)) { information in
                information.attribute(UInt16(IFLA_INFO_KIND), text: "bridge")
                information.attribute(nested: UInt16(IFLA_INFO_DATA)) { $0.attribute(filtering, UInt8(1)) }
            }
        }
    }

    static func joinVLANs(_ vlans: PortVLANs, port: Int32) -> [UInt8] {
        change(port: port, type: UInt16(RTM_SETLINK)) { entries in
            if let own = vlans.untagged { entries.append((isOwn | leavesUntagged, own)) }
            for range in vlans.tagged {
                if range.count == 1 {
                    entries.append((0, range.lowerBound))
                } else {
                    entries += [(beginsRange, range.lowerBound), (endsRange, range.upperBound)]
                }
            }
        }
    }

    static func leaveVLAN(_ vlan: UInt16, port: Int32) -> [UInt8] {
        change(port: port, type: UInt16(RTM_DELLINK)) { $0 = [(0, vlan)] }
    }

    private static func change(
        port: Int32, type: UInt16, _ describe: (inout [(flags: UInt16, vlan: UInt16)]) -> Void
    ) -> [UInt8] {
        var entries: [(flags: UInt16, vlan: UInt16)] = []
        describe(&entries)
        return AttributeWriter.message(type: type, flags: 0) { message in
            message.appendLinkHeader(family: UInt8(AF_BRIDGE), index: port)
            message.attribute(nested: UInt16(IFLA_AF_SPEC)) { specification in
                for entry in entries {
                    specification.attribute(information) { value in
                        value.append(entry.flags)
                        value.append(entry.vlan)
                    }
                }
            }
        }
    }

    /// What the kernel's description of a link says of it as a bridge's port; nil where it is none.
    static func port(in message: Span<UInt8>) throws(DecodeError) -> BridgePort? {
        var (kind, port): (String?, BridgePort) = (nil, BridgePort(isHairpin: false, isIsolated: false))
        try message.forEachAttribute(from: MessageHeader.size + 16) { type, value throws(DecodeError) in
            guard type == UInt16(IFLA_LINKINFO) else { return }
            try value.forEachAttribute { type, value throws(DecodeError) in
                if type == UInt16(IFLA_INFO_SLAVE_KIND) { kind = value.text() }
                guard type == UInt16(IFLA_INFO_SLAVE_DATA) else { return }
                try value.forEachAttribute { type, value throws(DecodeError) in
                    switch Int(type) {
                    case IFLA_BRPORT_MODE: port.isHairpin = try value.integer(as: UInt8.self) != 0
                    case IFLA_BRPORT_ISOLATED: port.isIsolated = try value.integer(as: UInt8.self) != 0
                    default: break
                    }
                }
            }
        }
        return kind == "bridge" ? port : nil
    }

    /// The number in the kernel's description of a bridge; nil where it has none, as from a kernel without VLANs.
    static func defaultVLAN(in message: Span<UInt8>) throws(DecodeError) -> UInt16? {
        var vlan: UInt16?
        // Behind struct ifinfomsg.
        try message.forEachAttribute(from: MessageHeader.size + 16) { type, value throws(DecodeError) in
            guard type == UInt16(IFLA_LINKINFO) else { return }
            try value.forEachAttribute { type, value throws(DecodeError) in
                guard type == UInt16(IFLA_INFO_DATA) else { return }
                try value.forEachAttribute { type, value throws(DecodeError) in
                    if type == defaultNumber { vlan = try value.integer() }
                }
            }
        }
        return vlan
    }
}
