import KernelInterface
public import KubernetesObjects
import ManifestFolder

/// What a lab's nodes report, and what their agents are told.
extension LabState {
    /// How a node's agent is.
    public struct AgentReport: Hashable, Sendable {
        public var node: String
        /// Nil where no agent runs.
        public var pid: Int32?
        /// Whether the node has everything in force that the manifests say now.
        public var isInSync: Bool
        /// What the agent found wrong with objects, and what it could not do.
        public var notes: [String]
        public var errors: [String]
        public var logPath: String
    }

    /// What each node's agent reported last.
    public func agents() throws -> [AgentReport] {
        let folder = LabFolder(name: name)
        let revision = try LabManifests(folder: folder).revision()
        let agents = NodeAgents(folder: folder)
        return try nodes.map { node in
            let process = try agents.process(of: node.name)
            let status = try agents.status(of: node.name)
            return AgentReport(
                node: node.name, pid: process?.pid,
                isInSync: status?.synced == true && status?.revision == "\(revision)",
                notes: status?.notes ?? [], errors: status?.errors ?? [], logPath: agents.logPath(of: node.name))
        }
    }

    /// The pods whose containers' stand-in has ended, and those whose network namespace is gone.
    public func brokenPods() throws -> [NamespacedName] {
        let folder = LabFolder(name: name)
        return try folder.podRecords().filter { $0.phase == .running }.compactMap { record in
            let isThere = (try? NetworkNamespace.open(NetworkNamespace.path(named: record.networkNamespace))) != nil
            let isServed = try PodSandbox.isServed(record, in: folder)
            return isThere && isServed ? nil : record.key
        }
    }

    /// The objects of the manifests, with the endpoint slices that each agent derives from them.
    public func snapshot() throws -> ClusterSnapshot {
        let directory = try StateDirectory.open(manifestsPath, create: false)
        var files: [String: ManifestSet.FileState] = [:]
        for name in try directory.entries() where ManifestSet.isManifest(name) {
            if let bytes = try directory.read(name, limit: ManifestText.sizeLimit) { files[name] = .content(bytes) }
        }
        var set = ManifestSet()
        var derivation = EndpointDerivation()
        let events = set.update(files)
        var snapshot = ClusterSnapshot()
        for event in events + derivation.apply(events) { snapshot.apply(event) }
        snapshot.apply(.synced)
        return snapshot
    }
}
