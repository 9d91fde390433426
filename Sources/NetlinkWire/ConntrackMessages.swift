public import NetworkAddresses

/// The messages of ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`): numbers in network byte order, tuples nested.
extension ConntrackEntry {
    /// The request for all entries, of one family or of both, to be sent as a dump (`IPCTNL_MSG_CT_GET`).
    public static func listRequest(_ family: AddressFamily?) -> [UInt8] {
        AttributeWriter.message(type: ConntrackNumber.get, flags: 0) { $0.appendHeader(family) }
    }

    /// The request to delete the entry whose original direction is this (`IPCTNL_MSG_CT_DELETE`).
    public static func deleteRequest(original: ConntrackTuple) -> [UInt8] {
        AttributeWriter.message(type: ConntrackNumber.delete, flags: 0) { message in
            message.appendHeader(original.source.family)
            message.attribute(nested: ConntrackNumber.originalTuple) { original.write(to: &$0) }
        }
    }

    /// The request to delete all entries that meet a filter (`IPCTNL_MSG_CT_DELETE` with `CTA_FILTER`).
    ///
    /// Kernels before 6.8 take it for the name of one entry, and refuse it as incomplete.
    public static func deleteRequest(_ filter: ConntrackFilter) -> [UInt8] {
        AttributeWriter.message(type: ConntrackNumber.delete, flags: 0) { message in
            // In version 0 the family is not looked at, and a tuple has none of its own.
            message.append(bytes: [filter.family.number, 1, 0, 0])
            message.attribute(nested: filter.direction.rawValue) { filter.write(to: &$0) }
            message.attribute(nested: ConntrackNumber.filter) { $0.attribute(filter.direction.rawValue, filter.flags) }
        }
    }

    /// The request to clear bits of an entry's mark (`IPCTNL_MSG_CT_NEW` without `NLM_F_CREATE`).
    public static func clearMarkRequest(_ mask: UInt32, original: ConntrackTuple) -> [UInt8] {
        AttributeWriter.message(type: ConntrackNumber.new, flags: 0) { message in
            message.appendHeader(original.source.family)
            message.attribute(nested: ConntrackNumber.originalTuple) { original.write(to: &$0) }
            message.attribute(ConntrackNumber.mark, bigEndian: UInt32(0))
            message.attribute(ConntrackNumber.markMask, bigEndian: mask)
        }
    }

    /// Reads one entry; nil for a message of another type, or an entry of a family that is not IP.
    public init?(header: MessageHeader, message: Span<UInt8>) throws(DecodeError) {
        guard header.type == ConntrackNumber.new else { return nil }
        var (original, reply): (ConntrackTuple?, ConntrackTuple?)
        var (mark, status, timeout): (UInt32, UInt32, UInt32?) = (0, 0, nil)
        // Behind struct nfgenmsg.
        try message.forEachAttribute(from: MessageHeader.size + 4) { type, value throws(DecodeError) in
            switch type {
            case ConntrackNumber.originalTuple: original = try ConntrackTuple(value)
            case ConntrackNumber.replyTuple: reply = try ConntrackTuple(value)
            case ConntrackNumber.status: status = try value.bigEndian()
            case ConntrackNumber.timeout: timeout = try value.bigEndian()
            case ConntrackNumber.mark: mark = try value.bigEndian()
            default: break
            }
        }
        guard let original, let reply else { return nil }
        self.init(original: original, reply: reply, mark: mark, status: Status(rawValue: status), timeout: timeout)
    }
}

extension ConntrackTuple {
    fileprivate init?(_ tuple: Span<UInt8>) throws(DecodeError) {
        var (source, destination): (IPAddress?, IPAddress?)
        var number: UInt8 = 0
        var ports: (source: UInt16?, destination: UInt16?)
        var icmp: (type: UInt8?, code: UInt8?, identifier: UInt16?)
        try tuple.forEachAttribute { type, value throws(DecodeError) in
            switch type {
            case ConntrackNumber.addresses:
                try value.forEachAttribute { type, value throws(DecodeError) in
                    switch type {
                    case 1, 3: source = try value.address()
                    case 2, 4: destination = try value.address()
                    default: break
                    }
                }
            case ConntrackNumber.transport:
                try value.forEachAttribute { type, value throws(DecodeError) in
                    switch type {
                    case ConntrackNumber.protocolNumber: number = try value.integer()
                    case ConntrackNumber.sourcePort: ports.source = try value.bigEndian()
                    case ConntrackNumber.destinationPort: ports.destination = try value.bigEndian()
                    // ICMP and ICMPv6 differ in the attribute types alone.
                    case 4, 7: icmp.identifier = try value.bigEndian()
                    case 5, 8: icmp.type = try value.integer()
                    case 6, 9: icmp.code = try value.integer()
                    default: break
                    }
                }
            default: break
            }
        }
        guard let source, let destination else { return nil }
        let detail: Detail =
            if let from = ports.source, let to = ports.destination {
                .ports(source: from, destination: to)
            } else if let type = icmp.type, let code = icmp.code, let identifier = icmp.identifier {
                .icmp(type: type, code: code, identifier: identifier)
            } else {
                .none
            }
        self.init(source: source, destination: destination, protocolNumber: number, detail: detail)
    }

    fileprivate func write(to writer: inout AttributeWriter) {
        let isIPv4 = source.family == .ipv4
        writer.attribute(nested: ConntrackNumber.addresses) { addresses in
            addresses.attribute(isIPv4 ? 1 : 3, bytes: source.bytes)
            addresses.attribute(isIPv4 ? 2 : 4, bytes: destination.bytes)
        }
        writer.attribute(nested: ConntrackNumber.transport) { transport in
            transport.attribute(ConntrackNumber.protocolNumber, protocolNumber)
            switch detail {
            case .ports(let source, let destination):
                transport.attribute(ConntrackNumber.sourcePort, bigEndian: source)
                transport.attribute(ConntrackNumber.destinationPort, bigEndian: destination)
            case .icmp(let type, let code, let identifier):
                transport.attribute(isIPv4 ? 4 : 7, bigEndian: identifier)
                transport.attribute(isIPv4 ? 5 : 8, type)
                transport.attribute(isIPv4 ? 6 : 9, code)
            case .none: break
            }
        }
    }
}

extension ConntrackFilter {
    /// `CTA_FILTER_FLAG`: what of the tuple is to be compared.
    fileprivate var flags: UInt32 {
        let addresses: UInt32 = (source == nil ? 0 : 1 << 0) | (destination == nil ? 0 : 1 << 1)
        return addresses | (service == nil ? 0 : 1 << 3 | 1 << 5)
    }

    fileprivate func write(to writer: inout AttributeWriter) {
        let first: UInt16 = family == .ipv4 ? 1 : 3
        writer.attribute(nested: ConntrackNumber.addresses) { addresses in
            if let source { addresses.attribute(first, bytes: source.bytes) }
            if let destination { addresses.attribute(first + 1, bytes: destination.bytes) }
        }
        guard let service else { return }
        writer.attribute(nested: ConntrackNumber.transport) { transport in
            transport.attribute(ConntrackNumber.protocolNumber, service.transport.rawValue)
            transport.attribute(ConntrackNumber.destinationPort, bigEndian: service.port.rawValue)
        }
    }
}

extension AttributeWriter {
    /// `struct nfgenmsg`: family (0 for any), version 0, no resource.
    fileprivate mutating func appendHeader(_ family: AddressFamily?) { append(bytes: [family?.number ?? 0, 0, 0, 0]) }
}

private enum ConntrackNumber {
    /// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*`
    static let new: UInt16 = 1 << 8
    static let get: UInt16 = 1 << 8 | 1
    static let delete: UInt16 = 1 << 8 | 2
    /// `CTA_TUPLE_ORIG` …
    static let originalTuple: UInt16 = 1
    static let replyTuple: UInt16 = 2
    static let status: UInt16 = 3
    static let timeout: UInt16 = 7
    static let mark: UInt16 = 8
    static let markMask: UInt16 = 21
    static let filter: UInt16 = 25
    /// `CTA_TUPLE_IP`, with `CTA_IP_V4_SRC` = 1, `V4_DST`, `V6_SRC`, `V6_DST`
    static let addresses: UInt16 = 1
    /// `CTA_TUPLE_PROTO`, with `CTA_PROTO_ICMP_ID` = 4, `TYPE`, `CODE`, `ICMPV6_ID`, `TYPE`, `CODE`
    static let transport: UInt16 = 2
    static let protocolNumber: UInt16 = 1
    static let sourcePort: UInt16 = 2
    static let destinationPort: UInt16 = 3
}
