import KubernetesObjects
import ManifestFolder
import NetworkAddresses
import Testing

struct EndpointDerivationTests {
    private static let http = ContainerPort(name: "http", number: Port(8080)!)

    private func pod(
        _ name: String, _ addresses: [String], node: String? = "node-a", ports: [ContainerPort] = [http],
        phase: Pod.Phase = .running, ready: Bool? = true, hostNetwork: Bool = false, terminating: Bool = false
    ) -> KubernetesObject {
        .pod(
            Pod(
                metadata: ObjectMetadata(
                    name: name, namespace: "shop", labels: ["app": "web", "pod": name],
                    deletionTimestamp: terminating ? Timestamp(secondsSince1970: 0) : nil),
                spec: PodSpec(
                    nodeName: node, isHostNetwork: hostNetwork, containers: [Container(name: "c", ports: ports)]),
                phase: phase, addresses: addresses.map { IPAddress($0)! }, readyCondition: ready))
    }

    private func service(
        _ name: String = "web", addresses: [String] = ["10.96.0.1", "fd00:10:96::1"],
        selector: [String: String] = ["app": "web"],
        target: TargetPort = .name("http"), publishesNotReady: Bool = false, change: (inout Service) -> Void = { _ in }
    ) -> KubernetesObject {
        var service = Service(
            metadata: ObjectMetadata(name: name, namespace: "shop"), clusterIPs: addresses.map { IPAddress($0)! },
            ports: [ServicePort(name: "web", number: Port(80)!, target: target)], selector: selector,
            publishesNotReadyAddresses: publishesNotReady)
        change(&service)
        return .service(service)
    }

    private let nodeA = KubernetesObject.node(
        Node(
            metadata: ObjectMetadata(
                name: "node-a", namespace: "", labels: ["topology.kubernetes.io/zone": "z1"]),
            internalIPs: [IPAddress("192.168.0.1")!, IPAddress("fd00:192::1")!]))

    /// The slices that are there after these objects, by name.
    private func slices(_ objects: [KubernetesObject]) -> [String: EndpointSlice] {
        var derivation = EndpointDerivation()
        var snapshot = ClusterSnapshot()
        for event in derivation.apply(objects.map(ObjectEvent.set)) { snapshot.apply(event) }
        return [String: EndpointSlice](
            uniqueKeysWithValues: snapshot.endpointSlices.map { ($0.key.name, $0.value) })
    }

    @Test func `a service has one slice in each of its families`() {
        let slices = slices([
            nodeA, service(), pod("p1", ["10.244.0.1", "fd00:10:244::1"]), pod("p2", ["10.244.0.2"], node: "elsewhere"),
        ])
        #expect(slices.keys.sorted() == ["web-ipv4", "web-ipv6"])
        #expect(
            slices["web-ipv4"]
                == EndpointSlice(
                    metadata: ObjectMetadata(
                        name: "web-ipv4", namespace: "shop",
                        labels: [
                            "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "fairlead",
                        ]),
                    family: .ipv4,
                    endpoints: [
                        Endpoint(
                            address: IPAddress("10.244.0.1")!, nodeName: "node-a", zone: "z1",
                            pod: NamespacedName(namespace: "shop", name: "p1")),
                        Endpoint(
                            address: IPAddress("10.244.0.2")!, nodeName: "elsewhere",
                            pod: NamespacedName(namespace: "shop", name: "p2")),
                    ],
                    ports: [EndpointPort(name: "web", number: Port(8080)!)]))
        #expect(slices["web-ipv6"]?.endpoints.map(\.address) == [IPAddress("fd00:10:244::1")!])
        #expect(slices["web-ipv6"]?.family == .ipv6)
    }

    @Test(
        arguments: [
            (Pod.Phase.running, true, false, false, (true, true, false)),
            (.running, false, false, false, (false, false, false)),
            (.running, nil, false, false, (true, true, false)),
            (.pending, nil, false, false, (false, false, false)),
            (.running, true, true, false, (false, true, true)),
            (.running, false, true, false, (false, false, true)),
            (.running, false, false, true, (true, false, false)),
            (.running, true, true, true, (true, true, true)),
        ] as [(Pod.Phase, Bool?, Bool, Bool, (Bool, Bool, Bool))])
    func `conditions follow the pod's`(
        phase: Pod.Phase, ready: Bool?, terminating: Bool, publishes: Bool, expected: (Bool, Bool, Bool)
    ) throws {
        let slices = slices([
            service(publishesNotReady: publishes),
            pod("p", ["10.244.0.1"], phase: phase, ready: ready, terminating: terminating),
        ])
        let endpoint = try #require(slices["web-ipv4"]?.endpoints.first)
        #expect((endpoint.isReady, endpoint.isServing, endpoint.isTerminating) == expected)
    }

    @Test func `a port's name is looked up in each pod`() {
        let slices = slices([
            service(),
            pod("p1", ["10.244.0.1"]),
            pod("p2", ["10.244.0.2"], ports: [ContainerPort(name: "http", number: Port(80)!)]),
            pod("p3", ["10.244.0.3"]), pod("p4", ["10.244.0.4"], ports: []),
            pod("p5", ["10.244.0.5"], ports: [ContainerPort(name: "http", number: Port(80)!, protocol: .udp)]),
        ])
        #expect(slices.keys.sorted() == ["web-ipv4", "web-ipv4-2"])
        #expect(slices["web-ipv4"]?.ports == [EndpointPort(name: "web", number: Port(80)!)])
        #expect(slices["web-ipv4"]?.endpoints.map(\.pod?.name) == ["p2"])
        #expect(slices["web-ipv4-2"]?.ports == [EndpointPort(name: "web", number: Port(8080)!)])
        #expect(slices["web-ipv4-2"]?.endpoints.map(\.pod?.name) == ["p1", "p3"])
    }

    @Test func `a number needs no container port`() {
        let slices = slices([service(target: .number(Port(9)!)), pod("p", ["10.244.0.1"], ports: [])])
        #expect(slices["web-ipv4"]?.ports == [EndpointPort(name: "web", number: Port(9)!)])
    }

    @Test func `pods in their node's network have its addresses`() {
        let slices = slices([
            nodeA, service(), pod("p1", [], hostNetwork: true), pod("p2", ["192.168.0.9"], hostNetwork: true),
        ])
        #expect(slices["web-ipv4"]?.endpoints.map(\.address.description) == ["192.168.0.1", "192.168.0.9"])
        #expect(slices["web-ipv6"]?.endpoints.map(\.address.description) == ["fd00:192::1"])
    }

    @Test func `pods that have ended or have no address are left out`() {
        let slices = slices([
            service(), pod("p1", ["10.244.0.1"], phase: .succeeded), pod("p2", ["10.244.0.2"], phase: .failed),
            pod("p3", []),
        ])
        #expect(slices.isEmpty)
    }

    @Test func `services that need no slices of ours get none`() {
        let pod = pod("p", ["10.244.0.1"])
        #expect(
            slices([
                service {
                    $0.isHeadless = true; $0.clusterIPs = []
                }, pod,
            ]).isEmpty)
        #expect(slices([service { $0.type = .externalName }, pod]).isEmpty)
        #expect(slices([service(selector: [:]), pod]).isEmpty)
        #expect(slices([service(selector: ["app": "db"]), pod]).isEmpty)
        #expect(slices([service(selector: ["app": "web", "pod": "other"]), pod]).isEmpty)
        #expect(slices([service { $0.metadata.namespace = "elsewhere" }, pod]).isEmpty)
        #expect(slices([service(addresses: ["10.96.0.1"]), pod]).keys.sorted() == ["web-ipv4"])
    }

    @Test func `a name someone uses is left to them`() {
        let written = KubernetesObject.endpointSlice(
            EndpointSlice(metadata: ObjectMetadata(name: "web-ipv4", namespace: "shop"), family: .ipv4))
        var derivation = EndpointDerivation()
        _ = derivation.apply([.set(service(addresses: ["10.96.0.1"])), .set(pod("p", ["10.244.0.1"]))])
        let moved = derivation.apply([.set(written)])
        guard case .set(.endpointSlice(let slice))? = moved.first, moved.count == 1 else {
            Issue.record("\(moved)")
            return
        }
        #expect(slice.metadata.name == "web-ipv4-2")
        let back = derivation.apply([.removed(written.reference)])
        #expect(back.count == 2)
        #expect(back.first == .removed(ObjectReference(kind: .endpointSlice, namespace: "shop", name: "web-ipv4-2")))
    }

    @Test func `an event costs only the services it touches`() {
        var derivation = EndpointDerivation()
        _ = derivation.apply([
            .set(nodeA), .set(service("all")), .set(service("one", selector: ["pod": "p1"])),
            .set(pod("p1", ["10.244.0.1"])),
            .set(pod("p2", ["10.244.0.2"])),
        ])
        func touched(_ event: ObjectEvent) -> [String] {
            derivation.apply([event]).map { event in
                switch event {
                case .set(let object): "set \(object.metadata.name)"
                case .removed(let reference): "removed \(reference.name)"
                case .synced: "synced"
                }
            }
        }
        #expect(touched(.set(pod("p2", ["10.244.0.3"]))) == ["set all-ipv4"])
        #expect(touched(.set(pod("p2", ["10.244.0.3"]))) == [])
        #expect(touched(.set(pod("p1", ["10.244.0.4"]))) == ["set all-ipv4", "set one-ipv4"])
        #expect(touched(.removed(pod("p1", []).reference)) == ["set all-ipv4", "removed one-ipv4"])
        #expect(touched(.removed(service("all").reference)) == ["removed all-ipv4"])
        #expect(touched(.synced) == [])
    }

    @Test(arguments: 0..<10)
    func `step by step gives what a fresh start gives`(seed: UInt64) {
        var generator = SplitMix(seed: seed)
        var derivation = EndpointDerivation()
        var objects: [ObjectReference: KubernetesObject] = [:]
        var slices: [NamespacedName: EndpointSlice] = [:]
        for _ in 0..<120 {
            var events: [ObjectEvent] = []
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let object = randomObject(&generator)
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    objects[object.reference] = nil
                    events.append(.removed(object.reference))
                } else {
                    objects[object.reference] = object
                    events.append(.set(object))
                }
            }
            for event in derivation.apply(events) {
                switch event {
                case .set(.endpointSlice(let slice)):
                    #expect(slices[slice.key] != slice)
                    slices[slice.key] = slice
                case .removed(let reference): #expect(slices.removeValue(forKey: reference.key) != nil)
                default: Issue.record("\(event)")
                }
            }
            var fresh = EndpointDerivation()
            var expected: [NamespacedName: EndpointSlice] = [:]
            for case .set(.endpointSlice(let slice)) in fresh.apply(objects.values.map(ObjectEvent.set)) {
                expected[slice.key] = slice
            }
            // Slices of ours that gave way to written ones of the same name are no longer ours to compare.
            for case .endpointSlice(let slice) in objects.values where expected[slice.key] == nil {
                slices[slice.key] = nil
            }
            #expect(slices == expected)
        }
    }

    private func randomObject(_ generator: inout SplitMix) -> KubernetesObject {
        let number = Int.random(in: 1...4, using: &generator)
        switch Int.random(in: 0..<8, using: &generator) {
        case 0:
            var node = Node(metadata: ObjectMetadata(name: number % 2 == 0 ? "node-a" : "node-b", namespace: ""))
            node.internalIPs = [IPAddress("192.168.0.\(Int.random(in: 1...2, using: &generator))")!]
            node.metadata.labels["topology.kubernetes.io/zone"] = ["z1", "z2", nil].randomElement(using: &generator)!
            return .node(node)
        case 1:
            return .endpointSlice(
                EndpointSlice(
                    metadata: ObjectMetadata(
                        name: ["s1-ipv4", "s1-ipv4-2", "s2-ipv6", "other"].randomElement(using: &generator)!,
                        namespace: "shop"),
                    family: .ipv4))
        case 2, 3:
            return service(
                "s\(number)",
                addresses: [["10.96.0.1"], ["10.96.0.1", "fd00::1"], []].randomElement(using: &generator)!,
                selector: [["app": "web"], ["app": "web", "pod": "p1"], ["pod": "p\(number)"], [:]].randomElement(
                    using: &generator)!,
                target: [.name("http"), .number(Port(80)!)].randomElement(using: &generator)!,
                publishesNotReady: Bool.random(using: &generator))
        default:
            return pod(
                "p\(number)",
                [["10.244.0.\(number)"], ["10.244.0.\(number)", "fd00::\(number)"], []].randomElement(
                    using: &generator)!,
                node: ["node-a", "node-b", nil].randomElement(using: &generator)!,
                ports: [
                    [Self.http], [ContainerPort(name: "http", number: Port(81)!)], [],
                ].randomElement(using: &generator)!,
                phase: [.running, .running, .succeeded].randomElement(using: &generator)!,
                ready: [true, false, nil].randomElement(using: &generator)!,
                hostNetwork: Int.random(in: 0..<4, using: &generator) == 0,
                terminating: Int.random(in: 0..<4, using: &generator) == 0)
        }
    }
}
