internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

/// The chain that `loadBalancerSourceRanges` puts before a load balancer's address, and the set it looks into.
///
/// A list without a range of this family admits nobody of this family: a service that is closed to most of one family
/// is not open to all of the other.
struct SourceAdmission {
    let chain: (name: String, chain: Chain)
    private(set) var set: (name: String, set: NamedSet)?

    init(ranges: [IPPrefix], family: AddressFamily, node: NodeContext, loadBalancers: [IPAddress]) {
        var admitted = ranges.filter { $0.family == family }
        // A node that may use the load balancer may have bound the address itself, and speaks from it then.
        if admitted.contains(where: { range in node.primaryAddresses.contains { range.contains($0) } }) {
            admitted += loadBalancers.filter { $0.family == family }.map(\.hostPrefix)
        }
        // Prefixes lie within each other or apart; the kernel's interval sets take those that are apart.
        var apart: [IPPrefix] = []
        for range in admitted.sorted(by: { ($0.length, $0.first) < ($1.length, $1.first) })
        where !apart.contains(where: { $0.contains(range) }) { apart.append(range) }
        guard !apart.isEmpty else {
            chain = ("admit-nobody", Chain([Rule(.counter, .drop, comment: "not in loadBalancerSourceRanges")]))
            return
        }
        var hash = StableHash()
        for range in apart { hash.combine(range.network.description) }
        let name = "sources-\(hash.digits)"
        set = (
            name,
            NamedSet(
                SetDefinition(key: [.address(family)], isInterval: true),
                apart.map { Element(ElementKey(.address($0.first)), through: ElementKey(.address($0.last))) })
        )
        chain = (
            "admit-\(hash.digits)",
            Chain([
                Rule(.lookup([.source(family)], set: name), .return),
                Rule(.counter, .drop, comment: "not in loadBalancerSourceRanges"),
            ])
        )
    }
}
