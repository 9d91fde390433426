internal import KernelInterface
internal import NetlinkWire
internal import NetworkAddresses

/// Forgets the UDP conversations that go where nobody serves them any more.
///
/// One look at the connection table.
///
/// - Parameters:
///   - families: those of the frontends concerned.
///   - targets: where conversations with a frontend may go on; nil for destinations that do not concern us.
/// - Returns: how many were forgotten.
func forgetDatagramFlows(
    of families: Set<AddressFamily>, except targets: (SocketAddress) -> Set<SocketAddress>?
) throws(KernelError) -> Int {
    // The kernel walks its whole table for a list, be there nothing in it.
    guard !families.isEmpty, try KernelSetting.read(["net", "netfilter", "nf_conntrack_count"]) != "0" else { return 0 }
    var forgotten = 0
    let socket = try ConntrackSocket.open()
    var known: [SocketAddress: Set<SocketAddress>?] = [:]
    for entry in try socket.entries(families.count == 1 ? families.first : nil) where entry.original.transport == .udp {
        guard let port = entry.original.destinationPort, let answering = entry.reply.sourcePort else { continue }
        let frontend = SocketAddress(entry.original.destination, port)
        let allowed = known[frontend] ?? targets(frontend)
        known.updateValue(allowed, forKey: frontend)
        guard let allowed, !allowed.contains(SocketAddress(entry.reply.source, answering)) else { continue }
        // It may have ended by itself meanwhile.
        if try socket.delete(original: entry.original) { forgotten += 1 }
    }
    return forgotten
}
