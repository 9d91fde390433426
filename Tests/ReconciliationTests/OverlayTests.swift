import KernelInterface
import KubernetesObjects
import Logging
import NetworkAddresses
import Nftables
import OverlayRoutes
import Reconciliation
import RouteNetlink
import Testing

/// A node's namespace with an interface `eth0` at 172.30.0.11, as the agent finds it.
final class NodeBed {
    let namespace: NetworkNamespace
    let routes: RouteSocket

    init() throws {
        let namespace = try NetworkNamespace.anonymous()
        let routes = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try routes.addVeth(NewLink(InterfaceName("eth0")!, isUp: true), peer: NewLink(InterfaceName("wire")!, isUp: true))
        let eth0 = try #require(try routes.link(named: InterfaceName("eth0")!))
        try routes.add(InterfaceAddress(IPPrefix("172.30.0.11/24")!, link: eth0.index))
        self.namespace = namespace
        self.routes = routes
    }

    func reconciler(
        _ components: Set<Component>, ownsTables: Bool = true, overlay: OverlayConfiguration = OverlayConfiguration()
    ) throws -> NodeReconciler {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        var configuration = NodeReconciler.Configuration(
            nodeName: "n1", components: components, overlay: overlay)
        configuration.ownsTables = ownsTables
        return try namespace.withEntered { () throws(KernelError) in
            try NodeReconciler(configuration, logger: logger)
        }
    }

    /// The overlay's entries as a person would see them, one per line.
    func overlay() throws -> Set<String> {
        guard let device = try routes.link(named: InterfaceName("fairlead.1")!) else { return [] }
        let link = device.index
        let found = try routes.routes(origin: .fairlead).filter { $0.link == link }.map { "route \($0.destination) via \($0.gateway!)" }
        let neighbors = try routes.neighbors(link: link).filter { $0.state == .permanent }.map { "neigh \($0.address) \($0.mac!)" }
        let forwarding = try routes.forwardingEntries(link: link).map { "fdb \($0.mac) \($0.remote)" }
        return Set(found + neighbors + forwarding)
    }
}

func node(_ number: Int) -> Node {
    Node(
        metadata: ObjectMetadata(name: "n\(number)", namespace: ""),
        podCIDRs: [IPPrefix("10.244.\(number).0/24")!, IPPrefix("fd00:10:244:\(number)::/64")!],
        internalIPs: [IPAddress("172.30.0.1\(number)")!])
}

func entries(_ numbers: Int...) -> Set<String> {
    Set(
        numbers.flatMap { number in
            let mac = tunnelAddress(of: "n\(number)")
            return [
                "route 10.244.\(number).0/24 via 10.244.\(number).0", "neigh 10.244.\(number).0 \(mac)",
                "route fd00:10:244:\(number)::/64 via \(mac.linkLocalAddress)", "neigh \(mac.linkLocalAddress) \(mac)",
                "fdb \(mac) 172.30.0.1\(number)",
            ]
        })
}

func objects(_ events: ObjectEvent...) -> [NodeEvent] { [.objects(events, notes: [], revision: "")] }

@Suite(.needsRoot) struct OverlayTests {
    @Test func `peers come, go, move and are mended`() async throws {
        let bed = try NodeBed()
        let agent = try bed.reconciler([.overlay])
        #expect(await !agent.apply(objects(.set(.node(node(1))), .set(.node(node(2))))).isSynced)
        #expect(try bed.overlay() == [], "nothing is written before all objects are known")
        let first = await agent.apply(objects(.synced))
        #expect(first.isSynced && first.errors == [] && first.notes == [])
        #expect(try bed.overlay() == entries(2))
        let device = try #require(try bed.routes.link(named: InterfaceName("fairlead.1")!))
        #expect(device.mtu == 1450 && device.mac == tunnelAddress(of: "n1") && device.isUp)

        _ = await agent.apply(objects(.set(.node(node(3)))))
        #expect(try bed.overlay() == entries(2, 3))
        var moved = node(3)
        moved.internalIPs = [IPAddress("172.30.0.77")!]
        _ = await agent.apply(objects(.set(.node(moved))))
        #expect(try bed.overlay().contains("fdb \(tunnelAddress(of: "n3")) 172.30.0.77"))
        #expect(try bed.overlay().filter { $0.hasPrefix("fdb") }.count == 2)
        _ = await agent.apply(objects(.removed(ObjectReference(kind: .node, namespace: nil, name: "n2"))))
        #expect(try bed.overlay().count == 5)
        _ = await agent.apply(objects(.set(.node(node(3))), .set(.node(node(2)))))
        #expect(try bed.overlay() == entries(2, 3))

        // Somebody else's hand.
        for command in [
            ["route", "del", "10.244.2.0/24"], ["neigh", "del", "10.244.3.0", "dev", "fairlead.1"], ["link", "del", "fairlead.1"],
        ] {
            _ = try bed.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("ip", command, timeout: .seconds(10))
            }
            #expect(try bed.overlay() != entries(2, 3))
            #expect(await agent.apply([.kernelChanged]).isSynced)
            #expect(try bed.overlay() == entries(2, 3), "after ip \(command)")
        }
        #expect(await agent.apply([.kernelChanged]).changes == 0)
    }

    @Test func `peers that vanished while no agent ran are forgotten, and routes of others are left alone`() async throws {
        let bed = try NodeBed()
        do {
            let agent = try bed.reconciler([.overlay])
            _ = await agent.apply(objects(.set(.node(node(1))), .set(.node(node(2))), .set(.node(node(3))), .synced))
        }
        let device = try #require(try bed.routes.link(named: InterfaceName("fairlead.1")!))
        let eth0 = try #require(try bed.routes.link(named: InterfaceName("eth0")!))
        let foreign = Route(to: IPPrefix("192.0.2.0/24")!, via: IPAddress("172.30.0.99"), link: eth0.index)
        try bed.routes.add(foreign)
        // A pod's own route is the CNI plugin's: ours by origin, but not the overlay's.
        let pod = Route(to: IPPrefix("10.244.1.9/32")!, link: eth0.index, origin: .fairlead)
        try bed.routes.add(pod)
        let agent = try bed.reconciler([.overlay])
        let report = await agent.apply(objects(.set(.node(node(1))), .set(.node(node(3))), .synced))
        #expect(report.isSynced)
        #expect(try bed.overlay() == entries(3))
        #expect(try bed.routes.link(named: InterfaceName("fairlead.1")!)?.index == device.index)
        #expect(try Set(bed.routes.routes()).isSuperset(of: [foreign, pod]))
    }

    @Test func `an address that is not this machine's is named`() async throws {
        let bed = try NodeBed()
        let agent = try bed.reconciler([.overlay])
        var elsewhere = node(1)
        elsewhere.internalIPs = [IPAddress("198.51.100.1")!]
        let report = await agent.apply(objects(.set(.node(elsewhere)), .set(.node(node(2))), .synced))
        #expect(report.notes.map(\.object?.name) == ["n1"] && report.isSynced)
        #expect(try bed.routes.link(named: InterfaceName("fairlead.1")!) == nil)
    }

    /// Whatever a Node object says: the others are reached, the way to them stays, and the node is ready for pods.
    @Test(arguments: [
        "0.0.0.0/0", "::/0", "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/24", "240.0.0.0/4", "255.255.255.0/24",
        "255.255.255.255/32", "169.254.0.0/16", "172.30.0.0/24", "172.30.0.128/25", "128.0.0.0/1", "10.9.9.9/32",
        "fe80::/64", "ff00::/8", "::1/128", "::ffff:0:0/96", "2001:db8::1/128", "10.244.1.0/24", "10.244.0.0/16",
    ])
    func `a node with an impossible network harms nobody else`(network: String) async throws {
        let bed = try NodeBed()
        let agent = try bed.reconciler([.overlay])
        let before = try Set(bed.routes.routes())
        var odd = node(3)
        odd.podCIDRs = [try #require(IPPrefix(network))]
        let report = await agent.apply(objects(.set(.node(node(1))), .set(.node(odd)), .set(.node(node(2))), .synced))
        #expect(report.isSynced && report.errors == [] && report.overlay?.isReady == true, "\(report.errors)")
        #expect(report.notes.allSatisfy { $0.object?.name == "n3" })
        #expect(try bed.overlay().isSuperset(of: entries(2)))
        #expect(try Set(bed.routes.routes()).isSuperset(of: before))
        let way = try bed.routes.decide(to: #require(IPAddress("172.30.0.12")))
        #expect(way.link == (try bed.routes.link(named: InterfaceName("eth0")!))?.index)
        _ = await agent.apply(objects(.removed(ObjectReference(kind: .node, namespace: nil, name: "n3"))))
        #expect(try bed.overlay() == entries(2))
    }
}
