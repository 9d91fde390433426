import KernelInterface
import KubernetesObjects
import ManifestFolder
import NetworkAddresses
import Testing

@testable import Lab

@Suite struct LabManifestsTests {
    private static let namespace = ObjectReference(kind: .namespace, namespace: nil, name: "a")

    @Test func `a new revision is made only when a manifest has changed`() throws {
        try withLabFolder { folder throws in
            var manifests = LabManifests(folder: folder)
            #expect(try manifests.write() == "1")
            manifests.add(.namespace("a"), as: Self.namespace)
            #expect(try manifests.write() == "2")
            #expect(try manifests.write() == "2")
            // Another process with the same in mind.
            var again = LabManifests(folder: folder)
            again.add(.namespace("a"), as: Self.namespace)
            #expect(try again.write() == "2")
            #expect(try LabManifests(folder: folder).write() == "3")
            #expect(try StateDirectory.open(folder.manifestsPath, create: false).entries() == [".revision"])
        }
    }

    @Test func `a manifest that is as it should be is not written again`() throws {
        try withLabFolder { folder throws in
            var manifests = LabManifests(folder: folder)
            manifests.add(.namespace("a"), as: Self.namespace)
            _ = try manifests.write()
            let watch = try DirectoryWatch.open(folder.manifestsPath)
            manifests.add(.namespace("b"), as: ObjectReference(kind: .namespace, namespace: nil, name: "b"))
            _ = try manifests.write()
            // All writes are over: one answer has them all.
            let names = try watch.next(timeout: .zero).names
            #expect(names.contains("Namespace_b.yaml") && names.contains(".revision"), "\(names)")
            #expect(!names.contains("Namespace_a.yaml"), "\(names)")
        }
    }

    @Test func `names of files are told apart even where they must be cut`() {
        let long = String(repeating: "a", count: 253)
        let names = ["x", "y"].map { ObjectReference(kind: .service, namespace: $0, name: long).manifestName }
        #expect(names[0] != names[1])
        #expect(names.allSatisfy { $0.utf8.count <= 255 && ManifestSet.isManifest($0) })
        // A dash may be in either part; an underscore in none.
        #expect(
            ObjectReference(kind: .service, namespace: "a-b", name: "c").manifestName
                != ObjectReference(kind: .service, namespace: "a", name: "b-c").manifestName)
    }

    @Test func `a node's manifest is read as the node it is`() throws {
        let node = LabRecord.example.nodes[0]
        let decoded = KubernetesObject.decode(node.manifest, source: "")
        #expect(decoded.notes == [])
        guard case .node(let read)? = decoded.objects.first else {
            Issue.record("\(decoded)")
            return
        }
        #expect(read.name == "node-1")
        #expect(read.internalIPs.map(\.description) == node.addresses)
        #expect(read.podCIDRs.map(\.description) == node.podCIDRs)
    }

    @Test func `a pod's manifest tells where it runs and that it is ready`() throws {
        let input = ManifestInput(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\nstatus: {phase: Failed}\n"
        )
        let given = try #require(input.objects.first)
        var record = PodRecord(
            DesiredPod(pod: Pod(metadata: given.object.metadata, spec: PodSpec(nodeName: "node-1")), tree: given.tree),
            in: .default)
        record.addresses = ["10.244.1.2", "fd00:10:244:1::2"]
        let tree = given.tree.inNamespace(of: given.object.reference).reported(record, on: LabRecord.example.nodes[0])
        let decoded = KubernetesObject.decode(tree, source: "")
        #expect(decoded.notes == [])
        guard case .pod(let pod)? = decoded.objects.first else {
            Issue.record("\(decoded)")
            return
        }
        #expect(pod.phase == .running)
        #expect(pod.isReady)
        #expect(pod.addresses.map(\.description) == record.addresses)
        #expect(pod.metadata.uid == record.uid)
        let waiting = KubernetesObject.decode(given.tree.reported(nil, on: LabRecord.example.nodes[0]), source: "")
        guard case .pod(let pending)? = waiting.objects.first else {
            Issue.record("\(waiting)")
            return
        }
        #expect(pending.phase == .pending)
        #expect(!pending.isReady)
        #expect(pending.addresses == [])
    }

    @Test func `a stand-in listens once on each TCP and UDP port`() throws {
        let ports = [(443, TransportProtocol.tcp), (53, .udp), (53, .tcp), (443, .tcp), (9, .sctp)]
        let container = Container(
            name: "c", ports: try ports.map { ContainerPort(number: try #require(Port($0.0)), protocol: $0.1) })
        let pod = Pod(
            metadata: ObjectMetadata(name: "p"), spec: PodSpec(nodeName: "node-1", containers: [container, container]))
        let record = PodRecord(DesiredPod(pod: pod, tree: [:]), in: .default)
        #expect(record.listeners.map { "\($0.transport)/\($0.port)" } == ["tcp/53", "udp/53", "tcp/443"])
    }
}

@Suite struct ObjectStoreTests {
    @Test func `what is put is loaded again, once, with its tree`() throws {
        try withLabFolder { folder throws in
            let store = ObjectStore(folder: folder)
            #expect(try store.load() == [])
            let input = ManifestInput(
                "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {x: \"1\", y: \"on\", z: \"\"}}\n")
            let given = try #require(input.objects.first)
            #expect(try store.put(given))
            #expect(try !store.put(given))
            let loaded = try store.load()
            #expect(loaded.map(\.tree) == [given.tree])
            #expect(loaded.map(\.object) == [given.object])
            #expect(try store.remove(given.object.reference))
            #expect(try !store.remove(given.object.reference))
            #expect(try store.load() == [])
        }
    }
}
