import KernelInterface
import KubernetesObjects
import ManifestFolder
import NetworkAddresses

/// The folder a lab's agents watch, written as a cluster's API server would show itself.
struct LabManifests: Sendable {
    let folder: LabFolder

    /// The text of every manifest there is to be, by file name.
    private(set) var files: [String: [UInt8]] = [:]

    init(folder: LabFolder) { self.folder = folder }

    mutating func add(_ tree: FieldValue, as reference: ObjectReference) {
        files[reference.manifestName] = Array(ManifestText.yaml([tree]).utf8)
    }

    /// Brings the folder to this state and returns its revision, a new one if anything has changed.
    func write() throws -> String {
        let directory = try StateDirectory.open(folder.manifestsPath, create: true)
        var hasChanged = false
        for name in try directory.entries() where ManifestSet.isManifest(name) && files[name] == nil {
            try directory.remove(name)
            hasChanged = true
        }
        for (name, bytes) in files.sorted(by: { $0.key < $1.key })
        where try directory.read(name, limit: ManifestText.sizeLimit) != bytes {
            try directory.replace(name, bytes)
            hasChanged = true
        }
        let before = try revision()
        guard hasChanged || before == 0 else { return "\(before)" }
        // Last: an agent that has read the new revision has seen all that was written before it.
        try directory.replace(".revision", Array("\(before + 1)".utf8))
        return "\(before + 1)"
    }

    /// The revision of the folder as it is; 0 where nothing was ever written to it.
    func revision() throws -> Int {
        let bytes = try folder.open("manifests")?.read(".revision", limit: 64)
        return bytes.flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
    }

    /// The services as their manifests are now.
    func services() throws -> [NamespacedName: Service] {
        guard let directory = try folder.open("manifests") else { return [:] }
        var services: [NamespacedName: Service] = [:]
        for name in try directory.entries() where name.hasPrefix("\(ObjectKind.service)_") {
            let bytes = try directory.read(name, limit: ManifestText.sizeLimit) ?? []
            for tree in (try? ManifestText.documents(in: bytes)) ?? [] {
                for case .service(let service) in KubernetesObject.decode(tree, source: name).objects {
                    services[service.key] = service
                }
            }
        }
        return services
    }
}

// MARK: - What the lab itself adds

extension LabRecord.Node {
    /// The node as its kubelet and its cloud provider would describe it.
    var manifest: FieldValue {
        [
            "apiVersion": "v1", "kind": "Node",
            "metadata": [
                "name": .string(name),
                "labels": ["kubernetes.io/hostname": .string(name), "kubernetes.io/os": "linux"],
            ],
            "spec": [
                "podCIDR": .string(podCIDRs.first ?? ""), "podCIDRs": .array(podCIDRs.map(FieldValue.string)),
            ],
            "status": [
                "addresses": .array(
                    addresses.map { ["type": "InternalIP", "address": .string($0)] }
                        + [["type": "Hostname", "address": .string(name)]]),
                "conditions": [["type": "Ready", "status": "True"]],
            ],
        ]
    }
}

extension FieldValue {
    static func namespace(_ name: String) -> FieldValue {
        ["apiVersion": "v1", "kind": "Namespace", "metadata": ["name": .string(name)]]
    }

    static func serviceCIDR(_ cidrs: [String]) -> FieldValue {
        [
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": ["name": "kubernetes"],
            "spec": ["cidrs": .array(cidrs.map(FieldValue.string))],
        ]
    }

    /// The tree of an object with its namespace written down, as the API server gives it back.
    func inNamespace(of reference: ObjectReference) -> FieldValue {
        guard let namespace = reference.namespace else { return self }
        var tree = self
        var metadata = tree["metadata"] ?? [:]
        metadata["namespace"] = .string(namespace)
        tree["metadata"] = metadata
        return tree
    }

    /// The tree of a pod as its kubelet reports it; one that waits where there is no sandbox.
    func reported(_ sandbox: PodRecord?, on node: LabRecord.Node) -> FieldValue {
        var tree = self
        let hostIPs: [FieldValue] = node.addresses.map { ["ip": .string($0)] }
        guard let sandbox else {
            tree["status"] = ["phase": "Pending", "conditions": [["type": "Ready", "status": "False"]]]
            return tree
        }
        var metadata = tree["metadata"] ?? [:]
        metadata["uid"] = .string(sandbox.uid)
        tree["metadata"] = metadata
        tree["status"] = [
            "phase": "Running",
            "hostIP": .string(node.addresses.first ?? ""), "hostIPs": .array(hostIPs),
            "podIP": .string(sandbox.addresses.first ?? ""),
            "podIPs": .array(sandbox.addresses.map { ["ip": .string($0)] }),
            "conditions": [
                ["type": "PodScheduled", "status": "True"], ["type": "Initialized", "status": "True"],
                ["type": "ContainersReady", "status": "True"], ["type": "Ready", "status": "True"],
            ],
        ]
        return tree
    }
}
