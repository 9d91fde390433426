import KernelInterface
public import KubernetesObjects
public import NetworkAddresses

/// A lab as it is on disk right now, for everyone who only wants to look.
public struct LabState: Sendable {
    public var name: LabName
    /// False while `lab up` or `lab down` is under way, or where one of them was killed.
    public var isUp: Bool
    public var nodes: [LabNode]
    /// Those that run, sorted by name.
    public var pods: [LabPod]
    /// The folder the agents watch.
    public var manifestsPath: String
    public var serviceCIDRs: [IPPrefix]

    /// The names of all labs there are.
    public static func names() throws -> [LabName] { try LabFolder.names() }

    /// Reads a lab's state; an error that says what to do where there is no such lab.
    public static func open(_ name: LabName) throws -> LabState {
        let folder = LabFolder(name: name)
        guard let record = try folder.record() else { throw missing(name) }
        return LabState(
            name: name, isUp: record.phase == .up,
            nodes: record.nodes.map { node in
                LabNode(
                    name: node.name, namespaceName: node.namespace,
                    stateDirectory: folder.statePath(ofNode: node.name),
                    addresses: node.addresses.compactMap(IPAddress.init),
                    podCIDRs: node.podCIDRs.compactMap(IPPrefix.init))
            },
            pods: try folder.podRecords().filter { $0.phase == .running }.map(LabPod.init),
            manifestsPath: folder.manifestsPath, serviceCIDRs: record.serviceCIDRs.compactMap(IPPrefix.init))
    }

    /// The same for a name that was typed.
    public static func open(_ name: String) throws -> LabState {
        guard let name = LabName(name) else {
            throw LabError("\"\(name)\" is no name of a lab: 1 to 20 lower-case letters, digits and inner dashes")
        }
        return try open(name)
    }

    static func missing(_ name: LabName) -> LabError {
        let others = ((try? LabFolder.names()) ?? []).map(\.description)
        let flag = name == .default ? "" : " --name \(name)"
        let list = others.isEmpty ? "" : " Labs there are: \(others.joined(separator: ", "))."
        return LabError("there is no lab \(name)", advice: "Make one with 'fairlead lab up\(flag)'.\(list)")
    }

    /// What follows a command's name to mean this lab: nothing for the default one, ` --name NAME` for others.
    public var flag: String { LabFolder(name: name).flag }

    public func node(named name: String) -> LabNode? { nodes.first { $0.name == name } }

    public func pod(_ key: NamespacedName) -> LabPod? { pods.first { $0.key == key } }

    /// The pod that has this address to itself; nil for a node's own address, which several may share.
    public func pod(at address: IPAddress) -> LabPod? {
        pods.first { !$0.isHostNetwork && $0.addresses.contains(address) }
    }
}

/// A node of a lab.
public struct LabNode: Hashable, Sendable {
    public var name: String
    /// The name of its network namespace, for `NetworkNamespace.open(named:)` and `ip netns exec`.
    public var namespaceName: String
    /// The state folder of its agent and of its plugin: `status.json`, `attachments`.
    public var stateDirectory: String
    public var addresses: [IPAddress]
    public var podCIDRs: [IPPrefix]
}

/// A pod that runs in a lab.
public struct LabPod: Hashable, Sendable {
    public var key: NamespacedName
    public var uid: String
    public var node: String
    /// The name of its network namespace; that of its node where the pod is in the node's network.
    public var namespaceName: String
    public var isHostNetwork: Bool
    public var addresses: [IPAddress]

    init(_ record: PodRecord) {
        key = NamespacedName(namespace: record.namespace, name: record.name)
        uid = record.uid
        node = record.node
        namespaceName = record.networkNamespace
        isHostNetwork = record.isHostNetwork
        addresses = record.addresses.compactMap(IPAddress.init)
    }
}
