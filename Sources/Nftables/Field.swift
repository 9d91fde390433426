public import NetworkAddresses

/// Something of a packet or its connection that a rule can look at.
public enum Field: Hashable, Sendable {
    case source(AddressFamily)
    case destination(AddressFamily)
    case transportProtocol
    case networkProtocol
    case sourcePort
    case destinationPort
    /// The Ethernet address that the packet comes from, in a table of family bridge.
    case sourceEthernetAddress
    case inputInterfaceName
    case outputInterfaceName
    case packetMark
    case conntrackState
    case conntrackStatus
    case conntrackMark
    /// The connection's own idea of its ends, whatever NAT did and whichever way this packet goes.
    case originalSource(AddressFamily)
    case originalDestination(AddressFamily)
    case replySource(AddressFamily)
    case originalDestinationPort
    case replySourcePort
    /// The route type of the packet's source or destination as this node sees it: `local` for its own addresses.
    case sourceAddressType
    case destinationAddressType
    /// A fresh random number: `from` and the numbers after it, as many as `below` says.
    case random(below: UInt32, from: UInt32 = 0)
    /// Always this number.
    ///
    /// Written as `numgen inc mod 1 offset N`: the one form of a constant inside a set key that `nft` 1.0.6 prints
    /// and reads back. A loaded immediate prints as "[invalid type]".
    case constant(UInt32)
}

/// The type of one part of a set's key or data.
///
/// The raw value is nft's number for it, of which a set's key type is composed, six bits each.
public enum KeyType: UInt32, Hashable, Sendable {
    /// A number without a type of its own in nft; sets that hold one are declared with `typeof`.
    case number = 4
    case ipv4Address = 7
    case ipv6Address = 8
    case ethernetAddress = 9
    case transportProtocol = 12
    case port = 13
    case mark = 19
    case interfaceName = 41

    public static func address(_ family: AddressFamily) -> KeyType { family == .ipv4 ? .ipv4Address : .ipv6Address }

    /// Bytes of a value.
    public var length: Int {
        switch self {
        case .number, .ipv4Address, .mark: 4
        case .ipv6Address, .interfaceName: 16
        case .ethernetAddress: 6
        case .transportProtocol: 1
        case .port: 2
        }
    }

    /// Bytes of a value in a concatenation: whole words.
    public var paddedLength: Int { (length + 3) / 4 * 4 }

    /// `type` in nft's grammar.
    var typeName: String {
        switch self {
        case .number: "integer"
        case .ipv4Address: "ipv4_addr"
        case .ipv6Address: "ipv6_addr"
        case .ethernetAddress: "ether_addr"
        case .transportProtocol: "inet_proto"
        case .port: "inet_service"
        case .mark: "mark"
        case .interfaceName: "ifname"
        }
    }

    /// An expression of this type, for `typeof`.
    var typeOfName: String {
        switch self {
        case .number: "numgen inc mod 2"
        case .ipv4Address: "ip daddr"
        case .ipv6Address: "ip6 daddr"
        case .ethernetAddress: "ether saddr"
        case .transportProtocol: "meta l4proto"
        case .port: "th dport"
        case .mark: "meta mark"
        case .interfaceName: "iifname"
        }
    }
}

extension Field {
    public var type: KeyType {
        switch self {
        case .source(let family), .destination(let family), .originalSource(let family), .replySource(let family),
            .originalDestination(let family):
            .address(family)
        case .transportProtocol, .networkProtocol: .transportProtocol
        case .sourcePort, .destinationPort, .originalDestinationPort, .replySourcePort: .port
        case .sourceEthernetAddress: .ethernetAddress
        case .inputInterfaceName, .outputInterfaceName: .interfaceName
        case .packetMark, .conntrackMark: .mark
        case .conntrackState, .conntrackStatus, .sourceAddressType, .destinationAddressType, .random, .constant:
            .number
        }
    }

    /// The family a packet must be of for this field to exist in its header. Connection fields see to it themselves.
    var requiredFamily: AddressFamily? {
        switch self {
        case .source(let family), .destination(let family): family
        default: nil
        }
    }

    func load(into register: Register) -> Instruction {
        switch self {
        case .source(.ipv4): .payload(.network, offset: 12, length: 4, into: register)
        case .destination(.ipv4): .payload(.network, offset: 16, length: 4, into: register)
        case .source(.ipv6): .payload(.network, offset: 8, length: 16, into: register)
        case .destination(.ipv6): .payload(.network, offset: 24, length: 16, into: register)
        case .sourcePort: .payload(.transport, offset: 0, length: 2, into: register)
        case .destinationPort: .payload(.transport, offset: 2, length: 2, into: register)
        case .sourceEthernetAddress: .payload(.link, offset: 6, length: 6, into: register)
        case .transportProtocol: .meta(.transportProtocol, into: register)
        case .networkProtocol: .meta(.networkProtocol, into: register)
        case .inputInterfaceName: .meta(.inputInterfaceName, into: register)
        case .outputInterfaceName: .meta(.outputInterfaceName, into: register)
        case .packetMark: .meta(.mark, into: register)
        case .conntrackState: .conntrack(.state, nil, into: register)
        case .conntrackStatus: .conntrack(.status, nil, into: register)
        case .conntrackMark: .conntrack(.mark, nil, into: register)
        case .originalSource(.ipv4): .conntrack(.sourceIPv4, .original, into: register)
        case .originalSource(.ipv6): .conntrack(.sourceIPv6, .original, into: register)
        case .originalDestination(.ipv4): .conntrack(.destinationIPv4, .original, into: register)
        case .originalDestination(.ipv6): .conntrack(.destinationIPv6, .original, into: register)
        case .replySource(.ipv4): .conntrack(.sourceIPv4, .reply, into: register)
        case .replySource(.ipv6): .conntrack(.sourceIPv6, .reply, into: register)
        case .originalDestinationPort: .conntrack(.destinationPort, .original, into: register)
        case .replySourcePort: .conntrack(.sourcePort, .reply, into: register)
        // NFTA_FIB_F_SADDR = 1, NFTA_FIB_F_DADDR = 2.
        case .sourceAddressType: .routeLookup(.addressType, flags: 1, into: register)
        case .destinationAddressType: .routeLookup(.addressType, flags: 2, into: register)
        case .random(let modulus, let first): .number(.random, modulus: modulus, offset: first, into: register)
        case .constant(let value): .number(.incremental, modulus: 1, offset: value, into: register)
        }
    }

    /// nft's words for the field.
    var text: String {
        switch self {
        case .source(.ipv4): "ip saddr"
        case .source(.ipv6): "ip6 saddr"
        case .destination(.ipv4): "ip daddr"
        case .destination(.ipv6): "ip6 daddr"
        case .transportProtocol: "meta l4proto"
        case .networkProtocol: "meta nfproto"
        case .sourcePort: "th sport"
        case .destinationPort: "th dport"
        case .sourceEthernetAddress: "ether saddr"
        case .inputInterfaceName: "iifname"
        case .outputInterfaceName: "oifname"
        case .packetMark: "meta mark"
        case .conntrackState: "ct state"
        case .conntrackStatus: "ct status"
        case .conntrackMark: "ct mark"
        case .originalSource(let family): "ct original \(family.nft) saddr"
        case .originalDestination(let family): "ct original \(family.nft) daddr"
        case .replySource(let family): "ct reply \(family.nft) saddr"
        case .originalDestinationPort: "ct original proto-dst"
        case .replySourcePort: "ct reply proto-src"
        case .sourceAddressType: "fib saddr type"
        case .destinationAddressType: "fib daddr type"
        case .random(let modulus, let first): "numgen random mod \(modulus)" + (first == 0 ? "" : " offset \(first)")
        case .constant(let value): value == 0 ? "numgen inc mod 1" : "numgen inc mod 1 offset \(value)"
        }
    }
}

extension AddressFamily {
    /// `ip` or `ip6`, nft's names for the families.
    var nft: String { self == .ipv4 ? "ip" : "ip6" }

    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    public var netfilterNumber: UInt8 { self == .ipv4 ? 2 : 10 }
}
