internal import NetworkAddresses
public import KubernetesObjects

/// A pod that is to run, and where.
public struct DesiredPod: Hashable, Sendable {
    /// With `spec.nodeName` set, and its owner in the metadata.
    public var pod: Pod
    /// The same as a manifest, with all that was written of it.
    public var tree: FieldValue

    public var key: NamespacedName { pod.key }
    public var node: String { pod.spec.nodeName ?? "" }
}

/// The pods that workloads and single pods call for: what a cluster's controllers and its scheduler would make of them.
///
/// The same objects on the same nodes give the same names, and pods that are placed stay where they are.
public struct WorkloadExpansion: Sendable {
    /// A lab is one machine; a typing error in `replicas` must not take it down.
    public static let podLimit = 500

    public private(set) var pods: [DesiredPod] = []
    public private(set) var notes: [Note] = []

    private let nodes: [Node]
    private let placed: [NamespacedName: String]
    private var taken: Set<NamespacedName> = []

    /// - Parameters:
    ///   - single: Pods of their own, with their manifests.
    ///   - placed: The nodes of the pods that run already.
    public init(
        workloads: [Workload],
        single: [(pod: Pod, tree: FieldValue)],
        nodes: [Node],
        placed: [NamespacedName: String] = [:]
    ) {
        self.nodes = nodes.sorted { $0.name < $1.name }
        self.placed = placed
        // Pods that were written out come first: nothing made up here may take their names.
        var claimed = claim(single.sorted { $0.pod.key < $1.pod.key }.map { Draft(single: $0.pod, tree: $0.tree) })
        for workload in workloads.sorted(by: { $0.reference < $1.reference }) {
            claimed += claim(drafts(of: workload))
        }
        schedule(claimed)
        pods.sort { $0.key < $1.key }
    }

    /// The drafts whose names are free.
    private mutating func claim(_ drafts: [Draft]) -> [Draft] {
        var claimed: [Draft] = []
        for draft in drafts {
            guard taken.count < Self.podLimit else {
                note(draft, "\(draft.subject) left out: a lab runs \(Self.podLimit) pods at most")
                break
            }
            guard taken.insert(draft.key).inserted else {
                note(draft, "\(draft.subject) left out: its name belongs to another pod")
                continue
            }
            claimed.append(draft)
        }
        return claimed
    }

    /// Notes what is wrong with a pod where it was written, and once, however many pods come of that.
    private mutating func note(_ draft: Draft, field: String = "", _ message: String) {
        let field = draft.isOfWorkload && !field.isEmpty ? "spec.template.\(field)" : field
        let note = Note(object: draft.group, field: field, message: message)
        if !notes.contains(note) { notes.append(note) }
    }

    // MARK: Scheduling

    /// Gives each pod its node: first those that have one, so that the others can be spread around them.
    private mutating func schedule(_ drafts: [Draft]) {
        var countOnNode: [String: Int] = [:]
        var countOfGroup: [ObjectReference: [String: Int]] = [:]
        var waiting: [Draft] = []
        func settle(_ draft: Draft, on node: String) {
            countOnNode[node, default: 0] += 1
            countOfGroup[draft.group, default: [:]][node, default: 0] += 1
            pods.append(draft.pod(on: node))
        }
        for draft in drafts {
            if let name = draft.spec.nodeName {
                if nodes.contains(where: { $0.name == name }) {
                    settle(draft, on: name)
                } else {
                    note(draft, field: "spec.nodeName", "there is no node \(name); the pod is not run")
                }
            } else if let name = placed[draft.key], eligible(draft).contains(where: { $0.name == name }) {
                settle(draft, on: name)
            } else {
                waiting.append(draft)
            }
        }
        for draft in waiting {
            let best = eligible(draft).min { left, right in
                let count = countOfGroup[draft.group] ?? [:]
                return (count[left.name] ?? 0, countOnNode[left.name] ?? 0, left.name)
                    < (count[right.name] ?? 0, countOnNode[right.name] ?? 0, right.name)
            }
            if let best {
                settle(draft, on: best.name)
            } else {
                let wanted = LabelSelector(matchLabels: draft.spec.nodeSelector)
                note(draft, field: "spec.nodeSelector", "no node has the labels \(wanted); the pod is not run")
            }
        }
    }

    private func eligible(_ draft: Draft) -> [Node] {
        nodes.filter { node in draft.spec.nodeSelector.allSatisfy { node.metadata.labels[$0.key] == $0.value } }
    }

    // MARK: Names

    private func drafts(of workload: Workload) -> [Draft] {
        let revision = StableHash(workload.template.tree.sortedByKey.description).letters(10)
        let name = workload.metadata.name
        switch workload.kind {
        case .deployment:
            return (0..<min(workload.replicas, Self.podLimit + 1)).map { index in
                let base = "\(name)-\(revision)"
                return Draft(
                    of: workload, name: Draft.generated(base, StableHash(base, "\(index)")),
                    labels: ["pod-template-hash": revision])
            }
        case .replicaSet:
            return (0..<min(workload.replicas, Self.podLimit + 1)).map { index in
                Draft(of: workload, name: Draft.generated(name, StableHash(name, revision, "\(index)")), labels: [:])
            }
        case .statefulSet:
            return (0..<min(workload.replicas, Self.podLimit + 1)).map { index in
                let ordinal = workload.firstOrdinal + index
                return Draft(
                    of: workload, name: "\(name)-\(ordinal)",
                    labels: [
                        "controller-revision-hash": "\(name)-\(revision)",
                        "statefulset.kubernetes.io/pod-name": "\(name)-\(ordinal)",
                        "apps.kubernetes.io/pod-index": "\(ordinal)",
                    ])
            }
        case .daemonSet:
            let nodes = nodes.filter { node in
                workload.template.spec.nodeName.map { $0 == node.name } ?? true
                    && workload.template.spec.nodeSelector.allSatisfy { node.metadata.labels[$0.key] == $0.value }
            }
            return nodes.map { node in
                var draft = Draft(
                    of: workload, name: Draft.generated(name, StableHash(name, revision, node.name)),
                    labels: ["controller-revision-hash": revision])
                draft.spec.nodeName = node.name
                return draft
            }
        }
    }
}

/// A pod that has a name and not yet a node.
private struct Draft {
    var metadata: ObjectMetadata
    var spec: PodSpec
    var tree: FieldValue
    /// Equal for pods that do the same work and so are spread over the nodes.
    var group: ObjectReference

    var key: NamespacedName { metadata.key }
    var isOfWorkload: Bool { group.kind != .pod }
    /// The beginning of a sentence about the pod in a note on what it was written in.
    var subject: String { isOfWorkload ? "its pod \(metadata.name) is" : "is" }

    init(single pod: Pod, tree: FieldValue) {
        metadata = pod.metadata
        spec = pod.spec
        self.tree = tree
        group = ObjectReference(.pod, pod.key)
    }

    init(of workload: Workload, name: String, labels: [String: String]) {
        let owner = workload.reference
        metadata = ObjectMetadata(
            name: name, namespace: workload.metadata.namespace,
            labels: workload.template.labels.merging(labels) { _, ours in ours }, owner: owner)
        spec = workload.template.spec
        group = owner

        var metadataTree = workload.template.tree["metadata"] ?? [:]
        metadataTree["name"] = .string(name)
        metadataTree["namespace"] = .string(workload.metadata.namespace)
        var labelTree = metadataTree["labels"] ?? [:]
        for (key, value) in labels.sorted(by: { $0.key < $1.key }) { labelTree[key] = .string(value) }
        metadataTree["labels"] = labelTree
        metadataTree["ownerReferences"] = [
            [
                "apiVersion": .string(owner.kind.apiVersion), "kind": .string(owner.kind.description),
                "name": .string(owner.name), "controller": true,
            ]
        ]
        tree = ["apiVersion": "v1", "kind": "Pod", "metadata": metadataTree]
        tree["spec"] = workload.template.tree["spec"]
    }

    /// A name as Kubernetes generates it: the base, cut where the whole would be no host name, and five letters.
    static func generated(_ base: String, _ hash: StableHash) -> String {
        "\(base.prefix(57))-\(hash.letters(5))"
    }

    func pod(on node: String) -> DesiredPod {
        var spec = spec
        spec.nodeName = node
        var tree = tree
        var specTree = tree["spec"] ?? [:]
        specTree["nodeName"] = .string(node)
        tree["spec"] = specTree
        return DesiredPod(pod: Pod(metadata: metadata, spec: spec, phase: .pending), tree: tree)
    }
}

extension Workload {
    fileprivate var reference: ObjectReference { ObjectReference(kind.objectKind, key) }
}
