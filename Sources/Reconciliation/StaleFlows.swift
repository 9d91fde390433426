internal import KernelInterface
internal import NetlinkWire
internal import NetworkAddresses
internal import Nftables
internal import ServiceRules

/// Forgets the UDP conversations that a change of services left with an endpoint which is gone.
///
/// One look at the connection table per address family that was touched, and only after changes that took a UDP
/// endpoint or frontend away.
///
/// - Returns: how many were forgotten; nil where nothing was looked at.
func forgetStaleFlows(after changes: [Change], in table: Ruleset) throws(KernelError) -> Int? {
    let touched = datagramFrontends(touchedBy: changes, in: table)
    guard !touched.isEmpty else { return nil }
    var forgotten = 0
    for family in AddressFamily.allCases where touched.keys.contains(where: { $0.address.family == family }) {
        let socket = try ConntrackSocket.open()
        for entry in try socket.entries(family) where entry.original.transport == .udp {
            guard let port = entry.original.destinationPort,
                let endpoints = touched[SocketAddress(entry.original.destination, port)],
                let answering = entry.reply.sourcePort,
                !endpoints.contains(SocketAddress(entry.reply.source, answering))
            else { continue }
            // It may have ended by itself meanwhile.
            if try socket.delete(original: entry.original) { forgotten += 1 }
        }
    }
    return forgotten
}
