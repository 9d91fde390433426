import KernelInterface
import SystemPackage

/// Where a lab keeps what must survive its commands: `/run/fairlead/labs/<lab>`.
///
/// ```
/// lab.json            LabRecord
/// objects/            what was applied, one file per object
/// manifests/          what the agents watch; .revision is written last
/// nodes/<node>/       cni.conf, leases/, state/ (the agent's), agent.json, agent.log
/// pods/<id>.json      PodRecord; beside it <id>.server.json and <id>.server.log of its stand-in
/// ```
///
/// Files appear and change whole (`StateDirectory`), so no reader needs the lock; every command that changes the lab
/// holds it.
struct LabFolder: Sendable {
    static let defaultRoot = "/run/fairlead/labs"

    let name: LabName
    /// The folder of all labs.
    var root = Self.defaultRoot

    var path: String { "\(root)/\(name)" }
    var manifestsPath: String { "\(path)/manifests" }
    var podsPath: String { "\(path)/pods" }
    func nodePath(_ node: String) -> String { "\(path)/nodes/\(node)" }
    func statePath(ofNode node: String) -> String { "\(nodePath(node))/state" }

    /// The names of the labs that have a folder, sorted.
    static func names() throws(KernelError) -> [LabName] {
        do {
            return try StateDirectory.open(defaultRoot, create: false).entries().compactMap { LabName($0) }
                .sorted { $0.description < $1.description }
        } catch where error.errno == .noSuchFileOrDirectory {
            return []
        }
    }

    // MARK: - Records

    /// Nil where there is no such lab.
    func record() throws -> LabRecord? {
        guard let bytes = try open("")?.read("lab.json", limit: 1 << 20) else { return nil }
        return try LabRecord(recordBytes: bytes, path: "\(path)/lab.json")
    }

    func write(_ record: LabRecord) throws {
        try StateDirectory.open(path, create: true).replace("lab.json", record.recordBytes)
    }

    /// All pods' records, by name; the readable ones, and what is wrong with the others.
    func podRecords() throws -> [PodRecord] {
        guard let pods = try open("pods") else { return [] }
        var records: [PodRecord] = []
        for file in try pods.entries() {
            guard file.hasSuffix(".json"), PodID(String(file.dropLast(".json".count))) != nil,
                // A pod that goes while the others are read is no error.
                let bytes = try pods.read(file, limit: 1 << 20)
            else { continue }
            records.append(try PodRecord(recordBytes: bytes, path: "\(podsPath)/\(file)"))
        }
        return records.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
    }

    func write(_ record: PodRecord) throws {
        try StateDirectory.open(podsPath, create: true).replace("\(record.id).json", record.recordBytes)
    }

    /// Removes all that is kept of a pod, its record last.
    func removeRecord(ofPod id: String) throws {
        guard let pods = try open("pods") else { return }
        for suffix in ["server.log", "server.json", "json"] { try pods.remove("\(id).\(suffix)") }
    }

    /// A process's record, nil where there is none.
    func process(_ file: String, in directory: String) throws -> ProcessIdentity? {
        guard let bytes = try open(directory)?.read(file, limit: 1 << 12) else { return nil }
        return try ProcessRecord(recordBytes: bytes, path: "\(path)/\(directory)/\(file)").process
    }

    /// A directory of the lab; nil where it is missing.
    func open(_ directory: String) throws(KernelError) -> StateDirectory? {
        do {
            return try StateDirectory.open(directory.isEmpty ? path : "\(path)/\(directory)", create: false)
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }
}
