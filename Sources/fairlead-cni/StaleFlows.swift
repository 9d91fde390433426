import KernelInterface
import NetlinkWire
import NetworkAddresses

/// Forgets the connections that the address's last owner left in the node's connection table.
///
/// Freed addresses rest for a while, but a pool that is nearly used up hands them out again at once; and conntrack
/// keeps an established TCP connection for five days. Without, the new pod would get the old one's packets, and under
/// the old one's translations.
///
/// - Returns: how many were forgotten. No failure is one of the ADD's: a kernel without connection tracking has none.
@discardableResult
func forgetFlows(of addresses: [IPAddress]) -> Int {
    // Nothing is tracked in a namespace without pods and rules, and a look at the whole table is dear.
    if (try? KernelSetting.read(["net", "netfilter", "nf_conntrack_count"])) == "0" { return 0 }
    let own = Set(addresses)
    guard !own.isEmpty, let socket = try? ConntrackSocket.open() else { return 0 }
    var forgotten = 0
    for entry in (try? socket.entries()) ?? [] {
        let ends = [entry.original.source, entry.original.destination, entry.reply.source, entry.reply.destination]
        guard ends.contains(where: own.contains) else { continue }
        // It may have ended by itself meanwhile.
        if (try? socket.delete(original: entry.original)) == true { forgotten += 1 }
    }
    return forgotten
}
