import FoundationEssentials
import Glibc
import KernelInterface
import KubernetesObjects

/// The agents of a lab's nodes: one process in each node's namespace.
struct NodeAgents: Sendable {
    let folder: LabFolder

    private static let recordFile = "agent.json"
    private static let logFile = "agent.log"

    /// What an agent says of itself in `status.json`.
    struct Status: Codable, Hashable {
        var pid: Int32
        var node: String
        var synced: Bool
        var revision: String
        var notes: [String]
        var errors: [String]
    }

    /// The agent of a node, where it runs.
    func process(of node: String) throws -> ProcessIdentity? {
        guard let process = try folder.process(Self.recordFile, in: "nodes/\(node)") else { return nil }
        return process.isRunning ? process : nil
    }

    /// Starts a node's agent unless it runs.
    ///
    /// - Parameter arguments: What it is told besides its node and its folders.
    func start(on node: LabRecord.Node, executable: String, arguments: [String] = []) throws {
        let directory = try StateDirectory.open(folder.nodePath(node.name), create: true)
        guard try process(of: node.name) == nil else { return }
        _ = try directory.subdirectory("state", create: true)
        guard let namespace = try NetworkNamespace.open(named: node.namespace) else {
            throw LabError("\(node.name) has lost its namespace \(node.namespace)", advice: folder.renewal)
        }
        let log = logPath(of: node.name)
        let child = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: executable,
                arguments: [
                    "--manifests", folder.manifestsPath, "--node-name", node.name, "--state-dir",
                    folder.statePath(ofNode: node.name),
                ] + arguments, standardOutput: .file(log), standardError: .file(log), newSession: true)
        }
        // Killed before this line, the agent is still found by the namespace it lives in.
        guard let identity = child.identity else { return }
        try directory.replace(Self.recordFile, ProcessRecord(identity).recordBytes)
    }

    /// What the agent that runs on a node reported last; nil where none runs, or it has not reported yet.
    func status(of node: String) throws -> Status? {
        guard let process = try process(of: node),
            let bytes = try folder.open("nodes/\(node)/state")?.read("status.json", limit: 1 << 24),
            // Of another version of the agent, perhaps: not yet a report we wait for.
            let status = try? JSONDecoder().decode(Status.self, from: Data(bytes))
        else { return nil }
        // An agent that was killed left its last word behind.
        return status.pid == process.pid ? status : nil
    }

    /// Waits until every agent has programmed the manifests of that revision, and returns their reports.
    func waitUntilSynced(
        _ nodes: [LabRecord.Node], revision: String, timeout: Duration = .seconds(15), interruption: Interruption,
        progress: (Int) -> Void
    ) throws -> [Status] {
        let deadline = ContinuousClock.now + timeout
        var reports: [String: Status] = [:]
        while true {
            for node in nodes where reports[node.name] == nil {
                if let status = try status(of: node.name), status.synced, status.revision == revision {
                    reports[node.name] = status
                    progress(reports.count)
                }
            }
            guard let waited = nodes.first(where: { reports[$0.name] == nil }) else {
                return nodes.compactMap { reports[$0.name] }
            }
            try interruption.check()
            for node in nodes where reports[node.name] == nil {
                guard try process(of: node.name) == nil else { continue }
                throw LabError("the agent of \(node.name) has ended\(lastWords(of: node.name))", advice: folder.repair)
            }
            guard ContinuousClock.now < deadline else {
                let seen = try status(of: waited.name)
                let state = seen.map { "is at revision \($0.revision), synced: \($0.synced)" } ?? "has reported nothing"
                let time = "\(timeout.components.seconds) seconds"
                throw LabError(
                    "the agent of \(waited.name) has not programmed revision \(revision) within \(time): "
                        + "it \(state)\(lastWords(of: waited.name))", advice: folder.repair)
            }
            usleep(5_000)
        }
    }

    func logPath(of node: String) -> String { "\(folder.nodePath(node))/\(Self.logFile)" }

    /// The end of an agent's log, as the end of a message.
    func lastWords(of node: String) -> String {
        let path = logPath(of: node)
        guard let log = try? folder.open("nodes/\(node)"),
            let bytes = try? log.read(Self.logFile, limit: 1 << 26), !bytes.isEmpty
        else { return "; its log \(path) is empty" }
        let lines = bytes.suffix(1 << 14).split(separator: UInt8(ascii: "\n")).suffix(6)
        let text = lines.map { "    " + String(decoding: $0, as: UTF8.self) }.joined(separator: "\n")
        return "; its log \(path) ends with\n\(text)"
    }
}

extension LabFolder {
    /// What follows the command's name for this lab.
    var flag: String { name == .default ? "" : " --name \(name)" }

    /// The advice where something stopped working.
    var repair: String {
        "'fairlead lab up\(flag)' starts what is missing; 'fairlead lab down\(flag)' removes the lab."
    }

    /// The advice where the lab cannot be repaired.
    var renewal: String {
        "Remove the lab with 'fairlead lab down\(flag)' and make it anew with 'fairlead lab up\(flag)'."
    }
}
