import KubernetesObjects
import ManifestFolder
import NetworkAddresses
import Testing

struct ManifestSetTests {
    private func pod(_ name: String, label: String = "a") -> String {
        "apiVersion: v1\nkind: Pod\nmetadata: {name: \(name), labels: {app: \(label)}}\n"
    }

    private func content(_ text: String) -> ManifestSet.FileState { .content(Array(text.utf8)) }

    private func names(_ events: [ObjectEvent]) -> [String] {
        events.map { event in
            switch event {
            case .set(let object): "set \(object.reference)"
            case .removed(let reference): "removed \(reference)"
            case .synced: "synced"
            }
        }
    }

    @Test func `changes of files become changes of objects`() {
        var set = ManifestSet()
        #expect(
            names(set.update(["a.yaml": content(pod("one") + "---\n" + pod("two")), "b.json": content("{}")]))
                == ["set Pod default/one", "set Pod default/two"])
        #expect(set.notes.map(\.description) == ["b.json: kind: is missing"])
        #expect(
            names(set.update(["a.yaml": content(pod("one") + "---\n" + pod("two", label: "b"))])) == [
                "set Pod default/two"
            ])
        #expect(names(set.update(["a.yaml": content(pod("two", label: "b"))])) == ["removed Pod default/one"])
        #expect(names(set.update(["a.yaml": content(pod("two", label: "b") + "# remark")])) == [])
        #expect(names(set.update(["c.yml": content(pod("two", label: "b")), "a.yaml": .gone])) == [])
        #expect(names(set.update(["c.yml": .gone, "b.json": .gone])) == ["removed Pod default/two"])
        #expect(set.notes.isEmpty && set.objects.isEmpty)
    }

    @Test(arguments: [
        ("a.yaml", true), ("a.yml", true), ("a.json", true), (".a.yaml", false), ("a.yaml~", false),
        ("a.yaml.swp", false),
        ("yaml", false), ("..data", false), ("a.txt", false),
    ])
    func `only manifests are read`(name: String, isRead: Bool) {
        #expect(ManifestSet.isManifest(name) == isRead)
        var set = ManifestSet()
        #expect(set.update([name: content(pod("one"))]).isEmpty == !isRead)
    }

    @Test func `of two files with one object the first by name counts`() {
        var set = ManifestSet()
        _ = set.update(["b.yaml": content(pod("one", label: "b"))])
        #expect(names(set.update(["c.yaml": content(pod("one", label: "c"))])) == [])
        #expect(
            set.notes.map(\.description) == ["c.yaml: Pod default/one: is in b.yaml too; what stands here is not used"])
        #expect(set.objects.first?.metadata.labels == ["app": "b"])

        #expect(names(set.update(["a.yaml": content(pod("one", label: "a"))])) == ["set Pod default/one"])
        #expect(set.objects.first?.metadata.labels == ["app": "a"])
        #expect(
            set.notes.map(\.description) == [
                "b.yaml: Pod default/one: is in a.yaml too; what stands here is not used",
                "c.yaml: Pod default/one: is in a.yaml too; what stands here is not used",
            ])

        #expect(names(set.update(["a.yaml": .gone, "b.yaml": .gone])) == ["set Pod default/one"])
        #expect(set.objects.first?.metadata.labels == ["app": "c"])
        #expect(set.notes.isEmpty)
    }

    @Test func `of one object twice in a file the first counts`() {
        var set = ManifestSet()
        _ = set.update(["a.yaml": content(pod("one", label: "a") + "---\n" + pod("one", label: "b"))])
        #expect(set.objects.map(\.metadata.labels) == [["app": "a"]])
        #expect(
            set.notes.map(\.description) == ["a.yaml: Pod default/one: is in this file twice; the second is not used"])
    }

    // MARK: Files that cannot be read

    @Test func `a file that does not parse leaves its objects as they were`() {
        var set = ManifestSet()
        #expect(names(set.update(["a.yaml": content("kind: [")])) == [])
        #expect(set.notes.map(\.description) == ["a.yaml: line 2: did not find expected node content"])

        _ = set.update(["a.yaml": content(pod("one"))])
        #expect(set.notes.isEmpty)
        #expect(names(set.update(["a.yaml": content(pod("two") + "---\nkind: [")])) == [])
        #expect(
            set.notes.map(\.description) == [
                "a.yaml: line 6: did not find expected node content; its objects stay as they were"
            ])
        #expect(names(set.update(["a.yaml": .unreadable("permission denied")])) == [])
        #expect(set.notes.map(\.description) == ["a.yaml: permission denied; its objects stay as they were"])
        #expect(
            names(set.update(["a.yaml": content(pod("two"))]))
                == ["set Pod default/two", "removed Pod default/one"].sorted())
        #expect(set.notes.isEmpty)
    }

    @Test func `an object that cannot be used stays as it was, and the rest goes on`() {
        var set = ManifestSet()
        let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: one, labels: {app: 1}}\n"
        let note = "a.yaml: Pod default/one: metadata.labels.app: is a number (1), not a string"
        #expect(names(set.update(["a.yaml": content(bad + "---\n" + pod("two"))])) == ["set Pod default/two"])
        #expect(set.notes.map(\.description) == [note])

        _ = set.update(["a.yaml": content(pod("one"))])
        #expect(names(set.update(["a.yaml": content(bad + "---\n" + pod("two"))])) == ["set Pod default/two"])
        #expect(set.notes.map(\.description) == [note + "; the object stays as it was"])
        #expect(Set(set.objects.map(\.metadata.name)) == ["one", "two"])

        #expect(names(set.update(["a.yaml": content(pod("two"))])) == ["removed Pod default/one"])
    }

    // MARK: What only one object may have

    private func service(_ name: String, address: String, nodePort: Int? = nil) -> String {
        """
        apiVersion: v1
        kind: Service
        metadata: {name: \(name), namespace: shop}
        spec: {clusterIPs: [\(address)], type: NodePort, ports: [{port: 80\(nodePort.map { ", nodePort: \($0)" } ?? "")}]}

        """
    }

    private func services(_ set: ManifestSet) -> [String: Service] {
        var services: [String: Service] = [:]
        for case .service(let service) in set.objects { services[service.metadata.name] = service }
        return services
    }

    @Test func `a cluster IP and a node port belong to the first service`() {
        var set = ManifestSet()
        _ = set.update(["b.yaml": content(service("b", address: "10.96.0.1, fd00::b", nodePort: 30080))])
        #expect(set.notes.isEmpty)
        let events = set.update([
            "c.yaml": content(service("c", address: "10.96.0.1, fd00::c", nodePort: 30080)),
            "a.yaml": content(service("a", address: "10.96.0.1, fd00::a", nodePort: 30080)),
        ])
        #expect(names(events) == ["set Service shop/a", "set Service shop/b", "set Service shop/c"])
        #expect(
            set.notes.map(\.description)
                == ["b", "c"].flatMap { name in
                    [
                        "\(name).yaml: Service shop/\(name): spec.clusterIPs: 10.96.0.1 belongs to Service shop/a; it is not used here",
                        "\(name).yaml: Service shop/\(name): spec.ports[0].nodePort: 30080/tcp belongs to Service shop/a; it is not used here",
                    ]
                })
        #expect(services(set)["a"]?.clusterIPs.count == 2)
        #expect(services(set)["a"]?.ports[0].nodePort == Port(30080))
        #expect(services(set)["b"]?.clusterIPs == [IPAddress("fd00::b")!])
        #expect(services(set)["b"]?.ports[0].nodePort == nil)

        #expect(names(set.update(["a.yaml": .gone])) == ["removed Service shop/a", "set Service shop/b"])
        #expect(services(set)["b"]?.clusterIPs.count == 2)
        #expect(services(set)["c"]?.clusterIPs == [IPAddress("fd00::c")!])
        #expect(set.notes.count == 2)
    }

    @Test func `a service nobody gave an address is named`() {
        var set = ManifestSet()
        _ = set.update([
            "a.yaml": content(service("a", address: "")), "b.yaml": content(service("b", address: "None")),
            "c.yaml": content(service("c", address: "10.96.0.1")),
        ])
        #expect(
            set.notes.map(\.description) == [
                "a.yaml: Service shop/a: spec.clusterIP: is missing; the service cannot be reached"
            ])
        #expect(set.notes.map(\.severity) == [.warning])
    }

    @Test func `a node port twice in one service is used once`() {
        var set = ManifestSet()
        _ = set.update([
            "a.yaml": content(
                """
                apiVersion: v1
                kind: Service
                metadata: {name: a, namespace: shop}
                spec:
                  type: NodePort
                  ports:
                  - {name: port-x, port: 80, nodePort: 30080}
                  - {name: port-y, port: 81, nodePort: 30080}
                  - {name: port-z, port: 81, nodePort: 30080, protocol: UDP}
                """)
        ])
        #expect(
            set.notes.map(\.description) == [
                "a.yaml: Service shop/a: spec.clusterIP: is missing; the service cannot be reached",
                "a.yaml: Service shop/a: spec.ports[1].nodePort: 30080/tcp belongs to Service shop/a; it is not used here",
            ])
        #expect(services(set)["a"]?.ports.map(\.nodePort) == [Port(30080), nil, Port(30080)])
    }

    private func node(_ name: String, _ cidrs: String) -> String {
        "apiVersion: v1\nkind: Node\nmetadata: {name: \(name)}\nspec: {podCIDRs: [\(cidrs)]}\n"
    }

    private func podCIDRs(_ set: ManifestSet) -> [String: [String]] {
        var cidrs: [String: [String]] = [:]
        for case .node(let node) in set.objects { cidrs[node.name] = node.podCIDRs.map(\.description) }
        return cidrs
    }

    @Test func `a pod network belongs to the first node`() {
        var set = ManifestSet()
        let file = node("z", "10.244.0.0/24, 'fd00::/64'") + "---\n" + node("a", "10.244.0.128/25, 'fd00:1::/64'")
        #expect(names(set.update(["nodes.yaml": content(file)])) == ["set Node a", "set Node z"])
        #expect(
            set.notes.map(\.description) == [
                "nodes.yaml: Node a: spec.podCIDRs: 10.244.0.128/25 overlaps 10.244.0.0/24 of Node z; it is not used"
            ])
        #expect(podCIDRs(set) == ["z": ["10.244.0.0/24", "fd00::/64"], "a": ["fd00:1::/64"]])

        // An earlier file takes the network from both.
        #expect(names(set.update(["a.yaml": content(node("b", "10.244.0.0/16"))])) == ["set Node b", "set Node z"])
        #expect(podCIDRs(set) == ["b": ["10.244.0.0/16"], "z": ["fd00::/64"], "a": ["fd00:1::/64"]])
        #expect(
            set.notes.map(\.description) == [
                "nodes.yaml: Node a: spec.podCIDRs: 10.244.0.128/25 overlaps 10.244.0.0/16 of Node b; it is not used",
                "nodes.yaml: Node z: spec.podCIDRs: 10.244.0.0/24 overlaps 10.244.0.0/16 of Node b; it is not used",
            ])
        _ = set.update(["a.yaml": .gone, "nodes.yaml": content(node("a", "10.244.0.128/25, 'fd00:1::/64'"))])
        #expect(podCIDRs(set) == ["a": ["10.244.0.128/25", "fd00:1::/64"]])
        #expect(set.notes.isEmpty)
    }

    @Test(arguments: 0..<10)
    func `what is in force depends on the files and not on their history`(seed: UInt64) {
        var generator = SplitMix(seed: seed)
        let names = ["a.yaml", "b.yaml", "c.json", "d.yml"]
        var set = ManifestSet()
        var state: [String: ManifestSet.FileState] = [:]
        var known: [ObjectReference: KubernetesObject] = [:]
        for _ in 0..<60 {
            var change: [String: ManifestSet.FileState] = [:]
            for name in names where Bool.random(using: &generator) {
                var documents: [String] = []
                for _ in 0..<Int.random(in: 0...4, using: &generator) {
                    let letter = ["p", "q", "r"].randomElement(using: &generator)!
                    let number = Int.random(in: 0...2, using: &generator)
                    switch Int.random(in: 0...3, using: &generator) {
                    case 0: documents.append(pod(letter, label: "x\(number)"))
                    case 1: documents.append(node(letter, "10.244.\(number).0/\(number == 0 ? 16 : 24)"))
                    case 2: documents.append(service(letter, address: "10.96.0.\(number)", nodePort: 30000 + number))
                    default: documents.append("kind: \(letter)\n")
                    }
                }
                change[name] = documents.isEmpty ? .gone : content(documents.joined(separator: "---\n"))
                state[name] = change[name]
            }
            for event in set.update(change) {
                switch event {
                case .set(let object):
                    #expect(known[object.reference] != object)
                    known[object.reference] = object
                case .removed(let reference): #expect(known.removeValue(forKey: reference) != nil)
                case .synced: Issue.record("a set is never done")
                }
            }
            var fresh = ManifestSet()
            _ = fresh.update(state)
            #expect(Set(known.values) == Set(fresh.objects))
            #expect(set.notes == fresh.notes)
        }
    }
}
