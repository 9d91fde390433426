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

/// `slice` by a name that no suite has a function of.
private func makeSlice(of service: String, _ endpoints: [Endpoint], ports: [EndpointPort]) -> EndpointSlice {
    slice(of: service, endpoints, ports: ports)
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
                "172.30.0.11 . tcp . 30080 comment \"svc shop/web:http\" : goto pick-1",
                "198.51.100.7 . tcp . 80 comment \"svc shop/web:http\" : goto pick-1",
            ])
        #expect(
            plan["external4"] == [
                "172.30.0.11 . tcp . 30080 comment \"svc shop/web:http\"",
                "198.51.100.7 . tcp . 80 comment \"svc shop/web:http\"",
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
            switch Int.random(in: 0..<11, using: &random) {
            case 0:
                services["s\(number)"] = nil
                compiler.apply(.removed(ObjectReference(.service, NamespacedName(namespace: "shop", name: "s\(number)"))))
            case 1...3:
                let new = randomService(number, using: &random)
                services["s\(number)"] = new
                compiler.apply(.set(.service(new)))
            case 4:
                let key = NamespacedName(namespace: "shop", name: "x-\(number)")
                slices[key] = nil
                compiler.apply(.removed(ObjectReference(.endpointSlice, key)))
            case 5:
                current.addresses = [IPAddress("172.30.0.\(number + 1)")!]
                compiler.setNode(current)
            case 6:
                current.zone = ["a", "b", nil][number % 3]
                compiler.setNode(current)
            default:
                var new = slice(
                    of: "s\(Int.random(in: 0..<6, using: &random))",
                    (0..<Int.random(in: 0..<5, using: &random)).map { index in
                        var new = endpoint("10.244.1.\(index * Int.random(in: 1...2, using: &random) + number)", on: "n\(index % 2 + 1)")
                        if number > 2 { new.hintedZones = [["a"], ["b"], ["a", "b"]].randomElement(using: &random)! }
                        return new
                    })
                new.metadata.name = "x-\(number)"
                slices[new.key] = new
                compiler.apply(.set(.endpointSlice(new)))
            }
            if Int.random(in: 0..<3, using: &random) == 0 {
                compiler.compile(into: &assembly)
                for change in assembly.takeChanges() { kernel.apply(change) }
                #expect(kernel == assembly.ruleset)
                // Slots are history, and the table knows it; everything else follows from the objects alone.
                let whole = serviceTable(services: services.values, slices: slices.values, on: current, previous: assembly.ruleset)
                #expect(withoutNodeChains(assembly.ruleset) == withoutNodeChains(whole))
                let fresh = serviceTable(services: services.values, slices: slices.values, on: current)
                #expect(targets(assembly.ruleset) == targets(fresh))
                for (name, set) in fresh.sets where !name.hasPrefix("endpoints") { #expect(assembly.ruleset.sets[name] == set) }
            }
        }
    }

    private func randomService(_ number: Int, using random: inout SeededGenerator) -> Service {
        service(
            "s\(number)", ip: "10.96.0.\(number + 1)", type: .loadBalancer,
            ports: [
                ServicePort(
                    name: "http", number: Port(80)!,
                    nodePort: Bool.random(using: &random) ? Port(30000 + Int.random(in: 0..<4, using: &random))! : nil)
            ]
        ) {
            if Bool.random(using: &random) { $0.externalTrafficPolicy = .local }
            if Bool.random(using: &random) { $0.externalIPs = [IPAddress("203.0.113.\(Int.random(in: 0..<3, using: &random))")!] }
            if Int.random(in: 0..<3, using: &random) == 0 { $0.ingress = [LoadBalancerIngress(address: IPAddress("203.0.113.1")!)] }
            if Int.random(in: 0..<3, using: &random) == 0 { $0.sessionAffinity = .clientIP(timeoutSeconds: 60) }
            if Int.random(in: 0..<3, using: &random) == 0 { $0.sourceRanges = [IPPrefix("172.30.0.0/30")!] }
            if Bool.random(using: &random) { $0.metadata.creationTimestamp = Timestamp(secondsSince1970: Int64(number % 3)) }
        }
    }

    /// The chains that the dataplane makes of the node, and the compiler does not.
    private func withoutNodeChains(_ table: Ruleset) -> Ruleset {
        var table = table
        for name in ServiceTable.nodeChains(on: node).keys { table.chains[name] = nil }
        return table
    }

    /// The targets of each frontend, whatever their slots.
    private func targets(_ table: Ruleset) -> [ElementKey: [Element.Value: Int]] {
        var found: [ElementKey: [Element.Value: Int]] = [:]
        for element in table.sets["endpoints4"]!.elements.values {
            found[ElementKey(bytes: element.key.bytes.dropLast(4)), default: [:]][element.value!, default: 0] += 1
        }
        return found
    }

    @Test func `what makes no difference to the rules compiles nothing`() {
        var compiler = ServiceCompiler(node: node)
        var assembly = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
        func compiles(_ object: KubernetesObject) -> Bool {
            compiler.apply(.set(object))
            defer { compiler.compile(into: &assembly) }
            var copy = compiler
            return copy.nextContribution(in: assembly) != nil
        }
        #expect(compiles(.service(service())) && compiles(.endpointSlice(slice([endpoint("10.244.2.3")]))))
        #expect(!compiles(.service(service { ($0.metadata.labels, $0.selector) = (["team": "a"], ["app": "b"]) })))
        var annotated = slice([endpoint("10.244.2.3")])
        annotated.metadata.labels["endpointslice.kubernetes.io/managed-by"] = "somebody"
        annotated.endpoints[0].zone = "b"
        #expect(!compiles(.endpointSlice(annotated)))
        annotated.endpoints[0].isReady = false
        #expect(compiles(.endpointSlice(annotated)))
        #expect(compiles(.service(service { $0.metadata.labels[Service.proxyNameLabel] = "other" })))
    }

    /// What an event costs in elements, and that a fresh start over the same table costs none.
    @Test func `an endpoint that comes or goes costs its own element and no other`() {
        var compiler = ServiceCompiler(node: node)
        var assembly = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
        func cost(_ numbers: [Int]) -> [String: Int] {
            compiler.apply(.set(.endpointSlice(slice(numbers.map { endpoint("10.244.2.\($0)") }))))
            compiler.compile(into: &assembly)
            var cost: [String: Int] = [:]
            for change in assembly.takeChanges() {
                switch change {
                case .removeElements(let elements, let set): cost["- \(set)"] = elements.count
                case .addElements(let elements, let set): cost["+ \(set)"] = elements.count
                default: break
                }
            }
            return cost
        }
        compiler.apply(.set(.service(service())))
        _ = cost(Array(1...100))
        let verdict = ["- frontends4": 1, "+ frontends4": 1]
        #expect(cost([1] + (3...100)) == ["- endpoints4": 2, "+ endpoints4": 1].merging(verdict) { $1 }, "the last moves into the hole")
        #expect(cost([1] + (3...100) + [200]) == ["+ endpoints4": 1].merging(verdict) { $1 })
        #expect(cost([1] + (4...100) + [200, 201]) == ["- endpoints4": 1, "+ endpoints4": 1], "one for another")
        #expect(cost([1] + (4...100) + [200, 201]) == [:])
        var restarted = ServiceCompiler(node: node)
        var again = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
        restarted.apply(.set(.endpointSlice(slice(([1] + (4...100) + [200, 201]).map { endpoint("10.244.2.\($0)") }))))
        restarted.apply(.set(.service(service())))
        restarted.compile(into: &again, previous: assembly.ruleset)
        #expect(again.ruleset == assembly.ruleset && assembly.ruleset.changes(to: again.ruleset).isEmpty)
    }
}

@Suite struct DatagramFlowTests {
    private let dns = service(
        "dns", ports: [ServicePort(protocol: .udp, number: Port(53)!), ServicePort(name: "tcp", number: Port(53)!)])
    private let frontend = SocketAddress(IPAddress("10.96.0.10")!, Port(53)!)

    private func slice(_ endpoints: [Endpoint]) -> EndpointSlice {
        makeSlice(of: "dns", endpoints, ports: [
            EndpointPort(protocol: .udp, number: Port(5353)!), EndpointPort(name: "tcp", number: Port(5353)!),
        ])
    }

    private func target(_ address: String) -> SocketAddress { SocketAddress(IPAddress(address)!, Port(5353)!) }

    @Test func `UDP frontends that come or go are named, and no others`() {
        var compiler = ServiceCompiler(node: node)
        var assembly = Assembly<NamespacedName>(frame: ServiceTable.frame(on: node))
        _ = assembly.takeChanges()
        func touched(_ event: ObjectEvent) -> Set<SocketAddress> {
            compiler.apply(event)
            compiler.compile(into: &assembly)
            return datagramFrontends(addedOrRemovedBy: assembly.takeChanges())
        }
        #expect(touched(.set(.service(dns))) == [frontend], "what began before the service goes astray")
        #expect(touched(.set(.endpointSlice(slice([endpoint("10.244.2.3")])))) == [], "nobody can be lost to a new endpoint")
        #expect(touched(.set(.endpointSlice(slice([endpoint("10.244.2.4"), endpoint("10.244.2.5")])))) == [])
        #expect(assembly.ownerOfDatagramFrontend(frontend) == dns.key)
        #expect(touched(.removed(ObjectReference(.service, dns.key))) == [frontend])
        #expect(assembly.ownerOfDatagramFrontend(frontend) == nil)
    }

    @Test func `a service is bereft when an endpoint stops serving, and not when one only stops taking new clients`() {
        var compiler = ServiceCompiler(node: node)
        compiler.apply(.set(.service(dns)))
        func bereft(_ endpoints: [Endpoint]) -> Bool {
            compiler.apply(.set(.endpointSlice(slice(endpoints))))
            return compiler.takeBereft() == [dns.key]
        }
        let (first, going) = (endpoint("10.244.2.3"), endpoint("10.244.2.4", ready: false, terminating: true))
        #expect(!bereft([first, endpoint("10.244.2.4")]))
        #expect(!bereft([first, going]))
        #expect(compiler.datagramTargets(of: frontend, of: dns.key) == [target("10.244.2.3"), target("10.244.2.4")])
        #expect(bereft([first]))
        #expect(compiler.datagramTargets(of: frontend, of: dns.key) == [target("10.244.2.3")])
        #expect(bereft([endpoint("10.244.2.3", ready: false, serving: false)]))
        #expect(compiler.datagramTargets(of: frontend, of: dns.key) == [] && compiler.datagramFrontends(of: dns.key) == [frontend])
        #expect(!bereft([]))
        _ = bereft([first])
        compiler.apply(.removed(ObjectReference(.endpointSlice, slice([]).key)))
        #expect(compiler.takeBereft() == [dns.key])
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
