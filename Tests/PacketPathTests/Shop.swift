import KubernetesObjects
import NetlinkWire
import NetworkAddresses
import Nftables
import PacketPath
import PolicyRules
import RouteNetlink
import ServiceRules

/// Two nodes as their agents leave them: the shop's `web-0` on the first; the payment's `api-0` beside it and `api-1`
/// on the second, behind the service `pay/api`, and `idle`, a service that selects nothing.
enum Shop {
    static let node1 = Place.node("node-1")
    static let node2 = Place.node("node-2")
    static let web0 = Place.pod("shop/web-0", "node-1")
    static let api0 = Place.pod("pay/api-0", "node-1")
    static let api1 = Place.pod("pay/api-1", "node-2")

    static func number(of node: String) -> Int { node == "node-1" ? 1 : 2 }
    static func tunnelMAC(_ node: String) -> MACAddress { mac("02:00:00:00:00:0\(number(of: node))") }

    // MARK: - Objects

    static let policies: [NetworkPolicy] = [
        NetworkPolicy(metadata: ObjectMetadata(name: "default-deny", namespace: "pay"), directions: [.ingress]),
        NetworkPolicy(
            metadata: ObjectMetadata(name: "allow-front", namespace: "pay"),
            podSelector: LabelSelector(matchLabels: ["app": "api"]),
            ingress: [
                PolicyRule(
                    peers: .only([
                        .pods(
                            LabelSelector(matchLabels: ["app": "web"]),
                            in: .matching(LabelSelector(matchLabels: ["team": "shop"])))
                    ]), ports: .only([PolicyPort(protocol: .tcp, .range(port(8080)...port(8080)))]))
            ]),
    ]

    static func objects(team: String, policies: [NetworkPolicy]) -> ClusterSnapshot {
        func pod(_ name: String, _ app: String, _ node: String, _ addresses: String...) -> KubernetesObject {
            let key = NamespacedName(name)
            return .pod(
                Pod(
                    metadata: ObjectMetadata(name: key.name, namespace: key.namespace, labels: ["app": app]),
                    spec: PodSpec(
                        nodeName: node,
                        containers: [Container(name: app, ports: [ContainerPort(name: "http", number: port(8080))])]),
                    addresses: addresses.map(ip)))
        }
        func service(_ name: String, _ address: String, _ six: String, app: String) -> KubernetesObject {
            .service(
                Service(
                    metadata: ObjectMetadata(name: name, namespace: "pay"), clusterIPs: [ip(address), ip(six)],
                    ports: [ServicePort(name: "http", number: port(80), target: .name("http"))], selector: ["app": app])
            )
        }
        func slice(_ family: AddressFamily, _ addresses: [String]) -> KubernetesObject {
            .endpointSlice(
                EndpointSlice(
                    metadata: ObjectMetadata(
                        name: "api-\(family)", namespace: "pay", labels: [EndpointSlice.serviceNameLabel: "api"]),
                    family: family,
                    endpoints: addresses.enumerated().map {
                        Endpoint(
                            address: ip($1), nodeName: "node-\($0 + 1)",
                            pod: NamespacedName(namespace: "pay", name: "api-\($0)"))
                    }, ports: [EndpointPort(name: "http", number: port(8080))]))
        }
        return ClusterSnapshot(
            [
                .namespace(Namespace(name: "shop", labels: ["team": team])), .namespace(Namespace(name: "pay")),
                pod("shop/web-0", "web", "node-1", "10.244.1.2", "fd00:10:244:1::2"),
                pod("pay/api-0", "api", "node-1", "10.244.1.3", "fd00:10:244:1::3"),
                pod("pay/api-1", "api", "node-2", "10.244.2.3", "fd00:10:244:2::3"),
                service("api", "10.96.0.10", "fd00:10:96::10", app: "api"),
                service("idle", "10.96.0.11", "fd00:10:96::11", app: "idle"),
                slice(.ipv4, ["10.244.1.3", "10.244.2.3"]), slice(.ipv6, ["fd00:10:244:1::3", "fd00:10:244:2::3"]),
            ] + ["node-1", "node-2"].map { .node(node($0)) } + policies.map { .networkPolicy($0) })
    }

    private static func node(_ name: String) -> Node {
        let number = number(of: name)
        return Node(
            metadata: ObjectMetadata(name: name, namespace: ""),
            podCIDRs: [prefix("10.244.\(number).0/24"), prefix("fd00:10:244:\(number)::/64")],
            internalIPs: [ip("172.30.0.1\(number)"), ip("fd00:172:30::1\(number)")])
    }

    // MARK: - Kernels

    /// The cluster with everything in force and in order.
    static func cluster(team: String = "shop", policies: [NetworkPolicy] = []) -> LiteralCluster {
        var cluster = LiteralCluster(nodes: ["node-1", "node-2"])
        cluster.objects = objects(team: team, policies: policies)
        cluster.pods = cluster.objects.pods.values.sorted { $0.key < $1.key }.map {
            RunningPod($0.key, on: $0.spec.nodeName!, $0.addresses)
        }
        for name in cluster.nodes { cluster.views[.node(name)] = nodeView(name, cluster) }
        for pod in cluster.pods { attach(pod, to: &cluster) }
        return cluster
    }

    private static func nodeView(_ name: String, _ cluster: LiteralCluster) -> LiteralView {
        let number = number(of: name)
        let other = name == "node-1" ? "node-2" : "node-1"
        let peer = Self.number(of: other)
        var view = LiteralView()
        let tunnel = VXLAN(vni: 1, port: port(8472), local: ip("172.30.0.1\(number)"))
        view.allLinks = [
            link(1, "lo", .loopback, mtu: 65536),
            link(2, "eth0", .veth, "02:00:00:00:0e:0\(number)", mtu: 1500, peer: 50),
            Link(index: 3, name: InterfaceName("fairlead.1")!, kind: .vxlan(tunnel), mac: tunnelMAC(name), mtu: 1450),
        ]
        view.allAddresses = [
            .init(prefix("127.0.0.1/8"), link: 1), .init(prefix("172.30.0.1\(number)/24"), link: 2),
            .init(prefix("fd00:172:30::1\(number)/64"), link: 2), .init(prefix("10.244.\(number).0/32"), link: 3),
            .init(prefix("fd00:10:244:\(number)::/128"), link: 3),
        ]
        view.routes = [
            Route(to: prefix("0.0.0.0/0"), via: ip("172.30.0.1"), link: 2), Route(to: prefix("172.30.0.0/24"), link: 2),
            Route(to: prefix("fd00:172:30::/64"), link: 2),
            Route(to: prefix("10.244.\(peer).0/24"), via: ip("10.244.\(peer).0"), link: 3, onLink: true),
            Route(to: prefix("fd00:10:244:\(peer)::/64"), via: ip("fd00:10:244:\(peer)::"), link: 3, onLink: true),
        ]
        view.neighbors = [
            Neighbor(ip("10.244.\(peer).0"), mac: tunnelMAC(other), link: 3),
            Neighbor(ip("fd00:10:244:\(peer)::"), mac: tunnelMAC(other), link: 3),
        ]
        view.entries = [ForwardingEntry(tunnelMAC(other), to: ip("172.30.0.1\(peer)"), link: 3)]
        let objects = cluster.objects
        view.tables = [
            serviceTable(
                services: objects.services.values, slices: objects.endpointSlices.values,
                on: NodeContext(
                    name: name, addresses: [ip("172.30.0.1\(number)")], podCIDRs: objects.nodes[name]!.podCIDRs,
                    serviceCIDRs: [prefix("10.96.0.0/16"), prefix("fd00:10:96::/112")])
            ),
            PolicyTable.whole(objects, nodeName: name, epoch: PolicyEpoch(1)!),
        ]
        view.settings = ["net/ipv6/conf/all/forwarding": "1"]
        for link in view.allLinks { view.settings["net/ipv4/conf/\(link.name)/forwarding"] = "1" }
        return view
    }

    /// A routed pod: its interface, the node's end of the veth, and what each knows of the other.
    private static func attach(_ pod: RunningPod, to cluster: inout LiteralCluster) {
        let suffix = pod.addresses[0].number & 0xff
        let outer = Int32(10 + suffix)
        let outerMAC = mac("02:00:00:00:aa:0\(suffix)")
        let innerMAC = mac("02:00:00:00:bb:0\(suffix)")
        var view = LiteralView()
        view.allLinks = [
            link(1, "lo", .loopback, mtu: 65536), link(2, "eth0", .veth, innerMAC.description, peer: outer),
        ]
        let gateways = [AddressFamily.ipv4: ip("169.254.1.1"), .ipv6: ip("fe80::1")]
        for address in pod.addresses {
            view.allAddresses.append(.init(address.hostPrefix, link: 2))
            let gateway = gateways[address.family]!
            view.routes.append(
                Route(
                    to: IPPrefix(gateway.family == .ipv4 ? "0.0.0.0/0" : "::/0")!, via: gateway, link: 2, onLink: true))
            view.neighbors.append(Neighbor(gateway, mac: outerMAC, link: 2))
        }
        view.sockets = [.tcp: [ListeningSocket(.tcp, ip("::"), port(8080), isDualStack: true)]]
        cluster.views[.pod(pod.key, node: pod.node)] = view
        cluster.edit(.node(pod.node)) { node in
            node.allLinks.append(link(outer, "veth\(pod.key.name)", .veth, outerMAC.description, peer: 2))
            node.settings["net/ipv4/conf/veth\(pod.key.name)/forwarding"] = "1"
            for address in pod.addresses {
                node.routes.append(Route(to: address.hostPrefix, link: outer, origin: .fairlead))
                node.neighbors.append(Neighbor(address, mac: innerMAC, link: outer))
            }
        }
    }
}

/// The shop with one place edited.
func broken(
    _ place: Place, policies: [NetworkPolicy] = [], _ body: (inout LiteralView) -> Void
) -> LiteralCluster {
    var cluster = Shop.cluster(policies: policies)
    cluster.edit(place, body)
    return cluster
}

/// Another program's table with one rule.
func firewall(_ rule: Rule, _ point: Hook.Point = .forward) -> Ruleset {
    Ruleset(
        TableName(.inet, "firewall"),
        chains: ["fw": Chain(hook: Hook(.filter, point, priority: 0), [rule])])
}
