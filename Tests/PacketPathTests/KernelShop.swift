import Glibc
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink
import Testing

@testable import fairlead

/// The shop in real kernels: every place of a literal cluster made a network namespace with the same links, addresses,
/// routes, neighbours and tables, and a server in each pod.
final class KernelShop {
    let plan: LiteralCluster
    private var rooms: [Place: Room] = [:]
    private var servers: [PodServing] = []

    init(_ plan: LiteralCluster) throws {
        self.plan = plan
        for place in plan.views.keys { rooms[place] = try Room() }
        let nodes = [Shop.node1, Shop.node2].map { rooms[$0]! }
        // The nodes' interfaces are each other's ends: that is all of the underlay.
        let ends = [Shop.node1, Shop.node2].map { place in
            plan.views[place]!.allLinks.first { $0.name.description == "eth0" }!
        }
        try nodes[0].routes.addVeth(ends[0].made, peer: ends[1].made, in: nodes[1].namespace)
        for (place, room) in rooms { try furnish(room, plan.views[place]!, isNode: nodes.contains { $0 === room }) }
        for pod in plan.pods { try attach(pod) }
        for (place, room) in rooms { try connect(room, plan.views[place]!) }
        for pod in plan.pods { servers.append(try PodServing(pod.key.name, in: self[.pod(pod.key, node: pod.node)])) }
    }

    deinit { for server in servers { server.end() } }

    subscript(_ place: Place) -> Room { rooms[place]! }

    /// What a trace looks at: fresh eyes each time.
    var cluster: some PathCluster { Eyes(shop: self) }

    private struct Eyes: PathCluster {
        let shop: KernelShop
        private let views = Views()
        var nodes: [String] { shop.plan.nodes }
        var pods: [RunningPod] { shop.plan.pods }
        var objects: ClusterSnapshot { shop.plan.objects }

        init(shop: KernelShop) { self.shop = shop }

        private final class Views { var known: [Place: KernelNamespaceView] = [:] }

        func view(of place: Place) throws -> any NamespaceView {
            if let view = views.known[place] { return view }
            let view = try KernelNamespaceView.open(shop[place].another())
            views.known[place] = view
            return view
        }
    }

    // MARK: - Building

    /// The loopback and, on nodes, the tunnel; and the settings that addresses depend on.
    private func furnish(_ room: Room, _ view: LiteralView, isNode: Bool) throws {
        try room.enter { () throws(KernelError) in
            for scope in ["all", "default"] {
                try KernelSetting.write(["net", "ipv6", "conf", scope, "disable_ipv6"], "0")
                try KernelSetting.write(["net", "ipv6", "conf", scope, "accept_dad"], "0")
                try KernelSetting.write(["net", "ipv4", "conf", scope, "rp_filter"], "0")
            }
            try KernelSetting.write(["net", "ipv4", "ip_forward"], isNode ? "1" : "0")
            try KernelSetting.write(["net", "ipv6", "conf", "all", "forwarding"], isNode ? "1" : "0")
        }
        try room.routes.change(link: 1, LinkChange(isUp: true))
        for link in view.allLinks {
            guard case .vxlan(let tunnel) = link.kind else { continue }
            try room.routes.addVXLAN(link.made, tunnel, underlay: try room.index("eth0"))
        }
    }

    private func attach(_ pod: RunningPod) throws {
        let room = self[.pod(pod.key, node: pod.node)]
        let inner = plan.views[.pod(pod.key, node: pod.node)]!.allLinks.first { $0.name.description == "eth0" }!
        let outer = plan.views[.node(pod.node)]!.allLinks.first { $0.name.description == "veth\(pod.key.name)" }!
        try self[.node(pod.node)].routes.addVeth(outer.made, peer: inner.made, in: room.namespace)
    }

    private func connect(_ room: Room, _ view: LiteralView) throws {
        // The plan's numbers for links are not the kernel's; the names are the same.
        func index(_ planned: Int32) throws -> Int32 {
            try room.index(view.allLinks.first { $0.index == planned }!.name.description)
        }
        for address in view.allAddresses where !address.prefix.address.isLoopback {
            try room.routes.add(InterfaceAddress(address.prefix, link: index(address.link)))
        }
        for route in view.routes {
            var route = route
            route.link = try index(route.link)
            route.onLink = route.gateway != nil
            try room.routes.replace(route)
        }
        for neighbor in view.neighbors {
            var neighbor = neighbor
            neighbor.link = try index(neighbor.link)
            try room.routes.replace(neighbor)
        }
        for entry in view.entries {
            var entry = entry
            entry.link = try index(entry.link)
            try room.routes.replace(entry)
        }
        for table in view.tables { try room.nftables.apply(table.creation, to: table.table) }
    }
}

/// A network namespace and the sockets to furnish it with.
final class Room: Sendable {
    let namespace: NetworkNamespace
    let routes: RouteSocket
    let nftables: NftablesSocket

    init() throws {
        let namespace = try NetworkNamespace.anonymous()
        routes = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        nftables = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        self.namespace = namespace
    }

    func enter<Result: ~Copyable>(_ body: () throws(KernelError) -> Result) throws(KernelError) -> Result {
        try namespace.withEntered(body)
    }

    /// The same namespace once more.
    func another() throws(KernelError) -> NetworkNamespace {
        try enter { () throws(KernelError) in try NetworkNamespace.current() }
    }

    func index(_ name: String) throws -> Int32 { try #require(try routes.link(named: InterfaceName(name)!)).index }

    func set(_ value: String, _ path: String...) throws {
        try enter { () throws(KernelError) in try KernelSetting.write(path, value) }
    }

    func tcp(to address: String, _ number: Int, timeout: Duration = .seconds(5)) throws -> Probe.Outcome {
        try enter { () throws(KernelError) in try Probe.tcp(to: at(address, number), timeout: timeout, send: "\n") }
    }
}

/// A pod's server on a thread of its own, until it is ended.
final class PodServing: Sendable {
    private let work: Work
    private let thread: pthread_t

    private final class Work: Sendable {
        let server: PodServer
        let stop: StopSignal

        init(_ server: consuming PodServer, _ stop: consuming StopSignal) {
            self.server = server
            self.stop = stop
        }
    }

    init(_ name: String, in room: Room) throws {
        let server = try room.enter { () throws(KernelError) in
            try PodServer.open(podName: name, tcpPorts: [Port(8080)!], udpPorts: [])
        }
        work = Work(server, try StopSignal.open())
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { context in
                let work = Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
                work.server.serve(until: work.stop)
                return nil
            }, Unmanaged.passRetained(work).toOpaque())
        self.thread = thread
    }

    func end() {
        work.stop.send()
        pthread_join(thread, nil)
    }
}

extension Link {
    /// The order to make this link.
    var made: NewLink { NewLink(name, mac: mac, mtu: mtu, isUp: true) }
}
