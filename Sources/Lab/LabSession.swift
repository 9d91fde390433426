import KernelInterface
import KubernetesObjects
import NetworkAddresses

/// A lab in the hands of one command that changes it.
///
/// Whatever is to be is written down before it is made, and everything made bears the lab's name: so a command that is
/// killed at any point leaves nothing that the next one does not finish or remove.
public final class LabSession: Sendable {
    let folder: LabFolder
    let binaries: LabBinaries
    let workers: Workers
    let report: @Sendable (LabEvent) -> Void
    let lock: LabLock

    public var name: LabName { folder.name }
    /// What follows a command's name to mean this lab: nothing for the default one, ` --name NAME` for others.
    public var flag: String { folder.flag }
    var agents: NodeAgents { NodeAgents(folder: folder) }
    var store: ObjectStore { ObjectStore(folder: folder) }
    var interruption: Interruption { workers.interruption }

    private init(
        _ folder: LabFolder, _ binaries: LabBinaries, _ lock: LabLock, _ interruption: Interruption,
        _ report: @escaping @Sendable (LabEvent) -> Void
    ) {
        self.folder = folder
        self.binaries = binaries
        self.lock = lock
        self.report = report
        workers = Workers(interruption: interruption, report: report)
    }

    static func take(
        _ name: LabName, _ binaries: LabBinaries, create: Bool, _ interruption: Interruption,
        _ report: @escaping @Sendable (LabEvent) -> Void
    ) throws -> LabSession? {
        let folder = LabFolder(name: name)
        let lock = try LabLock.take(folder, create: create) {
            report(.message("Waiting for another command that is at work on lab \(name) …"))
        }
        return lock.map { LabSession(folder, binaries, $0, interruption, report) }
    }

    // MARK: - Beginning

    /// Takes a lab that is up.
    public static func open(
        _ name: LabName, binaries: LabBinaries, interruption: Interruption,
        report: @escaping @Sendable (LabEvent) -> Void
    ) throws -> LabSession {
        guard let session = try take(name, binaries, create: false, interruption, report),
            let record = try session.folder.record()
        else { throw LabState.missing(name) }
        guard record.phase == .up, try session.isIntact(record) else {
            throw LabError(
                "lab \(name) is not whole: a command was stopped, or the machine", advice: session.folder.repair)
        }
        try session.folder.linkPlugin(to: binaries.plugin)
        return session
    }

    /// Takes a lab, making it first where it is not up, and repairing it where it is.
    ///
    /// Interrupted while it is being made, the lab is removed again.
    ///
    /// - Parameter nodeCount: Nil for as many as there are, or three.
    /// - Parameter overlay: How the nodes are joined; nil for as they are, or VXLAN.
    /// - Parameter input: What to apply at once.
    @discardableResult
    public static func up(
        _ name: LabName, nodeCount: Int?, overlay: LabOverlay? = nil, input: ManifestInput, binaries: LabBinaries,
        interruption: Interruption,
        report: @escaping @Sendable (LabEvent) -> Void
    ) throws -> LabSession {
        guard let session = try take(name, binaries, create: true, interruption, report) else {
            throw LabState.missing(name)
        }
        // A record that cannot be read is that of a ruin.
        let record = (try? session.folder.record()) ?? nil
        if let record, record.phase == .up, try session.isIntact(record) {
            guard nodeCount == nil || nodeCount == record.nodes.count else {
                throw LabError(
                    "lab \(name) is up with \(record.nodes.count) nodes, not \(nodeCount ?? 0)",
                    advice:
                        "Remove it first with 'fairlead lab down\(session.flag)', or give the new one another --name."
                )
            }
            guard overlay == nil || overlay == record.overlay ?? .vxlan else {
                throw LabError(
                    "lab \(name) is up with overlay \((record.overlay ?? .vxlan).rawValue), not \(overlay?.rawValue ?? "")",
                    advice:
                        "Remove it first with 'fairlead lab down\(session.flag)', or give the new one another --name."
                )
            }
            report(.message("Lab \(name) is up already; starting what is missing."))
            try session.folder.linkPlugin(to: binaries.plugin)
            try session.apply(input)
            return session
        }
        if try session.clear() { report(.message("Removed what was left of an earlier lab \(name).")) }
        do {
            try session.build(LabNetwork(nodeCount: nodeCount ?? 3), overlay)
            if !input.isEmpty { try session.apply(input) }
        } catch let error as LabError where error == .interrupted {
            try session.undo()
            throw error
        }
        return session
    }

    /// Whether all namespaces of the lab are there; after a restart of the machine none are.
    private func isIntact(_ record: LabRecord) throws -> Bool {
        guard try record.boot == KernelSetting.read(["kernel", "random", "boot_id"]) else { return false }
        return ([name.underlayNamespace] + record.nodes.map(\.namespace)).allSatisfy { namespace in
            // EINVAL, where a name was left without its namespace, is as good as none.
            guard let opened = try? NetworkNamespace.open(named: namespace) else { return false }
            _ = opened
            return true
        }
    }

    // MARK: - Building

    private func build(_ network: LabNetwork, _ overlay: LabOverlay?) throws {
        let record = LabRecord(
            name: name.description, boot: try KernelSetting.read(["kernel", "random", "boot_id"]) ?? "",
            phase: .building,
            nodes: network.nodes.map { node in
                LabRecord.Node(
                    name: node.name, namespace: name.namespace(ofNode: node.name),
                    addresses: node.interface.map(\.address.description), podCIDRs: node.podCIDRs.map(\.description))
            },
            serviceCIDRs: network.serviceCIDRs.map(\.description), overlay: overlay)
        try folder.write(record)
        try folder.linkPlugin(to: binaries.plugin)
        let underlay = Underlay(name: name, network: network)
        try underlay.make()
        for (index, node) in network.nodes.enumerated() {
            try interruption.check()
            report(.progress(phase: "Nodes", done: index, total: network.nodes.count))
            try underlay.join(node)
            try StateDirectory.open(folder.nodePath(node.name), create: true)
                .replace(
                    PodSandbox.configurationFile,
                    Array(pluginConfiguration(of: node, in: network, overlay).description.utf8))
        }
        report(.progress(phase: "Nodes", done: network.nodes.count, total: network.nodes.count))
        var manifests = LabManifests(folder: folder)
        addOwnObjects(of: record, to: &manifests)
        try synchronize(record, revision: try manifests.write(), phase: "Agents")
        var finished = record
        finished.phase = .up
        try folder.write(finished)
    }

    /// The configuration that a container runtime would find on the node, in `/etc/cni/net.d`.
    ///
    /// Of version 1.0.0, because Debian 12's containerd knows no later one.
    private func pluginConfiguration(
        of node: LabNetwork.NodeAddresses, in network: LabNetwork, _ overlay: LabOverlay?
    ) -> FieldValue {
        [
            "cniVersion": "1.0.0", "name": "lab", "type": .string(LabFolder.plugin),
            "overlay": .string((overlay ?? .vxlan).rawValue),
            "clusterCIDRs": .array(network.clusterCIDRs.map { .string($0.description) }),
            "stateDir": .string(folder.statePath(ofNode: node.name)),
            "ipam": [
                "type": "host-local", "dataDir": .string("\(folder.nodePath(node.name))/leases"),
                "ranges": .array(node.podCIDRs.map { [["subnet": .string($0.description)]] }),
            ],
        ]
    }

    /// The objects nobody has to apply: nodes, the namespace `default`, the service networks.
    func addOwnObjects(of record: LabRecord, to manifests: inout LabManifests) {
        for node in record.nodes {
            manifests.add(node.manifest, as: ObjectReference(kind: .node, namespace: nil, name: node.name))
        }
        manifests.add(.namespace("default"), as: ObjectReference(kind: .namespace, namespace: nil, name: "default"))
        manifests.add(
            .serviceCIDR(record.serviceCIDRs),
            as: ObjectReference(kind: .serviceCIDR, namespace: nil, name: "kubernetes"))
    }

    private func agentArguments(_ record: LabRecord) -> [String] {
        ["--cni-bin-dir", folder.pluginPath] + (record.overlay.map { ["--overlay", $0.rawValue] } ?? [])
    }

    /// Starts the agents that do not run, waits until all have programmed the revision, and passes their errors on.
    func synchronize(_ record: LabRecord, revision: String, phase: String) throws {
        for node in record.nodes {
            try agents.start(
                on: node, executable: binaries.agent, arguments: agentArguments(record))
        }
        report(.progress(phase: phase, done: 0, total: record.nodes.count))
        let reports = try agents.waitUntilSynced(record.nodes, revision: revision, interruption: interruption) { done in
            report(.progress(phase: phase, done: done, total: record.nodes.count))
        }
        for status in reports {
            for error in status.errors {
                report(.note(Note(source: "agent of \(status.node)", object: nil, message: error)))
            }
        }
    }
}
