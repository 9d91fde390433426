import KernelInterface
import NetlinkWire
import NetworkAddresses

/// Forgets the connections that the addresses' last owners left in the node's connection table.
///
/// Freed addresses rest for a while, but a pool that is nearly used up hands them out again at once; and conntrack
/// keeps an established TCP connection for five days. Without, the new pod would get the old one's packets, and under
/// the old one's translations. All that leads to a pod has its address for the source of one direction.
func forgetFlows(of addresses: [IPAddress]) {
    forgetFlows(addresses.flatMap { address in ConntrackFilter.Direction.allCases.map { .init($0, from: address) } })
}

/// Forgets the connections that meet one of the filters.
///
/// No failure is one of the ADD's or DEL's: a kernel without connection tracking has no connections.
func forgetFlows(_ filters: [ConntrackFilter]) {
    // Nothing is tracked in a namespace without pods and rules.
    if filters.isEmpty || (try? KernelSetting.read(["net", "netfilter", "nf_conntrack_count"])) == "0" { return }
    try? ConntrackSocket.open().delete(filters)
}
