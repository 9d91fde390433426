import KubernetesObjects
import NetworkAddresses
import PacketPath
import Testing

/// A refusal and the rule that came closest.
struct NearMissCase: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var policies: [NetworkPolicy]
    var target = TraceRequest.Target.pod(NamespacedName("pay/api-1"))
    var port = "8080"
    var nearest: String
    var options: [String]
}

private func policy(
    _ name: String, in namespace: String = "pay", _ directions: Set<NetworkPolicy.Direction> = [.ingress],
    ingress: [PolicyRule] = [], egress: [PolicyRule] = []
) -> NetworkPolicy {
    NetworkPolicy(
        metadata: ObjectMetadata(name: name, namespace: namespace), directions: directions, ingress: ingress,
        egress: egress)
}

private func peer(_ labels: [String: String], _ namespaces: PolicyNamespaces = .own) -> PolicyPeer {
    .pods(LabelSelector(matchLabels: labels), in: namespaces)
}

private func tcp(_ numbers: ClosedRange<Int>...) -> PolicyChoice<PolicyPort> {
    .only(numbers.map { PolicyPort(protocol: .tcp, .range(Port($0.lowerBound)!...Port($0.upperBound)!)) })
}

@Suite struct NearMissTests {
    @Test(arguments: [
        NearMissCase(
            testDescription: "no rule at all", policies: [policy("closed")],
            nearest: "pay/closed: has no ingress rule, so it admits nothing ✗",
            options: [
                "add an ingress rule to pay/closed, or a policy beside it, that admits shop/web-0 (namespace shop, "
                    + "podSelector app=web) on 8080/tcp"
            ]),
        NearMissCase(
            testDescription: "the namespace is the policy's own",
            policies: [policy("own", ingress: [PolicyRule(peers: .only([peer(["app": "web"])]))])],
            nearest: "pay/own ingress[0].from[0]: podSelector app=web ✓, namespace pay ✗ (shop/web-0 is in shop)",
            options: ["add a peer for shop/web-0 (namespace shop, podSelector app=web) to pay/own ingress[0].from"]),
        NearMissCase(
            testDescription: "the pod lacks a label",
            policies: [
                policy("role", ingress: [PolicyRule(peers: .only([peer(["role": "client"], .matching(.everything))]))])
            ],
            nearest: "pay/role ingress[0].from[0]: podSelector role=client ✗ (shop/web-0 has no label role), "
                + "namespaceSelector everything ✓",
            options: [
                "add a peer for shop/web-0 (namespace shop, podSelector app=web) to pay/role ingress[0].from",
                "label pod shop/web-0 role=client",
            ]),
        NearMissCase(
            testDescription: "only the port is wrong",
            policies: [policy("ports", ingress: [PolicyRule(ports: tcp(80...80, 9000...9100))])],
            nearest: "pay/ports ingress[0]: port 80/tcp, 9000-9100/tcp ✗ (not 8080/tcp)",
            options: ["add port 8080/tcp to pay/ports ingress[0].ports"]),
        NearMissCase(
            testDescription: "an exception takes the address out",
            policies: [
                policy(
                    "block",
                    ingress: [
                        PolicyRule(
                            peers: .only([
                                .block(IPBlock(cidr: prefix("10.0.0.0/8"), except: [prefix("10.244.1.0/24")]))
                            ]))
                    ])
            ],
            nearest:
                "pay/block ingress[0].from[0]: ipBlock 10.0.0.0/8 ✗ (10.244.1.2 is in its exception 10.244.1.0/24)",
            options: ["add a peer for shop/web-0 (namespace shop, podSelector app=web) to pay/block ingress[0].from"]),
        NearMissCase(
            testDescription: "of several rules the one with the fewest failures",
            policies: [
                policy("a", ingress: [PolicyRule(peers: .only([peer(["app": "no"])]), ports: tcp(1...1))]),
                policy(
                    "b",
                    ingress: [
                        PolicyRule(
                            peers: .only([peer(["app": "no"]), peer(["app": "web"], .matching(.everything))]),
                            ports: tcp(1...1))
                    ]),
            ],
            nearest:
                "pay/b ingress[0].from[1]: podSelector app=web ✓, namespaceSelector everything ✓, port 1/tcp ✗ (not 8080/tcp)",
            options: ["add port 8080/tcp to pay/b ingress[0].ports"]),
        NearMissCase(
            testDescription: "egress to an address outside",
            policies: [
                policy(
                    "out", in: "shop", [.egress],
                    egress: [
                        PolicyRule(
                            peers: .only([.block(IPBlock(cidr: prefix("203.0.113.0/24")))]), ports: tcp(443...443))
                    ])
            ], target: .address(ip("192.0.2.1")), port: "443",
            nearest: "shop/out egress[0].to[0]: ipBlock 203.0.113.0/24 ✗ (192.0.2.1 is outside it), port 443/tcp ✓",
            options: ["add a peer for 192.0.2.1/32 to shop/out egress[0].to"]),
        NearMissCase(
            testDescription: "egress to a pod through its service, by a port's name",
            policies: [
                policy(
                    "out", in: "shop", [.egress],
                    egress: [
                        PolicyRule(
                            peers: .only([peer(["app": "api"])]),
                            ports: .only([PolicyPort(protocol: .tcp, .named("http"))]))
                    ])
            ], target: .service(NamespacedName("pay/api")), port: "80",
            nearest:
                "shop/out egress[0].to[0]: podSelector app=api ✓, namespace shop ✗ (pay/api-0 is in pay), port http/tcp ✓",
            options: ["add a peer for pay/api-0 (namespace pay, podSelector app=api) to shop/out egress[0].to"]),
    ])
    func `the nearest rule and what would have to change`(miss: NearMissCase) throws {
        let request = TraceRequest(from: .pod(NamespacedName("shop/web-0")), to: miss.target, port: miss.port)
        let trace = try trace(request, in: Shop.cluster(policies: miss.policies))
        #expect(trace.reason == .policyImplicitDeny)
        #expect(trace.leading.nearMiss?.text == miss.nearest)
        #expect(trace.leading.nearMiss?.options == miss.options)
    }
}
