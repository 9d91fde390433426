import FoundationEssentials
import Glibc
import KernelInterface
import NetworkAddresses
import RouteNetlink
import SystemPackage

/// A pod's namespace, its attachment by the CNI plugin, and the stand-in for its containers.
///
/// Each step is repeatable or removes what an earlier, killed command left, so the record's phase is all there is to
/// know.
struct PodSandbox: Sendable {
    let folder: LabFolder
    let binaries: LabBinaries
    let record: PodRecord

    /// Makes the sandbox and returns its record, which by then is on disk.
    func make() throws -> PodRecord {
        var record = record
        record.phase = .attaching
        try folder.write(record)
        do {
            if !record.isHostNetwork { record.addresses = try attach() }
            try startServer()
        } catch {
            // The first error is the cause; what may go wrong with the rest is repaired by the next command.
            try? remove()
            throw error
        }
        record.phase = .running
        try folder.write(record)
        return record
    }

    /// Removes the sandbox, whatever there is of it.
    func remove() throws {
        var record = record
        record.phase = .removing
        try folder.write(record)
        try endServer()
        if !record.isHostNetwork {
            if try NetworkNamespace.open(named: nodeNamespace) != nil { _ = try callPlugin("DEL") }
            let left = try LabProcesses(inNamespaces: [record.networkNamespace]).end()
            guard left.isEmpty else {
                throw LabError(
                    "process \(left[0].pid) in the namespace of pod \(record.namespace)/\(record.name) does not end")
            }
            try NetworkNamespace.remove(named: record.networkNamespace)
        }
        try folder.removeRecord(ofPod: record.id)
    }

    // MARK: - The network

    private var nodeNamespace: String { folder.name.namespace(ofNode: record.node) }

    private func attach() throws -> [String] {
        let namespace = try NetworkNamespace.create(named: record.networkNamespace)
        try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }.setUp(InterfaceName("lo")!)
        let output = try callPlugin("ADD")
        let result: Attachment
        do {
            result = try JSONDecoder().decode(Attachment.self, from: Data(output))
        } catch {
            throw LabError("the plugin's result is none: \(String(decoding: output.prefix(200), as: UTF8.self))")
        }
        let addresses = (result.ips ?? []).compactMap { IPPrefix($0.address)?.address.description }
        guard !addresses.isEmpty else { throw LabError("the plugin gave the pod no address") }
        return addresses
    }

    /// What the lab reads of a CNI result.
    private struct Attachment: Decodable {
        struct IP: Decodable { var address: String }
        var ips: [IP]?
    }

    /// A CNI plugin's error, as it is on standard output.
    private struct Refusal: Decodable {
        var code: Int
        var msg: String
        var details: String?
    }

    /// Calls the plugin as a container runtime does, in the node's namespace.
    private func callPlugin(_ command: String) throws -> [UInt8] {
        guard let node = try NetworkNamespace.open(named: nodeNamespace),
            let configuration = try folder.open("nodes/\(record.node)")?.read(Self.configurationFile, limit: 1 << 16)
        else { throw LabError("\(record.node) has lost its namespace", advice: folder.renewal) }
        let environment = [
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "\(folder.name)-pod-\(record.id)",
            "CNI_NETNS": NetworkNamespace.path(named: record.networkNamespace),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": folder.pluginPath,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=\(record.namespace);K8S_POD_NAME=\(record.name)"
                + ";K8S_POD_UID=\(record.uid);K8S_POD_INFRA_CONTAINER_ID=\(folder.name)-pod-\(record.id)",
            "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        let outcome = try node.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "\(folder.pluginPath)/\(LabFolder.plugin)", [], environment: environment, input: configuration,
                timeout: .seconds(30))
        }
        guard outcome.status.isSuccess else {
            if let refusal = try? JSONDecoder().decode(Refusal.self, from: Data(outcome.standardOutput)) {
                let details = (refusal.details ?? "").isEmpty ? "" : ": \(refusal.details ?? "")"
                throw LabError("CNI \(command) failed with code \(refusal.code): \(refusal.msg)\(details)")
            }
            throw LabError("CNI \(command) failed with \(outcome.status): \(outcome.errorText.suffix(500))")
        }
        return outcome.standardOutput
    }

    static let configurationFile = "cni.conf"

    // MARK: - The stand-in

    private static func serverRecordFile(of record: PodRecord) -> String { "\(record.id).server.json" }
    private var serverRecordFile: String { Self.serverRecordFile(of: record) }

    /// Starts the stand-in and waits until it listens; a pod without ports has nothing to stand in for.
    private func startServer() throws {
        guard !record.listeners.isEmpty else { return }
        guard let namespace = try NetworkNamespace.open(named: record.networkNamespace) else {
            throw LabError("its network namespace \(record.networkNamespace) is gone", advice: folder.renewal)
        }
        let log = "\(folder.podsPath)/\(record.id).server.log"
        let child = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: binaries.fairlead,
                arguments: ["pod-server", "--pod", record.name, "--record", "\(folder.podsPath)/\(serverRecordFile)"]
                    + record.listeners.map { "\($0.transport)/\($0.port)" },
                standardOutput: .file(log), standardError: .file(log), newSession: true)
        }
        guard let identity = child.identity else { throw LabError("its stand-in has ended at once") }
        let deadline = ContinuousClock.now + .seconds(10)
        // It writes its record once it listens.
        while try server() != identity {
            guard !identity.waitForEnd(timeout: .milliseconds(2)) else {
                let bytes = (try? folder.open("pods")?.read("\(record.id).server.log", limit: 1 << 16)) ?? []
                let words = String(decoding: bytes.suffix(400), as: UTF8.self)
                throw LabError("its stand-in does not run: \(words.isEmpty ? "it said nothing" : words)")
            }
            guard ContinuousClock.now < deadline else {
                throw LabError("its stand-in does not listen after 10 seconds")
            }
        }
    }

    private func server() throws -> ProcessIdentity? { try folder.process(serverRecordFile, in: "pods") }

    /// Whether a pod's stand-in runs, or there is none to run.
    static func isServed(_ record: PodRecord, in folder: LabFolder) throws -> Bool {
        if record.listeners.isEmpty { return true }
        return try folder.process(serverRecordFile(of: record), in: "pods")?.isRunning ?? false
    }

    /// Ends the stand-in and starts it again with the ports of the record, in the namespace that is there.
    func restartServer() throws -> PodRecord {
        try folder.write(record)
        try endServer()
        try startServer()
        return record
    }

    private func endServer() throws {
        guard let process = try server() else { return }
        // A record may be older than the last boot of the machine: only a process that is in the namespace is ended.
        let processes = try LabProcesses(inNamespaces: [record.networkNamespace])
        if processes.member(process.pid) == process { try [process].end(grace: .milliseconds(500)) }
        try folder.open("pods")?.remove(serverRecordFile)
    }
}
