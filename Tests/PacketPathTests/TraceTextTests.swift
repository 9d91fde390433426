import KubernetesObjects
import NetlinkWire
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink
import Testing

private let web = TraceRequest.Source.pod(NamespacedName("shop/web-0"))

private func service(backend: String? = nil) -> TraceRequest {
    TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80", backend: backend)
}

private func pod(_ name: String, family: AddressFamily? = nil) -> TraceRequest {
    TraceRequest(from: web, to: .pod(NamespacedName("pay/\(name)")), port: "http", family: family)
}

private func shown(_ request: TraceRequest, in cluster: LiteralCluster, verbose: Bool = false) throws -> String {
    let text = TraceText(isVerbose: verbose).text(try trace(request, in: cluster))
    // A profile's chain is named by its content too, which is no matter of ours.
    return text.replacing(/in-[0-9a-f]{8}-/, with: "in-…-")
}

/// What a person reads, whole.
@Suite struct TraceTextTests {
    @Test func `a pod on the same node`() throws {
        #expect(
            try shown(pod("api-0"), in: Shop.cluster()) == """
                ✓ REACHABLE shop/web-0 → pay/api-0:8080
                 node-1  shop/web-0, pay/api-0
                  1 ✓ route      default via 169.254.1.1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ route      10.244.1.3/32 dev vethapi-0
                  4 ✓ policy     egress: no policy isolates shop/web-0
                  5 ✓ policy     ingress: no policy isolates pay/api-0
                  6 ✓ veth       vethapi-0 → eth0 of pay/api-0 (up, mtu 1450)
                  7 ✓ listener   pay/api-0 listens on *:8080
                  8 ✓ reply      back by node-1
                 evidence: 9 kernel, 3 computed; a new connection is assumed

                """)
    }

    @Test func `a service with a backend on each node`() throws {
        #expect(
            try shown(service(), in: Shop.cluster()) == """
                ✓ REACHABLE shop/web-0 → svc pay/api:80   all 2 backends
                 node-1  shop/web-0, pay/api-0
                  1 ✓ route      default via 169.254.1.1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ service    10.96.0.10:80 → 10.244.1.3:8080  [svc pay/api:http, endpoint pay/api-0, 1 of 2]
                  4 ✓ route      10.244.1.3/32 dev vethapi-0
                  5 ✓ policy     egress: no policy isolates shop/web-0
                  6 ✓ policy     ingress: no policy isolates pay/api-0
                  7 ✓ veth       vethapi-0 → eth0 of pay/api-0 (up, mtu 1450)
                  8 ✓ listener   pay/api-0 listens on *:8080
                  9 ✓ reply      back by node-1; 10.244.1.3:8080 is 10.96.0.10:80 again
                  · ✓ backend pay/api-1: by node-1, node-2
                 evidence: 24 kernel, 11 computed; a new connection is assumed

                """)
    }

    @Test func `a pod on another node, over IPv6, admitted by a policy`() throws {
        #expect(
            try shown(pod("api-1", family: .ipv6), in: Shop.cluster(policies: Shop.policies)) == """
                ✓ REACHABLE shop/web-0 → pay/api-1:8080
                 node-1  shop/web-0
                  1 ✓ route      default via fe80::1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ route      fd00:10:244:2::/64 via fd00:10:244:2:: dev fairlead.1
                  4 ✓ policy     egress: no policy isolates shop/web-0
                  5 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                 node-2  pay/api-1
                  6 ✓ decap      fairlead.1 takes it out of the tunnel
                  7 ✓ route      fd00:10:244:2::3/128 dev vethapi-1
                  8 ✓ policy     ingress: allowed by pay/allow-front ingress[0].from[0]
                  9 ✓ veth       vethapi-1 → eth0 of pay/api-1 (up, mtu 1450)
                 10 ✓ listener   pay/api-1 listens on *:8080
                 11 ✓ reply      back by node-2, node-1
                 evidence: 15 kernel, 4 computed; a new connection is assumed

                """)
    }

    @Test func `every step of both ways, and where each statement comes from`() throws {
        #expect(
            try shown(service(backend: "api-1"), in: Shop.cluster(policies: Shop.policies), verbose: true) == """
                ✓ REACHABLE shop/web-0 → svc pay/api:80   pay/api-1
                 node-1  shop/web-0
                  1 ✓ route      default via 169.254.1.1 dev eth0  kernel-lookup
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)  kernel-lookup
                  3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]  [inet fairlead-services pick-2]  computed
                  4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1  kernel-lookup
                  5 ✓ policy     egress: no policy isolates shop/web-0  [inet fairlead-policy forward]  computed
                  6 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)  kernel-lookup
                 node-2  pay/api-1
                  7 ✓ decap      fairlead.1 takes it out of the tunnel  kernel-lookup
                  8 ✓ route      10.244.2.3/32 dev vethapi-1  kernel-lookup
                  9 ✓ policy     ingress: allowed by pay/allow-front ingress[0].from[0]  [inet fairlead-policy in-…-pay/allow-front]  computed
                 10 ✓ veth       vethapi-1 → eth0 of pay/api-1 (up, mtu 1450)  kernel-lookup
                 11 ✓ listener   pay/api-1 listens on *:8080  kernel-lookup
                 reply
                 node-2  pay/api-1
                 12 ✓ route      default via 169.254.1.1 dev eth0  kernel-lookup
                 13 ✓ veth       eth0 → vethapi-1 (up, mtu 1450)  kernel-lookup
                 14 ✓ route      10.244.1.0/24 via 10.244.1.0 dev fairlead.1  kernel-lookup
                 15 ✓ policy     part of a connection that was let through  [inet fairlead-policy forward]  computed
                 16 ✓ encap      vxlan vni 1  172.30.0.12 → 172.30.0.11:8472  (02:00:00:00:00:01 is node-1, needs 1450+50 <= 1500)  kernel-lookup
                 node-1  shop/web-0
                 17 ✓ decap      fairlead.1 takes it out of the tunnel  kernel-lookup
                 18 ✓ route      10.244.1.2/32 dev vethweb-0  kernel-lookup
                 19 ✓ policy     part of a connection that was let through  [inet fairlead-policy forward]  computed
                 20 ✓ service    10.244.2.3:8080 is 10.96.0.10:80 again  computed
                 21 ✓ veth       vethweb-0 → eth0 of shop/web-0 (up, mtu 1450)  kernel-lookup
                 evidence: 15 kernel, 6 computed; a new connection is assumed

                """)
    }

    @Test func `an implicit deny names its policies and the nearest rule`() throws {
        #expect(
            try shown(service(), in: Shop.cluster(team: "store", policies: Shop.policies)) == """
                ✗ DENIED shop/web-0 → svc pay/api:80   2 of 2 backends   at node-1, ingress  (PolicyImplicitDeny)
                  cause   pay/api-0 is isolated by NetworkPolicies pay/allow-front and pay/default-deny; no rule admits shop/web-0 (10.244.1.2) on 8080/tcp
                  nearest pay/allow-front ingress[0].from[0]: podSelector app=web ✓, namespaceSelector team=shop ✗ (shop has team=store), port 8080/tcp ✓
                  options a) add a peer for shop/web-0 (namespace shop, podSelector app=web) to pay/allow-front ingress[0].from   (widens access: review)
                          b) label namespace shop team=shop
                 node-1  shop/web-0
                  1 ✓ route      default via 169.254.1.1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ service    10.96.0.10:80 → 10.244.1.3:8080  [svc pay/api:http, endpoint pay/api-0, 1 of 2]
                  4 ✓ route      10.244.1.3/32 dev vethapi-0
                  5 ✓ policy     egress: no policy isolates shop/web-0
                  6 ✗ policy     ingress: no rule admits it; pay/api-0 is isolated by NetworkPolicies pay/allow-front and pay/default-deny  [inet fairlead-policy in-…-pay/allow-front]
                  · ✗ backend pay/api-1: DENIED at node-2, ingress  (PolicyImplicitDeny)
                 evidence: 9 kernel, 6 computed; a new connection is assumed

                """)
    }

    @Test func `a service that selects nothing`() throws {
        #expect(
            try shown(
                TraceRequest(from: web, to: .service(NamespacedName("pay/idle")), port: "http"), in: Shop.cluster())
                    == """
                    ✗ BROKEN shop/web-0 → svc pay/idle:80   at node-1  (NoEndpoints)
                      cause   Service pay/idle has no endpoint that takes connections: no pod of pay is labelled app=idle
                     node-1  shop/web-0
                      1 ✓ route      default via 169.254.1.1 dev eth0
                      2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                      3 ✗ service    Service pay/idle has no endpoint that takes connections: no pod of pay is labelled app=idle  [inet fairlead-services refuse]
                     evidence: 2 kernel, 1 computed; a new connection is assumed

                    """)
    }

    @Test func `a tunnel that does not know its other end`() throws {
        #expect(
            try shown(service(backend: "api-1"), in: broken(Shop.node1) { $0.entries = [] }) == """
                ✗ BROKEN shop/web-0 → svc pay/api:80   pay/api-1   at node-1  (ForwardingEntryMissing)
                  cause   node-1: fairlead.1 has no forwarding entry for 02:00:00:00:00:02, the tunnel end of 10.244.2.0
                 node-1  shop/web-0
                  1 ✓ route      default via 169.254.1.1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]
                  4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                  5 ✓ policy     egress: no policy isolates shop/web-0
                  6 ✗ encap      fairlead.1 has no forwarding entry for 02:00:00:00:00:02, the tunnel end of 10.244.2.0
                 evidence: 4 kernel, 2 computed; a new connection is assumed

                """)
    }

    @Test func `a node without a route`() throws {
        #expect(
            try shown(
                pod("api-1"), in: broken(Shop.node1) { $0.routes.removeAll { $0.link == 3 || $0.gateway != nil } })
                    == """
                    ✗ BROKEN shop/web-0 → pay/api-1:8080   at node-1  (NoRoute)
                      cause   node-1: no route to 10.244.2.3
                     node-1  shop/web-0
                      1 ✓ route      default via 169.254.1.1 dev eth0
                      2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                      3 ✗ route      no route to 10.244.2.3
                     evidence: 3 kernel; a new connection is assumed

                    """)
    }

    @Test func `a node that does not forward`() throws {
        #expect(
            try shown(pod("api-1"), in: broken(Shop.node2) { $0.settings["net/ipv4/conf/fairlead.1/forwarding"] = "0" })
                == """
                ✗ BROKEN shop/web-0 → pay/api-1:8080   at node-2  (ForwardingDisabled)
                  cause   node-2: forwarding is off (net.ipv4.conf.fairlead.1.forwarding is 0)
                 node-1  shop/web-0
                  1 ✓ route      default via 169.254.1.1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                  4 ✓ policy     egress: no policy isolates shop/web-0
                  5 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                 node-2
                  6 ✓ decap      fairlead.1 takes it out of the tunnel
                  7 ✗ route      forwarding is off (net.ipv4.conf.fairlead.1.forwarding is 0)
                 evidence: 6 kernel, 1 computed; a new connection is assumed

                """)
    }

    @Test func `nothing listens`() throws {
        #expect(
            try shown(
                service(backend: "api-1"),
                in: broken(Shop.api1) {
                    $0.sockets = [.tcp: [ListeningSocket(.tcp, ip("::"), port(9090), isDualStack: true)]]
                }) == """
                    ✗ BROKEN shop/web-0 → svc pay/api:80   pay/api-1   at pay/api-1 on node-2  (NotListening)
                      cause   pay/api-1 is reached, but nothing in it listens on 8080/tcp; it listens on 9090
                     node-1  shop/web-0
                      1 ✓ route      default via 169.254.1.1 dev eth0
                      2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                      3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]
                      4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                      5 ✓ policy     egress: no policy isolates shop/web-0
                      6 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                     node-2  pay/api-1
                      7 ✓ decap      fairlead.1 takes it out of the tunnel
                      8 ✓ route      10.244.2.3/32 dev vethapi-1
                      9 ✓ policy     ingress: no policy isolates pay/api-1
                     10 ✓ veth       vethapi-1 → eth0 of pay/api-1 (up, mtu 1450)
                     11 ✗ listener   nothing listens on 8080/tcp; it listens on 9090
                     evidence: 8 kernel, 3 computed; a new connection is assumed

                    """)
    }

    @Test func `a program that listens on the loopback address only`() throws {
        #expect(
            try shown(
                service(backend: "api-1"),
                in: broken(Shop.api1) { $0.sockets = [.tcp: [ListeningSocket(.tcp, ip("127.0.0.1"), port(8080))]] })
                    == """
                    ✗ BROKEN shop/web-0 → svc pay/api:80   pay/api-1   at pay/api-1 on node-2  (ListenLoopbackOnly)
                      cause   pay/api-1 is reached, but it listens only on 127.0.0.1:8080, not on 10.244.2.3
                     node-1  shop/web-0
                      1 ✓ route      default via 169.254.1.1 dev eth0
                      2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                      3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]
                      4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                      5 ✓ policy     egress: no policy isolates shop/web-0
                      6 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                     node-2  pay/api-1
                      7 ✓ decap      fairlead.1 takes it out of the tunnel
                      8 ✓ route      10.244.2.3/32 dev vethapi-1
                      9 ✓ policy     ingress: no policy isolates pay/api-1
                     10 ✓ veth       vethapi-1 → eth0 of pay/api-1 (up, mtu 1450)
                     11 ✗ listener   listens only on 127.0.0.1:8080, not on 10.244.2.3
                     evidence: 8 kernel, 3 computed; a new connection is assumed

                    """)
    }

    @Test func `one backend of two`() throws {
        #expect(
            try shown(service(), in: broken(Shop.api1) { $0.sockets = [:] }) == """
                ✗ PARTIAL shop/web-0 → svc pay/api:80   1 of 2 backends BROKEN: pay/api-1   at pay/api-1 on node-2  (NotListening)
                  cause   pay/api-1 is reached, but nothing in it listens on 8080/tcp
                 node-1  shop/web-0, pay/api-0
                  1 ✓ route      default via 169.254.1.1 dev eth0
                  2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                  3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]
                  4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                  5 ✓ policy     egress: no policy isolates shop/web-0
                  6 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                 node-2  pay/api-1
                  7 ✓ decap      fairlead.1 takes it out of the tunnel
                  8 ✓ route      10.244.2.3/32 dev vethapi-1
                  9 ✓ policy     ingress: no policy isolates pay/api-1
                 10 ✓ veth       vethapi-1 → eth0 of pay/api-1 (up, mtu 1450)
                 11 ✗ listener   nothing listens on 8080/tcp
                  · ✓ backend pay/api-0: by node-1
                 evidence: 17 kernel, 8 computed; a new connection is assumed

                """)
    }

    @Test func `another program's chain`() throws {
        #expect(
            try shown(
                service(backend: "api-1"),
                in: broken(Shop.node2) {
                    $0.tables.append(
                        firewall(Rule(.match(.destinationPort, .port(port(8080))), .drop, comment: "by hand")))
                }) == """
                    ✗ BROKEN shop/web-0 → svc pay/api:80   pay/api-1   at node-2  (ForeignChainDrop)
                      cause   node-2: chain fw of table inet firewall drops it (by hand)  [forward priority 0, not one of ours]
                     node-1  shop/web-0
                      1 ✓ route      default via 169.254.1.1 dev eth0
                      2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                      3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]
                      4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                      5 ✓ policy     egress: no policy isolates shop/web-0
                      6 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                     node-2
                      7 ✓ decap      fairlead.1 takes it out of the tunnel
                      8 ✓ route      10.244.2.3/32 dev vethapi-1
                      9 ✗ firewall   chain fw of table inet firewall drops it (by hand)  [forward priority 0, not one of ours]  [inet firewall fw]
                     evidence: 6 kernel, 3 computed; a new connection is assumed

                    """)
    }

    @Test func `a rule that is not understood`() throws {
        #expect(
            try shown(
                service(backend: "api-1"),
                in: broken(Shop.node2) {
                    $0.tables.append(firewall(Rule(instructions: [.unknown("queue")], comment: nil, handle: 9)))
                }) == """
                    ? INCONCLUSIVE shop/web-0 → svc pay/api:80   pay/api-1   at node-2  (Inconclusive)
                      cause   node-2: inet firewall fw handle 9: has an expression 'queue' that is not understood
                     node-1  shop/web-0
                      1 ✓ route      default via 169.254.1.1 dev eth0
                      2 ✓ veth       eth0 → vethweb-0 (up, mtu 1450)
                      3 ✓ service    10.96.0.10:80 → 10.244.2.3:8080  [svc pay/api:http, endpoint pay/api-1, 2 of 2]
                      4 ✓ route      10.244.2.0/24 via 10.244.2.0 dev fairlead.1
                      5 ✓ policy     egress: no policy isolates shop/web-0
                      6 ✓ encap      vxlan vni 1  172.30.0.11 → 172.30.0.12:8472  (02:00:00:00:00:02 is node-2, needs 1450+50 <= 1500)
                     node-2
                      7 ✓ decap      fairlead.1 takes it out of the tunnel
                      8 ✓ route      10.244.2.3/32 dev vethapi-1
                      9 ? rules      inet firewall fw handle 9: has an expression 'queue' that is not understood  [inet firewall fw#9]
                     evidence: 6 kernel, 3 computed; a new connection is assumed

                    """)
    }
}
