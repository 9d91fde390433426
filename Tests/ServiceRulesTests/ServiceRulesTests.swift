import KubernetesObjects
import NetworkAddresses
import Nftables
import ServiceRules
import Testing

private let node = NodeContext(
    name: "n1", addresses: [IPAddress("172.30.0.11")!], podCIDRs: [IPPrefix("10.244.1.0/24")!],
    serviceCIDRs: [IPPrefix("10.96.0.0/16")!])

private func service(
    _ name: String = "web", ip: String = "10.96.0.10", type: Service.Kind = .clusterIP,
    ports: [ServicePort] = [ServicePort(name: "http", number: Port(80)!)],
    _ adjust: (inout Service) -> Void = { _ in }
) -> Service {
    var service = Service(
        metadata: ObjectMetadata(name: name, namespace: "shop"), type: type, clusterIPs: [IPAddress(ip)!], ports: ports)
    adjust(&service)
    return service
}

private func slice(
    of service: String = "web", _ endpoints: [Endpoint], ports: [EndpointPort] = [EndpointPort(name: "http", number: Port(8080)!)],
    family: AddressFamily = .ipv4, number: Int = 1
) -> EndpointSlice {
    EndpointSlice(
        metadata: ObjectMetadata(
            name: "\(service)-\(number)", namespace: "shop", labels: [EndpointSlice.serviceNameLabel: service]),
        family: family, endpoints: endpoints, ports: ports)
}

private func endpoint(_ address: String, on node: String = "n2", ready: Bool = true, serving: Bool = true, terminating: Bool = false) -> Endpoint {
    Endpoint(
        address: IPAddress(address)!, isReady: ready, isServing: serving, isTerminating: terminating, nodeName: node,
        pod: NamespacedName(namespace: "shop", name: "pod-\(address.split(separator: ".").last!)"))
}

/// What a plan puts into each set, as nft would write it.
private func elements(_ plan: Contribution) -> [String: [String]] {
    let frame = ServiceTable.frame(on: node)
    return Dictionary(grouping: plan.members, by: \.set).mapValues { members in
        members.map { frame.sets[$0.set]!.definition.text(of: $0.element) }
    }
}

@Suite struct ServiceRulesTests {
    @Test func `two endpoints share one chain with every other service of two`() {
        let plan = rules(for: service(), slices: [slice([endpoint("10.244.2.3"), endpoint("10.244.1.2", on: "n1")])], on: node)
        #expect(
            elements(plan) == [
                "cluster-ips4": ["10.96.0.10 comment \"svc shop/web\""],
                "frontends4": ["10.96.0.10 . tcp . 80 comment \"svc shop/web:http\" : goto pick-2"],
                "endpoints4": [
                    "10.96.0.10 . tcp . 80 . 0 comment \"pod shop/pod-2\" : 10.244.1.2 . 8080",
                    "10.96.0.10 . tcp . 80 . 1 comment \"pod shop/pod-3\" : 10.244.2.3 . 8080",
                ],
                "hairpin4": ["10.244.1.2 . 10.244.1.2"],
            ])
        #expect(plan.chains.keys.sorted() == ["pick-2"])
    }

    @Test func `the order of slices and endpoints makes no difference, and a repeated endpoint counts once`() {
        let (a, b) = (endpoint("10.244.2.3"), endpoint("10.244.2.4"))
        let one = rules(for: service(), slices: [slice([a, b])], on: node)
        let other = rules(for: service(), slices: [slice([b]), slice([a, b], number: 2)], on: node)
        #expect(one == other)
    }

    @Test func `a node port and an external address are frontends of the same shape, masqueraded`() {
        let ports = [ServicePort(name: "http", number: Port(80)!, nodePort: Port(30080)!)]
        let web = service(type: .nodePort, ports: ports) { $0.externalIPs = [IPAddress("198.51.100.7")!] }
        let plan = elements(rules(for: web, slices: [slice([endpoint("10.244.2.3")])], on: node))
        #expect(
            plan["frontends4"] == [
                "10.96.0.10 . tcp . 80 comment \"svc shop/web:http\" : goto pick-1",
                "198.51.100.7 . tcp . 80 comment \"svc shop/web:http\" : goto pick-1",
                "172.30.0.11 . tcp . 30080 comment \"svc shop/web:http\" : goto pick-1",
            ])
        #expect(
            plan["external4"] == [
                "198.51.100.7 . tcp . 80 comment \"svc shop/web:http\"",
                "172.30.0.11 . tcp . 30080 comment \"svc shop/web:http\"",
            ])
        #expect(plan["endpoints4"]?.count == 3)
    }

    @Test(arguments: [
        ([], "goto refuse", 0),
        ([endpoint("10.244.2.3", ready: false, serving: false)], "goto refuse", 0),
        ([endpoint("10.244.2.3", ready: false, terminating: true)], "goto pick-1", 1),
        ([endpoint("10.244.2.3", ready: false, terminating: true), endpoint("10.244.2.4")], "goto pick-1", 1),
        ([endpoint("10.244.2.3"), endpoint("10.244.2.4"), endpoint("10.244.2.5")], "goto pick-3", 3),
    ]) func `ready endpoints are chosen, else those that still serve, else the client is refused`(
        endpoints: [Endpoint], verdict: String, count: Int
    ) {
        let plan = elements(rules(for: service(), slices: [slice(endpoints)], on: node))
        #expect(plan["frontends4"] == ["10.96.0.10 . tcp . 80 comment \"svc shop/web:http\" : \(verdict)"])
        #expect(plan["endpoints4"]?.count ?? 0 == count)
    }

    @Test func `a Local policy uses this node's endpoints and drops where only others have some`() {
        let ports = [ServicePort(name: "http", number: Port(80)!, nodePort: Port(30080)!)]
        let web = service(type: .nodePort, ports: ports) { $0.externalTrafficPolicy = .local }
        let here = elements(rules(for: web, slices: [slice([endpoint("10.244.1.2", on: "n1"), endpoint("10.244.2.3")])], on: node))
        #expect(here["frontends4"]?.map { $0.suffix(11) } == ["goto pick-2", "goto pick-1"] && here["external4"] == nil)
        #expect(here["kept4"]?.count == 1 && here["shortcuts4"] == ["172.30.0.11 . tcp . 30080 comment \"svc shop/web:http\" : goto pick-all-2"])
        let elsewhere = elements(rules(for: web, slices: [slice([endpoint("10.244.2.3")])], on: node))
        #expect(elsewhere["frontends4"]?.map { $0.suffix(6) } == ["pick-1", ": drop"])
    }

    @Test func `ports are told apart by name and protocol, families by the slice`() {
        let dns = service(
            "dns",
            ports: [
                ServicePort(name: "dns", protocol: .udp, number: Port(53)!), ServicePort(name: "dns-tcp", number: Port(53)!),
            ]) { $0.clusterIPs.append(IPAddress("fd00:10:96::a")!) }
        let slices = [
            slice(of: "dns", [endpoint("10.244.2.3")], ports: [
                EndpointPort(name: "dns", protocol: .udp, number: Port(5353)!),
                EndpointPort(name: "dns-tcp", protocol: .tcp, number: Port(5354)!),
            ]),
            slice(of: "dns", [endpoint("fd00:10:244:2::3")], ports: [EndpointPort(name: "dns", protocol: .udp, number: Port(5353)!)], family: .ipv6, number: 2),
        ]
        let plan = elements(rules(for: dns, slices: slices, on: node))
        #expect(
            plan["endpoints4"] == [
                "10.96.0.10 . udp . 53 . 0 comment \"pod shop/pod-3\" : 10.244.2.3 . 5353",
                "10.96.0.10 . tcp . 53 . 0 comment \"pod shop/pod-3\" : 10.244.2.3 . 5354",
            ])
        #expect(
            plan["frontends6"] == [
                "fd00:10:96::a . udp . 53 comment \"svc shop/dns:dns\" : goto pick-1",
                "fd00:10:96::a . tcp . 53 comment \"svc shop/dns:dns-tcp\" : goto refuse",
            ])
    }

    @Test func `headless, external-name and foreign services are none of ours`() {
        for other in [
            service { $0.isHeadless = true }, service { $0.type = .externalName }, service { $0.clusterIPs = [] },
            service { $0.metadata.labels["service.kubernetes.io/service-proxy-name"] = "other" },
        ] { #expect(rules(for: other, slices: [slice([endpoint("10.244.2.3")])], on: node).isEmpty) }
    }

    @Test func `the frame in nft's words`() {
        let text = ServiceTable.frame(on: node).text
        #expect(
            text.hasSuffix(
                """
                    chain refuse {
                        comment "no endpoint, or no such port"
                        reject
                    }

                    chain prerouting {
                        type nat hook prerouting priority -100; policy accept;
                        ip daddr . meta l4proto . th dport vmap @restricted4
                        ip6 daddr . meta l4proto . th dport vmap @restricted6
                        ip saddr 10.244.1.0/24 ip daddr . meta l4proto . th dport vmap @shortcuts4 comment "a pod of this node needs no node in between"
                        ip daddr . meta l4proto . th dport vmap @frontends4
                        ip6 daddr . meta l4proto . th dport vmap @frontends6
                        ip daddr @cluster-ips4 goto refuse comment "a cluster IP, but none of its ports"
                        ip6 daddr @cluster-ips6 goto refuse comment "a cluster IP, but none of its ports"
                        ip daddr 10.96.0.0/16 drop comment "no service has this address"
                    }

                    chain output {
                        type nat hook output priority -100; policy accept;
                        ip daddr . meta l4proto . th dport vmap @restricted4
                        ip6 daddr . meta l4proto . th dport vmap @restricted6
                        ip daddr . meta l4proto . th dport vmap @shortcuts4
                        ip6 daddr . meta l4proto . th dport vmap @shortcuts6
                        ip daddr . meta l4proto . th dport vmap @frontends4
                        ip6 daddr . meta l4proto . th dport vmap @frontends6
                        ip daddr @cluster-ips4 goto refuse comment "a cluster IP, but none of its ports"
                        ip6 daddr @cluster-ips6 goto refuse comment "a cluster IP, but none of its ports"
                        ip daddr 10.96.0.0/16 drop comment "no service has this address"
                    }

                    chain postrouting {
                        type nat hook postrouting priority 100; policy accept;
                        ct status dnat ip saddr . ip daddr @hairpin4 masquerade fully-random comment "a pod that reached itself through a service"
                        ct status dnat meta l4proto tcp ct original ip daddr . meta l4proto . ct original proto-dst @external4 masquerade fully-random comment "from outside: the answer must come back through this node"
                        ct status dnat meta l4proto udp ct original ip daddr . meta l4proto . ct original proto-dst @external4 masquerade fully-random comment "from outside: the answer must come back through this node"
                        ct status dnat meta l4proto sctp ct original ip daddr . meta l4proto . ct original proto-dst @external4 masquerade fully-random comment "from outside: the answer must come back through this node"
                        ct status dnat meta l4proto tcp ct original ip daddr . meta l4proto . ct original proto-dst @kept4 fib saddr type local masquerade fully-random comment "by this node itself to an endpoint anywhere"
                        ct status dnat meta l4proto udp ct original ip daddr . meta l4proto . ct original proto-dst @kept4 fib saddr type local masquerade fully-random comment "by this node itself to an endpoint anywhere"
                        ct status dnat meta l4proto sctp ct original ip daddr . meta l4proto . ct original proto-dst @kept4 fib saddr type local masquerade fully-random comment "by this node itself to an endpoint anywhere"
                        ct status dnat ct original ip daddr @cluster-ips4 ip saddr != 10.244.1.0/24 masquerade fully-random comment "to a cluster IP, not from a pod of this node"
                        ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade fully-random comment "a pod that reached itself through a service"
                        ct status dnat meta l4proto tcp ct original ip6 daddr . meta l4proto . ct original proto-dst @external6 masquerade fully-random comment "from outside: the answer must come back through this node"
                        ct status dnat meta l4proto udp ct original ip6 daddr . meta l4proto . ct original proto-dst @external6 masquerade fully-random comment "from outside: the answer must come back through this node"
                        ct status dnat meta l4proto sctp ct original ip6 daddr . meta l4proto . ct original proto-dst @external6 masquerade fully-random comment "from outside: the answer must come back through this node"
                        ct status dnat meta l4proto tcp ct original ip6 daddr . meta l4proto . ct original proto-dst @kept6 fib saddr type local masquerade fully-random comment "by this node itself to an endpoint anywhere"
                        ct status dnat meta l4proto udp ct original ip6 daddr . meta l4proto . ct original proto-dst @kept6 fib saddr type local masquerade fully-random comment "by this node itself to an endpoint anywhere"
                        ct status dnat meta l4proto sctp ct original ip6 daddr . meta l4proto . ct original proto-dst @kept6 fib saddr type local masquerade fully-random comment "by this node itself to an endpoint anywhere"
                    }
                }
                """), "\(text)")
    }

    @Test func `two services that claim one node port: the lesser name has it`() {
        let ports = [ServicePort(name: "http", number: Port(80)!, nodePort: Port(30080)!)]
        let (a, b) = (service("a", ip: "10.96.0.1", type: .nodePort, ports: ports), service("b", ip: "10.96.0.2", type: .nodePort, ports: ports))
        let slices = [slice(of: "a", [endpoint("10.244.2.3")]), slice(of: "b", [endpoint("10.244.2.4")])]
        #expect(serviceTable(services: [a, b], slices: slices, on: node) == serviceTable(services: [b, a], slices: slices, on: node))
    }
}

@Suite struct ServiceCompilerTests {
    /// Any sequence of events leaves the same table as a computation from the objects that are left.
    @Test(arguments: 1...20) func `increments add up to the whole`(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var compiler = ServiceCompiler(node: node)
        var assembly = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
        var kernel = Ruleset(ServiceTable.name)
        var services: [String: Service] = [:]
        var slices: [NamespacedName: EndpointSlice] = [:]
        var current = node
        for _ in 0..<200 {
            let number = Int.random(in: 0..<6, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                services["s\(number)"] = nil
                compiler.apply(.removed(ObjectReference(.service, NamespacedName(namespace: "shop", name: "s\(number)"))))
            case 1...3:
                let port = Port(30000 + number % 4)!
                let new = service(
                    "s\(number)", ip: "10.96.0.\(number + 1)", type: .nodePort,
                    ports: [ServicePort(name: "http", number: Port(80)!, nodePort: Bool.random(using: &random) ? port : nil)])
                services["s\(number)"] = new
                compiler.apply(.set(.service(new)))
            case 4:
                let key = NamespacedName(namespace: "shop", name: "x-\(number)")
                slices[key] = nil
                compiler.apply(.removed(ObjectReference(.endpointSlice, key)))
            case 5:
                current.addresses = [IPAddress("172.30.0.\(number + 1)")!]
                compiler.setNode(current)
            default:
                var new = slice(
                    of: "s\(Int.random(in: 0..<6, using: &random))",
                    (0..<Int.random(in: 0..<4, using: &random)).map { endpoint("10.244.1.\($0 + number)", on: "n\($0 % 2 + 1)") })
                new.metadata.name = "x-\(number)"
                slices[new.key] = new
                compiler.apply(.set(.endpointSlice(new)))
            }
            if Int.random(in: 0..<3, using: &random) == 0 {
                for (key, contribution) in compiler.takeContributions() { assembly.set(contribution, for: key) }
                for change in assembly.takeChanges() { kernel.apply(change) }
                let whole = serviceTable(services: services.values, slices: slices.values, on: current)
                #expect(assembly.ruleset.sets == whole.sets && assembly.ruleset.chains == whole.chains)
                #expect(kernel == assembly.ruleset)
            }
        }
    }
}

@Suite struct DatagramFlowTests {
    @Test func `only touched UDP frontends are named, with the endpoints they have now`() {
        let dns = service(
            "dns", ports: [ServicePort(protocol: .udp, number: Port(53)!), ServicePort(name: "tcp", number: Port(53)!)])
        func plan(_ addresses: String...) -> Contribution {
            let ports = [EndpointPort(protocol: .udp, number: Port(5353)!), EndpointPort(name: "tcp", number: Port(5353)!)]
            return rules(for: dns, slices: [slice(of: "dns", addresses.map { endpoint($0) }, ports: ports)], on: node)
        }
        var assembly = Assembly<String>(frame: ServiceTable.frame(on: node))
        _ = assembly.takeChanges()
        let frontend = SocketAddress(IPAddress("10.96.0.10")!, Port(53)!)
        func touched(_ contribution: Contribution?) -> [SocketAddress: Set<SocketAddress>] {
            assembly.set(contribution, for: "dns")
            return datagramFrontends(touchedBy: assembly.takeChanges(), in: assembly.ruleset)
        }
        func target(_ address: String) -> SocketAddress { SocketAddress(IPAddress(address)!, Port(5353)!) }
        #expect(touched(plan("10.244.2.3")) == [:], "nobody can have been sent to a new endpoint")
        #expect(touched(plan("10.244.2.4")) == [frontend: [target("10.244.2.4")]])
        #expect(touched(plan("10.244.2.4", "10.244.2.5")) == [frontend: [target("10.244.2.4"), target("10.244.2.5")]])
        #expect(touched(plan()) == [frontend: []])
        _ = touched(plan("10.244.2.4"))
        #expect(touched(nil) == [frontend: []])
    }
}

/// A generator whose numbers repeat with its seed (xorshift64*).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
}
