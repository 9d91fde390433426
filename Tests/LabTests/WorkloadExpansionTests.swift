import KubernetesObjects
import Lab
import Testing

struct WorkloadExpansionTests {
    private func node(_ name: String, _ labels: [String: String] = [:]) -> Node {
        Node(metadata: ObjectMetadata(name: name, namespace: "", labels: labels))
    }

    private var threeNodes: [Node] {
        [node("node-1", ["disk": "ssd"]), node("node-2"), node("node-3", ["disk": "ssd"])]
    }

    private func workload(
        _ kind: Workload.Kind, _ name: String = "web", replicas: Int = 1, spec: FieldValue = ["containers": []],
        annotations: FieldValue = .null
    ) throws -> Workload {
        let decoded = KubernetesObject.decode(
            [
                "apiVersion": "apps/v1", "kind": .string(kind.objectKind.description),
                "metadata": ["namespace": "shop", "name": .string(name)],
                "spec": [
                    "replicas": .integer(replicas), "selector": ["matchLabels": ["app": .string(name)]],
                    "template": [
                        "metadata": ["labels": ["app": .string(name)], "annotations": annotations], "spec": spec,
                    ],
                ],
            ], source: "")
        guard case .workload(let workload)? = decoded.objects.first else { throw Unreadable(notes: decoded.notes) }
        return workload
    }

    private func single(_ name: String, spec: FieldValue = [:]) throws -> (pod: Pod, tree: FieldValue) {
        let tree: FieldValue = [
            "apiVersion": "v1", "kind": "Pod", "metadata": ["namespace": "shop", "name": .string(name)], "spec": spec,
        ]
        guard case .pod(let pod)? = KubernetesObject.decode(tree, source: "").objects.first else {
            throw Unreadable(notes: [])
        }
        return (pod, tree)
    }

    private struct Unreadable: Error { var notes: [Note] }

    private func places(_ expansion: WorkloadExpansion) -> [NamespacedName: String] {
        Dictionary(uniqueKeysWithValues: expansion.pods.map { ($0.key, $0.node) })
    }

    @Test func `a deployment's pods have generated names and are spread over the nodes`() throws {
        let expansion = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 6)], single: [], nodes: threeNodes)
        #expect(expansion.notes.isEmpty)
        #expect(expansion.pods.count == 6)
        let hashes = Set(expansion.pods.map { $0.pod.metadata.labels["pod-template-hash"] ?? "" })
        let hash = try #require(hashes.first)
        #expect(hashes.count == 1 && hash.count == 10)
        for pod in expansion.pods {
            #expect(pod.key.name.hasPrefix("web-\(hash)-"))
            #expect(pod.key.name.count == "web-\(hash)-".count + 5)
        }
        #expect(
            Dictionary(grouping: expansion.pods, by: \.node).mapValues(\.count) == [
                "node-1": 2, "node-2": 2, "node-3": 2,
            ])
    }

    @Test func `a pod's manifest holds the template, its owner and its node`() throws {
        let expansion = WorkloadExpansion(
            workloads: [
                try workload(
                    .deployment, spec: ["containers": [["name": "c", "image": "nginx"]]], annotations: ["note": "kept"])
            ], single: [], nodes: [node("node-1")])
        let pod = try #require(expansion.pods.first)
        let decoded = KubernetesObject.decode(pod.tree, source: "")
        #expect(decoded.notes.isEmpty)
        #expect(decoded.objects == [.pod(pod.pod)])
        #expect(pod.pod.metadata.owner?.description == "Deployment shop/web")
        #expect(pod.tree["metadata"]?["annotations"] == ["note": "kept"])
        #expect(pod.tree["spec"] == ["containers": [["name": "c", "image": "nginx"]], "nodeName": "node-1"])
    }

    @Test func `the names are the same each time, and others after a change of the template`() throws {
        let one = WorkloadExpansion(workloads: [try workload(.deployment, replicas: 3)], single: [], nodes: threeNodes)
        let again = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 3)], single: [], nodes: threeNodes)
        #expect(one.pods == again.pods)
        let fewer = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 2)], single: [], nodes: threeNodes)
        #expect(Set(fewer.pods.map(\.key)).isSubset(of: one.pods.map(\.key)))
        let other = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 3, spec: ["containers": [["name": "c"]]])], single: [],
            nodes: threeNodes)
        #expect(Set(other.pods.map(\.key)).isDisjoint(with: one.pods.map(\.key)))
    }

    @Test func `the order of a template's keys makes no other pods`() throws {
        let one = try workload(.deployment, spec: ["hostNetwork": false, "containers": [["name": "c", "image": "i"]]])
        let other = try workload(
            .deployment, spec: ["containers": [["image": "i", "name": "c"]], "hostNetwork": false])
        #expect(
            WorkloadExpansion(workloads: [one], single: [], nodes: threeNodes).pods.map(\.key)
                == WorkloadExpansion(workloads: [other], single: [], nodes: threeNodes).pods.map(\.key))
    }

    @Test func `a stateful set counts its pods`() throws {
        var set = try workload(.statefulSet, "db", replicas: 3)
        let expansion = WorkloadExpansion(workloads: [set], single: [], nodes: threeNodes)
        #expect(expansion.pods.map(\.key.name) == ["db-0", "db-1", "db-2"])
        #expect(expansion.pods.map { $0.pod.metadata.labels["apps.kubernetes.io/pod-index"] } == ["0", "1", "2"])
        #expect(Set(expansion.pods.map(\.node)).count == 3)
        set.firstOrdinal = 5
        #expect(
            WorkloadExpansion(workloads: [set], single: [], nodes: threeNodes).pods.map(\.key.name)
                == ["db-5", "db-6", "db-7"])
    }

    @Test func `a daemon set has a pod on each node it selects`() throws {
        let all = WorkloadExpansion(workloads: [try workload(.daemonSet, "agent")], single: [], nodes: threeNodes)
        #expect(all.pods.map(\.node).sorted() == ["node-1", "node-2", "node-3"])
        #expect(all.pods.allSatisfy { $0.key.name.hasPrefix("agent-") && $0.key.name.count == 11 })
        let some = WorkloadExpansion(
            workloads: [try workload(.daemonSet, "agent", spec: ["nodeSelector": ["disk": "ssd"]])], single: [],
            nodes: threeNodes)
        #expect(some.pods.map(\.node).sorted() == ["node-1", "node-3"])
    }

    @Test func `a single pod keeps its name, and replicas default to one`() throws {
        var tree: FieldValue = [
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": ["namespace": "shop", "name": "rs"],
            "spec": [
                "selector": ["matchLabels": ["a": "b"]], "template": ["metadata": ["labels": ["a": "b"]], "spec": [:]],
            ],
        ]
        tree["spec"]?["replicas"] = nil
        guard case .workload(let set)? = KubernetesObject.decode(tree, source: "").objects.first else {
            Issue.record("no workload")
            return
        }
        let expansion = WorkloadExpansion(workloads: [set], single: [try single("client")], nodes: threeNodes)
        #expect(expansion.pods.count == 2)
        #expect(expansion.pods[0].key.description == "shop/client")
        #expect(expansion.pods[1].key.name.hasPrefix("rs-"))
    }

    // MARK: Places

    @Test func `pods stay where they are, and new ones are put where there are fewest`() throws {
        let before = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 4)], single: [], nodes: [node("node-1")])
        #expect(Set(before.pods.map(\.node)) == ["node-1"])
        let after = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 8)], single: [], nodes: threeNodes, placed: places(before))
        let stayed = Set(before.pods.map(\.key))
        for pod in after.pods {
            #expect((pod.node == "node-1") == stayed.contains(pod.key))
        }
        let gone = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 8)], single: [], nodes: Array(threeNodes.dropFirst()),
            placed: places(after))
        #expect(Dictionary(grouping: gone.pods, by: \.node).mapValues(\.count) == ["node-2": 4, "node-3": 4])
    }

    @Test func `small workloads do not all begin on the first node`() throws {
        let expansion = WorkloadExpansion(
            workloads: [
                try workload(.deployment, "a"), try workload(.deployment, "b"), try workload(.statefulSet, "c"),
            ], single: [], nodes: threeNodes)
        #expect(Set(expansion.pods.map(\.node)).count == 3)
    }

    @Test func `a node that is asked for by name or label is taken`() throws {
        let expansion = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 4, spec: ["nodeSelector": ["disk": "ssd"]])],
            single: [try single("here", spec: ["nodeName": "node-2"])], nodes: threeNodes,
            placed: [NamespacedName(namespace: "shop", name: "here"): "node-1"])
        #expect(expansion.notes.isEmpty)
        #expect(expansion.pods.first { $0.key.name == "here" }?.node == "node-2")
        #expect(Set(expansion.pods.filter { $0.key.name != "here" }.map(\.node)) == ["node-1", "node-3"])
    }

    @Test func `a pod without a node is named and left out`() throws {
        let expansion = WorkloadExpansion(
            workloads: [],
            single: [
                try single("a", spec: ["nodeName": "node-9"]),
                try single("b", spec: ["nodeSelector": ["disk": "tape", "x": "y"]]),
                try single("c"),
            ], nodes: threeNodes)
        #expect(
            expansion.notes.map(\.description).sorted() == [
                "Pod shop/a: spec.nodeName: there is no node node-9; the pod is not run",
                "Pod shop/b: spec.nodeSelector: no node has the labels disk=tape,x=y; the pod is not run",
            ])
        #expect(expansion.pods.map(\.key.name) == ["c"])
    }

    @Test func `what keeps all pods of a workload from running is said once, of the workload`() throws {
        let expansion = WorkloadExpansion(
            workloads: [try workload(.deployment, "web", replicas: 4, spec: ["nodeSelector": ["disk": "tape"]])],
            single: [], nodes: threeNodes)
        #expect(
            expansion.notes.map(\.description) == [
                "Deployment shop/web: spec.template.spec.nodeSelector: no node has the labels disk=tape; the pod is not run"
            ])
    }

    @Test func `of two pods of one name the one that was written out is run`() throws {
        let expansion = WorkloadExpansion(
            workloads: [try workload(.statefulSet, "db", replicas: 2)], single: [try single("db-0")], nodes: threeNodes)
        #expect(
            expansion.notes.map(\.description) == [
                "StatefulSet shop/db: its pod db-0 is left out: its name belongs to another pod"
            ])
        #expect(expansion.pods.map(\.pod.metadata.owner?.name) == [nil, "db"])
    }

    @Test func `a lab has an end`() throws {
        let expansion = WorkloadExpansion(
            workloads: [try workload(.deployment, replicas: 100_000)], single: [], nodes: threeNodes)
        #expect(expansion.pods.count == 500)
        #expect(expansion.notes.count == 1)
        #expect(expansion.notes.first?.message.hasSuffix("is left out: a lab runs 500 pods at most") == true)
    }

    @Test func `long names are cut to what a host name may be`() throws {
        let name = String(repeating: "x", count: 80)
        let expansion = WorkloadExpansion(
            workloads: [try workload(.deployment, name, replicas: 2)], single: [], nodes: threeNodes)
        #expect(expansion.pods.count == 2)
        #expect(expansion.pods.allSatisfy { $0.key.name.count == 63 })
    }
}
