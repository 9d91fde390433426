internal import NetworkAddresses
internal import Nftables

/// Bytes of which some cannot be known without the packet itself: its length, its checksum, its age.
typealias PartlyKnownBytes = [UInt8?]

extension Packet {
    /// The bytes a `payload` instruction reads, or nil where the packet is too short for it and the rule breaks off.
    ///
    /// The packet is without IP options: a TCP SYN, a UDP datagram, an echo request, or what answers those.
    func bytes(_ base: PayloadBase, offset: Int, length: Int) -> PartlyKnownBytes? {
        let transport = transportHeader
        switch base {
        // Nothing here asks for Ethernet addresses; what a rule makes of them is not known.
        case .link: return PartlyKnownBytes(repeating: nil, count: length)
        case .network: return slice(networkHeader + transport, offset, length)
        case .transport: return slice(transport, offset, length)
        }
    }

    /// Behind the headers comes data that nobody knows, nor how much of it.
    private func slice(_ header: PartlyKnownBytes, _ offset: Int, _ length: Int) -> PartlyKnownBytes? {
        guard offset >= 0, length >= 0 else { return nil }
        return (offset..<offset + length).map { $0 < header.count ? header[$0] : nil }
    }

    private var networkHeader: PartlyKnownBytes {
        let unknown = { (count: Int) in PartlyKnownBytes(repeating: nil, count: count) }
        switch family {
        case .ipv4:
            // Version and header length; service, length, id, fragment, time to live; protocol; checksum.
            return [0x45] + unknown(8) + [protocolNumber] + unknown(2) + source.bytes + destination.bytes
        case .ipv6:
            return unknown(6) + [protocolNumber] + unknown(1) + source.bytes + destination.bytes
        }
    }

    private var transportHeader: PartlyKnownBytes {
        let unknown = { (count: Int) in PartlyKnownBytes(repeating: nil, count: count) }
        let ports = portBytes(sourcePort) + portBytes(destinationPort)
        switch protocolNumber {
        // Sequence, acknowledgement, header length; flags (SYN); window, checksum, urgent pointer.
        case 6: return ports + unknown(9) + [opensConnection ? 0x02 : nil] + unknown(6)
        case 17, 132: return ports + unknown(4)
        // ICMP and ICMPv6: echo request, or an answer to it.
        case 1: return [opensConnection ? 8 : 0, 0] + unknown(6)
        case 58: return [opensConnection ? 128 : 129, 0] + unknown(6)
        default: return []
        }
    }
}

/// A port's two bytes; unknown where the port is.
func portBytes(_ port: Port?) -> PartlyKnownBytes { port.map { $0.bytes } ?? [nil, nil] }

/// The register file of the nftables virtual machine: sixteen words, of whose bytes some are not known.
struct Registers {
    private var bytes = PartlyKnownBytes(repeating: nil, count: 64)

    /// Stores bytes and fills the last word with zeros, as the kernel does.
    mutating func store(_ values: PartlyKnownBytes, at register: Register) {
        let start = Int(register.word) * 4
        let padded = values + PartlyKnownBytes(repeating: 0, count: (4 - values.count % 4) % 4)
        for (index, value) in padded.enumerated() where start + index < bytes.count { bytes[start + index] = value }
    }

    mutating func store(_ number: UInt32, at register: Register) { store(hostBytes(number), at: register) }

    /// The bytes from the register on; past the last register nothing is known.
    func load(_ count: Int, from register: Register) -> PartlyKnownBytes {
        let start = Int(register.word) * 4
        return (start..<start + count).map { $0 < bytes.count ? bytes[$0] : nil }
    }

    /// The bytes where all of them are known.
    func known(_ count: Int, from register: Register) -> [UInt8]? {
        let values = load(count, from: register)
        return values.contains(nil) ? nil : values.compactMap(\.self)
    }

    /// How the register's bytes stand to others, as big-endian numbers: negative, zero or positive; nil if unknown.
    func compare(_ register: Register, _ other: [UInt8]) -> Int? {
        var isUnknown = false
        for (mine, theirs) in zip(load(other.count, from: register), other) {
            guard let mine else {
                isUnknown = true
                continue
            }
            // Behind an unknown byte, a difference still says "not equal", though not which is greater.
            if mine != theirs { return isUnknown ? nil : (mine < theirs ? -1 : 1) }
        }
        return isUnknown ? nil : 0
    }

    /// Whether the bytes are equal; a known difference decides even where others are unknown.
    func equals(_ register: Register, _ other: [UInt8]) -> Bool? {
        let pairs = zip(load(other.count, from: register), other)
        if pairs.contains(where: { $0 != nil && $0 != $1 }) { return false }
        return pairs.contains { $0.0 == nil } ? nil : true
    }
}
