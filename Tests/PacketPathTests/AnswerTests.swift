import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink
import Testing

private let web = TraceRequest.Source.pod(NamespacedName("shop/web-0"))

/// The shop with `pay/api` at every node's port 30080, which only node 2's kernel knows of.
private func withNodePort(masquerade: Bool) -> LiteralCluster {
    broken(Shop.node2) { view in
        let name = "svc pay/api:http"
        let frontend: [KeyPart] = [.address(ip("172.30.0.12")), .transport(.tcp), .port(port(30080))]
        func insert(_ element: Element, _ set: String) { view.tables[0].sets[set]!.elements[element.key] = element }
        let key = ElementKey(.address(ip("172.30.0.12")), .transport(.tcp), .port(port(30080)))
        insert(Element(key, .verdict(.goto("pick-1")), comment: name), "frontends4")
        insert(
            Element(
                ElementKey(frontend[0], frontend[1], frontend[2], .number(0)),
                .data(.init(.address(ip("10.244.1.3")), .port(port(8080)))), comment: "pod pay/api-0"), "endpoints4")
        if masquerade { insert(Element(key, comment: name), "external4") }
        view.tables[0].chains["pick-1"] = Chain([
            Rule(
                .destinationNAT(
                    .ipv4, [.destination(.ipv4), .transportProtocol, .destinationPort, .constant(0)], map: "endpoints4")
            )
        ])
    }
}

@Suite struct AnswerTests {
    let toNodePort = TraceRequest(from: web, to: .node("node-2"), port: "30080")

    @Test func `an answer that goes round the node that translated is not taken`() throws {
        let trace = try trace(toNodePort, in: withNodePort(masquerade: false))
        #expect(trace.reason == .replyNotTranslated)
        #expect(
            trace.leading.end.cause == "the packet arrives, but not its answer: shop/web-0: the answer arrives from "
                + "10.244.1.3:8080 at shop/web-0, but shop/web-0 expects one from 172.30.0.12:30080")
    }

    @Test func `a masqueraded connection's answer finds its way back through the node`() throws {
        let trace = try trace(toNodePort, in: withNodePort(masquerade: true))
        #expect(trace.verdict == .reachable)
        #expect(
            trace.leading.hops.filter { $0.stage == .masquerade }.map(\.text) == [
                "from 10.244.1.2:40000 becomes from 10.244.2.0  [from outside: the answer must come back through this node]"
            ])
        #expect(
            trace.leading.reply.filter { $0.stage == .service }.map(\.text) == [
                "to 10.244.2.0 is to 10.244.1.2:40000 again", "10.244.1.3:8080 is 172.30.0.12:30080 again",
            ])
    }

    /// The kernel's own choice among the node's addresses, as a lab shows it: the first, or the nearest.
    @Test(arguments: [(AddressFamily.ipv4, "172.30.0.11"), (.ipv6, "fd00:10:244:1::")])
    func `a pod that reaches itself through its service is masqueraded and not policed`(
        family: AddressFamily, masquerade: String
    ) throws {
        let request = TraceRequest(
            from: .pod(NamespacedName("pay/api-0")), to: .service(NamespacedName("pay/api")), port: "80",
            family: family,
            backend: "api-0")
        let trace = try trace(request, in: Shop.cluster(policies: Shop.policies))
        #expect(trace.verdict == .reachable)
        #expect(trace.leading.hops.map(\.text).contains("a pod that reaches itself is never policed"))
        #expect(trace.leading.hops.contains { $0.stage == .masquerade && $0.packetAfter?.source == ip(masquerade) })
    }

    @Test func `a packet of no connection is told as such`() throws {
        let cluster = broken(Shop.node2) {
            $0.tables[1].chains["evaluate"]!.rules.insert(Rule(.drop, comment: "invalid:part of no connection"), at: 0)
        }
        let trace = try trace(TraceRequest(from: web, to: .pod(NamespacedName("pay/api-1")), port: "8080"), in: cluster)
        #expect(trace.reason == .invalidConnection)
        #expect(trace.leading.end.cause == "node-2: dropped as part of no connection, as node-2 sees it")
    }

    @Test func `a node connects too, and its own traffic meets no forward hook`() throws {
        let request = TraceRequest(
            from: .node("node-1"), to: .service(NamespacedName("pay/api")), port: "80", backend: "api-1")
        let trace = try trace(request, in: Shop.cluster())
        #expect(trace.verdict == .reachable)
        #expect(
            trace.leading.hops.filter { $0.place == Shop.node1 }.map(\.stage) == [
                .service, .route, .masquerade, .encap,
            ])
    }
}

/// `web-0` behind a bridge instead of a route, as the `bridge` plugin attaches pods.
private func bridged() -> LiteralCluster {
    var cluster = broken(Shop.node1) { view in
        let veth = view.allLinks.firstIndex { $0.index == 12 }!
        view.allLinks[veth].bridge = 30
        view.allLinks.append(link(30, "cni0", .bridge, "02:00:00:00:cc:01"))
        view.allAddresses.append(.init(prefix("10.244.1.1/24"), link: 30))
        view.settings["net/ipv4/conf/cni0/forwarding"] = "1"
        view.routes.removeAll { $0.destination == prefix("10.244.1.2/32") }
        view.routes.append(Route(to: prefix("10.244.1.2/32"), link: 30))
    }
    cluster.edit(Shop.web0) { view in
        view.routes = [Route(to: prefix("0.0.0.0/0"), via: ip("10.244.1.1"), link: 2)]
        view.neighbors = []
    }
    return cluster
}

@Suite struct BridgeTests {
    @Test func `a pod behind a bridge goes through the node and back`() throws {
        let trace = try trace(
            TraceRequest(from: web, to: .pod(NamespacedName("pay/api-1")), port: "8080"), in: bridged())
        #expect(trace.verdict == .reachable)
        #expect(trace.leading.hops[1].text == "eth0 → vethweb-0, a port of cni0 (up, mtu 1450)")
        #expect(trace.leading.hops[2].packet.input?.name.description == "cni0")
        #expect(trace.leading.reply.last?.text == "vethweb-0 → eth0 of shop/web-0 (up, mtu 1450)")
    }

    @Test func `what a bridge switches by itself is not claimed to be understood`() throws {
        var cluster = bridged()
        cluster.edit(Shop.web0) {
            $0.routes.append(Route(to: prefix("10.244.1.0/24"), link: 2))
            $0.neighbors = [Neighbor(ip("10.244.1.3"), mac: mac("02:00:00:00:cc:01"), link: 2)]
        }
        let trace = try trace(
            TraceRequest(from: web, to: .pod(NamespacedName("pay/api-0")), port: "8080"), in: cluster)
        #expect(trace.reason == .inconclusive)
        #expect(
            trace.leading.hops.last?.text
                == "cni0 switches it to another port; which rules bridged frames meet is not understood here")
    }
}

@Suite struct VerdictTests {
    @Test(
        arguments: [
            ([PathVerdict.reachable, .reachable], PathVerdict.reachable, 0),
            ([.reachable, .denied], .partial, 5),
            ([.broken, .reachable], .partial, 5),
            ([.reachable, .inconclusive], .inconclusive, 4),
            ([.reachable, .inconclusive, .denied], .partial, 5),
            ([.denied, .denied], .denied, 2),
            ([.denied, .broken], .broken, 3),
            ([.denied, .inconclusive], .inconclusive, 4),
        ] as [([PathVerdict], PathVerdict, Int32)])
    func `the verdict over several backends`(branches: [PathVerdict], verdict: PathVerdict, code: Int32) throws {
        let combined = PathVerdict(over: branches)
        #expect(combined == verdict)
        #expect(combined.exitCode == code)
    }
}
