import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink
import Testing

private func shown(
    _ target: TraceRequest.Target, in cluster: LiteralCluster, port: String? = "80", family: AddressFamily? = nil,
    backend: String? = nil, verbose: Bool = false
) throws -> String {
    let request = TraceRequest(
        from: .pod(NamespacedName("shop/web-0")), to: target, port: port, family: family, backend: backend)
    return TraceText(isVerbose: verbose).text(try trace(request, in: cluster))
}

@Suite struct TraceTests {
    @Test func `a service with a backend on each node`() throws {
        print(try shown(.service(NamespacedName("pay/api")), in: Shop.cluster()))
        print(try shown(.service(NamespacedName("pay/api")), in: Shop.cluster(policies: Shop.policies), verbose: true))
        print(try shown(.service(NamespacedName("pay/api")), in: Shop.cluster(team: "store", policies: Shop.policies)))
        print(try shown(.pod(NamespacedName("pay/api-1")), in: Shop.cluster(policies: Shop.policies), port: "8081", family: .ipv6))
        print(try shown(.service(NamespacedName("pay/idle")), in: Shop.cluster()))
    }
}
