public import NetworkAddresses
public import Nftables

/// The UDP frontends that changes touched, each with the endpoints it has now.
///
/// A UDP client that keeps its port goes on talking to the endpoint its first packet was given, because conntrack knows
/// no end of a UDP conversation. When that endpoint is gone the entry has to go too, or the client talks to nobody.
/// Only frontends that are really ours are named, by address and port: a foreign flow is never cut.
public func datagramFrontends(
    touchedBy changes: [Change], in table: Ruleset
) -> [SocketAddress: Set<SocketAddress>] {
    var frontends: [SocketAddress: Set<SocketAddress>] = [:]
    for case .removeElements(let elements, let set) in changes {
        for family in AddressFamily.allCases
        where set == ServiceTable.endpoints(family) || set == ServiceTable.frontends(family) {
            for element in elements {
                guard let frontend = datagramFrontend(element.key, family), frontends[frontend] == nil else { continue }
                frontends[frontend] = endpoints(of: frontend, in: table)
            }
        }
    }
    return frontends
}

/// The address and port of a UDP frontend's key, whatever follows them in it.
private func datagramFrontend(_ key: ElementKey, _ family: AddressFamily) -> SocketAddress? {
    let length = family.bitWidth / 8
    guard key.bytes.count >= length + 8, key.bytes[length] == TransportProtocol.udp.rawValue else { return nil }
    return socketAddress(Array(key.bytes[..<length]) + key.bytes[(length + 4)...], family)
}

private func socketAddress(_ bytes: [UInt8], _ family: AddressFamily) -> SocketAddress? {
    let length = family.bitWidth / 8
    guard let address = IPAddress(bytes: bytes[..<length]),
        let port = Port(Int(bytes[length]) << 8 | Int(bytes[length + 1]))
    else { return nil }
    return SocketAddress(address, port)
}

private func endpoints(of frontend: SocketAddress, in table: Ruleset) -> Set<SocketAddress> {
    let family = frontend.address.family
    let key: [KeyPart] = [.address(frontend.address), .transport(.udp), .port(frontend.port)]
    let elements = table.sets[ServiceTable.endpoints(family)]?.elements ?? [:]
    var found: Set<SocketAddress> = []
    // Indices run on without a gap, from where each group begins.
    for first in [0, ServiceTable.firstShortcut] {
        for index in first... {
            guard case .data(let target)? = elements[ElementKey(key + [.number(index)])]?.value,
                let address = socketAddress(target.bytes, family)
            else { break }
            found.insert(address)
        }
    }
    return found
}
