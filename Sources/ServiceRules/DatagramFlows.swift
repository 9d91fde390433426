public import NetworkAddresses
public import Nftables

/// The UDP frontends that changes added or took away.
///
/// A UDP client that keeps its port goes on talking to the endpoint its first packet was given, because conntrack knows
/// no end of a UDP conversation. Those that began before there was a service go astray for ever, and so do those that
/// outlive it. Only frontends that are really ours are named, by address and port: a foreign flow is never cut.
public func datagramFrontends(addedOrRemovedBy changes: [Change]) -> Set<SocketAddress> {
    var removed: Set<SocketAddress> = []
    var added: Set<SocketAddress> = []
    for change in changes {
        for family in AddressFamily.allCases {
            switch change {
            case .removeElements(let elements, ServiceTable.frontends(family)):
                for element in elements { datagramFrontend(element.key, family).map { _ = removed.insert($0) } }
            case .addElements(let elements, ServiceTable.frontends(family)):
                for element in elements { datagramFrontend(element.key, family).map { _ = added.insert($0) } }
            default: break
            }
        }
    }
    // One that was changed, such as by the number of its endpoints, goes by what happened to the endpoints.
    return removed.symmetricDifference(added)
}

/// The address and port of a UDP frontend's key.
private func datagramFrontend(_ key: ElementKey, _ family: AddressFamily) -> SocketAddress? {
    let length = family.bitWidth / 8
    guard key.bytes.count == length + 8, key.bytes[length] == TransportProtocol.udp.rawValue,
        let address = IPAddress(bytes: key.bytes[..<length]),
        let port = Port(Int(key.bytes[length + 4]) << 8 | Int(key.bytes[length + 5]))
    else { return nil }
    return SocketAddress(address, port)
}

extension Assembly {
    /// Whose endpoints a UDP frontend leads to; nil where it is no frontend.
    public func ownerOfDatagramFrontend(_ frontend: SocketAddress) -> Owner? {
        holder(
            of: ElementKey(.address(frontend.address), .transport(.udp), .port(frontend.port)),
            in: ServiceTable.frontends(frontend.address.family))
    }
}
