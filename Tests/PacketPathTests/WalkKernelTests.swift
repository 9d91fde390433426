import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink
import Testing

/// Something done to the kernels, what a trace must then say, and what a real connection must then meet.
struct KernelFault: CustomTestStringConvertible, Sendable {
    enum Fate: Sendable { case answered, refused, silent, unreachable }

    var testDescription: String
    var policies: [NetworkPolicy] = []
    var team = "shop"
    /// `pay/api`'s address, a pod's, or another; with port 80 where it is a service's.
    var address = "10.244.2.3"
    var number = 8080
    var reason: ReasonCode
    var fate: Fate
    var harm: @Sendable (KernelShop) throws -> Void = { _ in }
}

private let service = "10.96.0.10"
private let api1 = "10.244.2.3"

private func entry(of node: Room) throws -> ForwardingEntry {
    try #require(try node.routes.forwardingEntries(link: node.index("fairlead.1")).first { !$0.remote.isUnspecified })
}

@Suite(.needsRoot) struct WalkKernelTests {
    @Test func `the walk over kernels tells the same as over the plan they were made by`() throws {
        let plan = Shop.cluster(policies: Shop.policies)
        let shop = try KernelShop(plan)
        for family in AddressFamily.allCases {
            for name in ["api-0", "api-1"] {
                let request = TraceRequest(
                    from: .pod(NamespacedName("shop/web-0")), to: .service(NamespacedName("pay/api")), port: "80",
                    family: family, backend: name)
                #expect(
                    TraceText().text(try trace(request, in: shop.cluster))
                        == TraceText().text(try trace(request, in: plan)))
            }
        }
    }

    @Test(arguments: [
        KernelFault(testDescription: "a service", address: service, number: 80, reason: .allowed, fate: .answered),
        KernelFault(testDescription: "a pod beside", address: "10.244.1.3", reason: .allowed, fate: .answered),
        KernelFault(testDescription: "a pod on the other node", reason: .allowed, fate: .answered),
        KernelFault(
            testDescription: "a pod on the other node, IPv6", address: "fd00:10:244:2::3", reason: .allowed,
            fate: .answered),
        KernelFault(
            testDescription: "a policy that admits", policies: Shop.policies, reason: .allowed, fate: .answered),
        KernelFault(
            testDescription: "a policy that does not", policies: Shop.policies, team: "store",
            reason: .policyImplicitDeny, fate: .silent),
        KernelFault(
            testDescription: "a port that the policy does not admit", policies: Shop.policies, number: 8081,
            reason: .policyImplicitDeny, fate: .silent),
        KernelFault(testDescription: "a port nobody listens on", number: 9090, reason: .notListening, fate: .refused),
        KernelFault(
            testDescription: "a service without endpoints", address: "10.96.0.11", number: 80, reason: .noEndpoints,
            fate: .refused),
        KernelFault(
            testDescription: "a port the service does not have", address: service, number: 81, reason: .noSuchPort,
            fate: .refused),
        KernelFault(
            testDescription: "a service's address that none has", address: "10.96.0.99", number: 80,
            reason: .noSuchService, fate: .silent),
        KernelFault(testDescription: "no forwarding entry", reason: .forwardingEntryMissing, fate: .silent) { shop in
            let node = shop[Shop.node1]
            try node.routes.remove(entry(of: node))
        },
        KernelFault(testDescription: "a forwarding entry to nowhere", reason: .nodeUnknown, fate: .silent) { shop in
            let node = shop[Shop.node1]
            var wrong = try entry(of: node)
            try node.routes.remove(wrong)
            wrong.remote = ip("172.30.0.77")
            try node.routes.replace(wrong)
        },
        KernelFault(testDescription: "no neighbour entry in the tunnel", reason: .neighborMissing, fate: .unreachable) {
            shop in
            let node = shop[Shop.node1]
            let tunnel = try node.index("fairlead.1")
            for neighbor in try node.routes.neighbors(link: tunnel) { try node.routes.remove(neighbor) }
        },
        KernelFault(testDescription: "another tunnel address", reason: .neighborMismatch, fate: .silent) { shop in
            let node = shop[Shop.node2]
            try node.routes.change(link: node.index("fairlead.1"), LinkChange(mac: mac("02:00:00:00:00:99")))
        },
        KernelFault(testDescription: "no route", reason: .noRoute, fate: .unreachable) { shop in
            let node = shop[Shop.node1]
            for route in try node.routes.routes() where route.gateway != nil { try node.routes.remove(route) }
        },
        KernelFault(testDescription: "no route back", reason: .noRoute, fate: .silent) { shop in
            let node = shop[Shop.node2]
            for route in try node.routes.routes() where route.gateway != nil { try node.routes.remove(route) }
        },
        KernelFault(testDescription: "no forwarding on the sender's node", reason: .forwardingDisabled, fate: .silent) {
            try $0[Shop.node1].set("0", "net", "ipv4", "ip_forward")
        },
        KernelFault(testDescription: "no forwarding out of the tunnel", reason: .forwardingDisabled, fate: .silent) {
            try $0[Shop.node2].set("0", "net", "ipv4", "conf", "fairlead.1", "forwarding")
        },
        KernelFault(
            testDescription: "the sender's route is gone and sources are checked", reason: .sourceValidation,
            fate: .silent
        ) { shop in
            let node = shop[Shop.node1]
            try node.set("1", "net", "ipv4", "conf", "vethweb-0", "rp_filter")
            for route in try node.routes.routes() where route.destination == prefix("10.244.1.2/32") {
                try node.routes.remove(route)
            }
        },
        KernelFault(testDescription: "the other tunnel is down", reason: .linkDown, fate: .silent) { shop in
            let node = shop[Shop.node2]
            try node.routes.change(link: node.index("fairlead.1"), LinkChange(isUp: false))
        },
        KernelFault(
            testDescription: "the pod's veth leads elsewhere", address: "10.244.1.3", reason: .linkMissing,
            fate: .silent
        ) { shop in
            let node = shop[Shop.node1]
            for route in try node.routes.routes() where route.destination == prefix("10.244.1.3/32") {
                try node.routes.remove(route)
            }
            try node.routes.add(Route(to: prefix("10.244.1.3/32"), link: node.index("vethweb-0")))
        },
        KernelFault(testDescription: "a stale neighbour entry for the pod", reason: .neighborMismatch, fate: .silent) {
            shop in
            let node = shop[Shop.node2]
            try node.routes.replace(Neighbor(ip(api1), mac: mac("02:00:00:00:00:99"), link: node.index("vethapi-1")))
        },
        KernelFault(testDescription: "a firewall in the way", reason: .foreignChainDrop, fate: .silent) { shop in
            let table = firewall(Rule(.match(.destinationPort, .port(port(8080))), .drop))
            try shop[Shop.node2].nftables.apply(table.creation, to: table.table)
        },
        KernelFault(testDescription: "a firewall that rejects", reason: .foreignChainDrop, fate: .refused) { shop in
            let table = firewall(Rule(.match(.destinationPort, .port(port(8080))), .reject), .input)
            try shop[Shop.api1].nftables.apply(table.creation, to: table.table)
        },
        KernelFault(testDescription: "a firewall against the tunnel", reason: .foreignChainDrop, fate: .silent) {
            shop in
            let table = firewall(Rule(.match(.destinationPort, .port(port(8472))), .drop), .input)
            try shop[Shop.node2].nftables.apply(table.creation, to: table.table)
        },
        KernelFault(testDescription: "a firewall against the answer", reason: .foreignChainDrop, fate: .silent) {
            shop in
            let table = firewall(Rule(.match(.sourcePort, .port(port(8080))), .drop))
            try shop[Shop.node1].nftables.apply(table.creation, to: table.table)
        },
        KernelFault(testDescription: "a node that does not know the pod yet", reason: .closedGate, fate: .silent) {
            shop in
            let table = TableName(.inet, "fairlead-policy")
            try shop[Shop.node2].nftables.apply(
                [.removeElements([Element(.init(.address(ip(api1))))], set: "local-pods4")], to: table)
        },
        KernelFault(testDescription: "an underlay too small for full packets", reason: .mtuTooSmall, fate: .answered) {
            shop in
            let node = shop[Shop.node2]
            try node.routes.change(link: node.index("eth0"), LinkChange(mtu: 1400))
        },
    ])
    func `a trace says what a real connection meets`(fault: KernelFault) throws {
        let shop = try KernelShop(Shop.cluster(team: fault.team, policies: fault.policies))
        try fault.harm(shop)
        let request = TraceRequest(
            from: .pod(NamespacedName("shop/web-0")), to: .address(ip(fault.address)), port: "\(fault.number)")
        let trace = try trace(request, in: shop.cluster)
        #expect(trace.reason == fault.reason, "\(TraceText().text(trace))")
        // The kernel takes three seconds to give up on a neighbour; a packet that is dropped is never heard of.
        let patience = Duration.milliseconds(fault.fate == .silent ? 300 : 5_000)
        let outcome = try shop[Shop.web0].tcp(to: fault.address, fault.number, timeout: patience)
        switch (fault.fate, outcome) {
        case (.answered, .reply), (.refused, .refused), (.silent, .timeout), (.unreachable, .unreachable): break
        default: Issue.record("expected \(fault.fate), met \(outcome)\n\(TraceText().text(trace))")
        }
    }
}
