import KubernetesObjects
import NetlinkWire
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink
import Testing

/// Something wrong with the shop, and what a trace has to say about it.
struct Fault: CustomTestStringConvertible {
    var testDescription: String
    var cluster: LiteralCluster
    var request: TraceRequest
    var reason: ReasonCode
    var exitCode: Int32
    /// The cause, or the warning where packets pass.
    var cause: String

    static let web = TraceRequest.Source.pod(NamespacedName("shop/web-0"))
    static let toPod = TraceRequest(from: web, to: .pod(NamespacedName("pay/api-1")), port: "8080")

    init(
        _ description: String, _ cluster: LiteralCluster, asking request: TraceRequest = toPod, _ reason: ReasonCode,
        exit exitCode: Int32 = 3, _ cause: String
    ) {
        testDescription = description
        self.cluster = cluster
        self.request = request
        self.reason = reason
        self.exitCode = exitCode
        self.cause = cause
    }

    static func to(_ target: TraceRequest.Target, _ port: String?, family: AddressFamily? = nil) -> TraceRequest {
        TraceRequest(from: web, to: target, port: port, family: family)
    }

    /// Node 1's tunnel end, node 2's, and the veth of `web-0`, by their indexes.
    static let tunnel: Int32 = 3
    static let webVeth: Int32 = 12

    static let links: [Fault] = [
        Fault(
            "the neighbour entry of the tunnel is gone",
            broken(Shop.node1) { $0.neighbors.removeAll { $0.link == tunnel } }, .neighborMissing,
            "node-1: fairlead.1 has no neighbour entry for 10.244.2.0"),
        Fault(
            "the neighbour entry has another node's address",
            broken(Shop.node1) { view in
                for index in view.neighbors.indices where view.neighbors[index].link == tunnel {
                    view.neighbors[index].mac = mac("02:00:00:00:00:99")
                }
                view.entries[0].mac = mac("02:00:00:00:00:99")
            }, .neighborMismatch,
            "node-2: the frame inside is for 02:00:00:00:00:99, but fairlead.1 is 02:00:00:00:00:02"),
        Fault(
            "the forwarding entry leads to no node",
            broken(Shop.node1) { $0.entries[0].remote = ip("172.30.0.77") }, .nodeUnknown,
            "node-1: fairlead.1 sends it to 172.30.0.77, which no node of the cluster has"),
        Fault(
            "the other node's tunnel is another network",
            broken(Shop.node2) {
                $0.allLinks[2].kind = .vxlan(VXLAN(vni: 7, port: port(8472), local: ip("172.30.0.12")))
            }, .tunnelMismatch,
            "node-2: no tunnel device takes vni 1 on port 8472; fairlead.1 has vni 7 and port 8472"),
        Fault(
            "the other node's tunnel is down", broken(Shop.node2) { $0.allLinks[2].isUp = false }, .linkDown,
            "node-2: fairlead.1 is down"),
        Fault(
            "the underlay's interface is down", broken(Shop.node1) { $0.allLinks[1].isUp = false }, .linkDown,
            "node-1: eth0, which carries the tunnel, is down"),
        Fault(
            "the pod's interface is down", broken(Shop.web0) { $0.allLinks[1].isUp = false }, .linkDown,
            "shop/web-0: eth0 is down"),
        Fault(
            "the veth has no carrier", broken(Shop.web0) { $0.allLinks[1].hasCarrier = false }, .linkDown,
            "shop/web-0: eth0 is up but has no carrier"),
        Fault(
            "the veth's other end is gone", broken(Shop.node1) { $0.allLinks.removeAll { $0.index == webVeth } },
            .linkMissing, "shop/web-0: the other end of eth0 is not on node-1"),
        Fault(
            "the pod's route leads into another pod's veth",
            broken(Shop.node1) { view in
                let index = view.routes.firstIndex { $0.destination == prefix("10.244.1.3/32") }!
                view.routes[index].link = webVeth
            }, asking: to(.pod(NamespacedName("pay/api-0")), "8080"), .linkMissing,
            "node-1: vethweb-0 does not lead to pay/api-0, which has 10.244.1.3"),
        Fault(
            "the node's neighbour entry for the pod is stale",
            broken(Shop.node2) { view in
                let index = view.neighbors.firstIndex { $0.address == ip("10.244.2.3") }!
                view.neighbors[index].mac = mac("02:00:00:00:00:99")
            }, .neighborMismatch,
            "node-2: vethapi-1 sends frames for 10.244.2.3 to 02:00:00:00:00:99, but eth0 there is 02:00:00:00:bb:03"),
        Fault(
            "nobody answers for the pod's gateway", broken(Shop.web0) { $0.neighbors = [] }, .neighborMissing,
            "shop/web-0: nobody answers for 169.254.1.1 behind eth0"),
        Fault(
            "full-size packets do not fit the other node's link", broken(Shop.node2) { $0.allLinks[1].mtu = 1400 },
            .mtuTooSmall, exit: 0,
            "full-size packets do not fit: fairlead.1 takes 1450 bytes, the tunnel adds 50, and eth0 of node-2 carries 1400"
        ),
        Fault(
            "the pod's packets are larger than the tunnel's", broken(Shop.web0) { $0.allLinks[1].mtu = 1500 },
            .mtuTooSmall, exit: 0,
            "the sender's interface takes 1500 bytes and fairlead.1 only 1450: the sender must learn that from ICMP"),
    ]

    static let routing: [Fault] = [
        Fault(
            "the overlay's route is gone and the default route takes over",
            broken(Shop.node1) { $0.routes.removeAll { $0.link == tunnel } }, .noRoute,
            "node-1: it leaves by eth0, where no node takes it to pay/api-1 on node-2"),
        Fault(
            "the pod has no route", broken(Shop.web0) { $0.routes = [] }, .noRoute, "shop/web-0: no route to 10.244.2.3"
        ),
        Fault(
            "a route refuses", broken(Shop.node1) { $0.refusals[webVeth] = "blackhole" }, .noRoute,
            "node-1: the route to 10.244.2.3 says blackhole"),
        Fault(
            "the sender's route is gone and the kernel checks sources",
            broken(Shop.node1) { view in
                view.refusals[webVeth] = "source validation"
                view.routes.removeAll { $0.destination == prefix("10.244.1.2/32") }
                view.settings["net/ipv4/conf/vethweb-0/rp_filter"] = "1"
            }, .sourceValidation,
            "node-1: a packet from 10.244.1.2 is not taken from vethweb-0: the way back to it is eth0 "
                + "(net.ipv4.conf.vethweb-0.rp_filter is 1)"),
        Fault(
            "IPv6 is not forwarded", broken(Shop.node1) { $0.settings["net/ipv6/conf/all/forwarding"] = "0" },
            asking: to(.pod(NamespacedName("pay/api-1")), "8080", family: .ipv6), .forwardingDisabled,
            "node-1: forwarding is off (net.ipv6.conf.all.forwarding is 0)"),
        Fault(
            "two nodes send it to each other",
            broken(Shop.node2) { view in
                view.routes.removeAll { $0.destination.contains(ip("10.244.2.3")) && $0.destination.length > 0 }
                view.routes.append(Route(to: prefix("10.244.2.0/24"), via: ip("10.244.1.0"), link: tunnel))
            }, .routingLoop, "node-1: still not there after 16 places"),
        Fault(
            "the answer has no way back",
            broken(Shop.node2) { $0.routes.removeAll { $0.link == tunnel || $0.gateway != nil } }, .noRoute,
            "the packet arrives, but not its answer: node-2: no route to 10.244.1.2"),
        Fault(
            "the packet leaves the cluster", Shop.cluster(), asking: to(.address(ip("192.0.2.1")), "443"),
            .leavesCluster, exit: 4,
            "nothing here stops it; it leaves the cluster by eth0 towards 192.0.2.1 from node-1, "
                + "and what happens there cannot be seen from here"),
    ]

    static let services: [Fault] = [
        Fault(
            "the service has no such port", Shop.cluster(), asking: to(.service(NamespacedName("pay/api")), "81"),
            .noSuchPort,
            "Service pay/api has no port 81/tcp; it has 80/tcp"),
        Fault(
            "the service has no port of that name", Shop.cluster(),
            asking: to(.service(NamespacedName("pay/api")), "https"),
            .noSuchPort, "Service pay/api has no port https/tcp; it has 80/tcp (http)"),
        Fault(
            "no service has the address", Shop.cluster(), asking: to(.address(ip("10.96.0.99")), "80"), .noSuchService,
            "no service has the address 10.96.0.99"),
        Fault(
            "the service table is gone", broken(Shop.node1) { $0.tables.removeFirst() }, asking: toService,
            .rulesNotProgrammed,
            "node-1: no rule in the kernel answers for 10.96.0.10:80, although Service pay/api has it; is the node's agent running?"
        ),
        Fault(
            "the service is not in the table",
            broken(Shop.node1) { $0.tables[0].sets["frontends4"]!.elements = [:] }, asking: toService,
            .rulesNotProgrammed,
            "the kernel's rules know no port 80/tcp at 10.96.0.10, although Service pay/api has it; is the node's agent running?"
        ),
        Fault(
            "the endpoints are elsewhere and the service stays local",
            broken(Shop.node1) { view in
                for (key, element) in view.tables[0].sets["frontends4"]!.elements {
                    view.tables[0].sets["frontends4"]!.elements[key] = Element(
                        key, .verdict(.drop), comment: element.comment)
                }
            }, asking: toService, .noLocalEndpoints,
            "Service pay/api takes connections only on nodes with an endpoint of its own, and node-1 has none"),
    ]

    static let toService = TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80")

    static let rules: [Fault] = [
        Fault(
            "the policy table is gone", broken(Shop.node2, policies: Shop.policies) { $0.tables.removeLast() },
            .rulesNotProgrammed, exit: 0,
            "node-2: ingress: the kernel has no rules for pay/api-1, although NetworkPolicies pay/allow-front and "
                + "pay/default-deny isolate it"),
        Fault(
            "the pod is not in the policy table",
            broken(Shop.node2, policies: Shop.policies) { $0.tables[1].sets["ingress4"]!.elements = [:] },
            .rulesNotProgrammed, exit: 0,
            "node-2: ingress: the kernel has no rules for pay/api-1, although NetworkPolicies pay/allow-front and "
                + "pay/default-deny isolate it"),
        Fault(
            "the node does not know the pod yet",
            broken(Shop.node2) { $0.tables[1].sets["local-pods4"]!.elements = [:] }, .closedGate, exit: 2,
            "the policy gate of node-2 is closed for this packet: unknown local address; is the node's agent running?"),
        Fault(
            "a firewall on the other node stops the tunnel",
            broken(Shop.node2) {
                $0.tables.append(firewall(Rule(.match(.destinationPort, .port(port(8472))), .reject), .input))
            }, .foreignChainDrop,
            "the tunnel's packet is stopped: node-2: chain fw of table inet firewall rejects it  "
                + "[input priority 0, not one of ours]"),
        Fault(
            "a firewall drops by its policy",
            broken(Shop.node1) {
                $0.tables.append(
                    Ruleset(
                        TableName(.inet, "closed"),
                        chains: ["f": Chain(hook: Hook(.filter, .forward, priority: 0, policy: .drop), [])]))
            }, .foreignChainDrop,
            "node-1: chain f of table inet closed drops it by its policy  [forward priority 0, not one of ours]"),
        Fault(
            "a firewall in the pod", broken(Shop.api1) { $0.tables.append(firewall(Rule(.drop), .input)) },
            .foreignChainDrop,
            "pay/api-1: chain fw of table inet firewall drops it  [input priority 0, not one of ours]"),
        Fault(
            "a firewall stops the answer",
            broken(Shop.node1) {
                $0.tables.append(firewall(Rule(.match(.sourcePort, .port(port(8080))), .drop), .forward))
            }, .foreignChainDrop,
            "the packet arrives, but not its answer: node-1: chain fw of table inet firewall drops it  "
                + "[forward priority 0, not one of ours]"),
        Fault(
            "a table filters on devices",
            broken(Shop.node1) {
                $0.tables.append(
                    Ruleset(
                        TableName(.netdev, "early"),
                        chains: ["i": Chain(hook: Hook(.filter, .prerouting, priority: 0), [])]))
            }, .inconclusive, exit: 4, "node-1: table netdev early filters on devices, which is not understood here"),
        Fault(
            "the pod's namespace is gone",
            {
                var shop = Shop.cluster(); shop.views[Shop.api1] = nil; return shop
            }(),
            .inconclusive, exit: 4, "node-2: pay/api-1 cannot be looked into: no such network namespace"),
    ]

    static let ends: [Fault] = [
        Fault(
            "the program listens on another address",
            broken(Shop.api1) { $0.sockets = [.tcp: [ListeningSocket(.tcp, ip("10.0.0.9"), port(8080))]] },
            .listenOtherAddress, "pay/api-1 is reached, but it listens only on 10.0.0.9:8080, not on 10.244.2.3"),
        Fault(
            "the program takes IPv4 only",
            broken(Shop.api1) { $0.sockets = [.tcp: [ListeningSocket(.tcp, ip("0.0.0.0"), port(8080))]] },
            asking: to(.pod(NamespacedName("pay/api-1")), "8080", family: .ipv6), .listenOtherAddress,
            "pay/api-1 is reached, but it listens only on *:8080, not on fd00:10:244:2::3"),
        Fault(
            "the node itself, where nothing listens", Shop.cluster(), asking: to(.node("node-2"), "22"), .notListening,
            "node-2 is reached, but nothing in it listens on 22/tcp"),
        Fault(
            "the pod has no address of the family",
            {
                var shop = Shop.cluster(); shop.pods[1].addresses.removeLast(); return shop
            }(),
            asking: to(.pod(NamespacedName("pay/api-1")), "8080", family: .ipv6), .noAddress,
            "shop/web-0 and pay/api-1:8080 have no IPv6 address"),
    ]
}

@Suite struct FaultTests {
    @Test(arguments: Fault.links + Fault.routing + Fault.services + Fault.rules + Fault.ends)
    func `a fault has its code, its exit code and its cause`(fault: Fault) throws {
        let trace = try trace(fault.request, in: fault.cluster)
        let lines = TraceText().text(trace).split(separator: "\n")
        #expect(trace.reason == fault.reason)
        #expect(trace.verdict.exitCode == fault.exitCode)
        #expect(lines[1] == "  \(fault.exitCode == 0 ? "warning" : "cause  ") \(fault.cause)")
    }

    @Test func `every code has a fault here, or a text of its own`() {
        let elsewhere: Set<ReasonCode> = [
            // TraceTextTests
            .allowed, .policyImplicitDeny, .noEndpoints, .forwardingEntryMissing, .notListening, .listenLoopbackOnly,
            // AnswerTests
            .invalidConnection, .replyNotTranslated,
        ]
        let here = (Fault.links + Fault.routing + Fault.services + Fault.rules + Fault.ends).map(\.reason)
        #expect(Set(ReasonCode.allCases).subtracting(here).subtracting(elsewhere) == [])
    }
}
