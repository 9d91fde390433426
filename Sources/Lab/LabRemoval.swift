import KernelInterface
import SystemPackage

/// How a lab ends, and how what a killed command left of one is removed.
extension LabSession {
    /// Removes a lab and whatever a killed command may have left of it; false where there was nothing.
    public static func down(
        _ name: LabName, report: @escaping @Sendable (LabEvent) -> Void
    ) throws -> Bool {
        // Nothing is started, so no program is needed.
        let binaries = LabBinaries(fairlead: "", agent: "", plugin: "")
        guard let session = try take(name, binaries, create: true, Interruption(), report) else { return false }
        let existed = try session.clear()
        try session.lock.release(removing: session.folder)
        return existed
    }

    /// The labs of which anything is left, records or namespaces.
    public static func names() throws -> [LabName] {
        let named = try NetworkNamespace.names().compactMap { LabName(ofNamespace: $0) }
        return Set(try LabFolder.names() + named).sorted { $0.description < $1.description }
    }

    /// Removes the lab this session was making.
    func undo() throws {
        report(.message("Interrupted; removing what was made …"))
        _ = try clear()
        try lock.release(removing: folder)
    }

    /// Removes everything of this lab but its lock; false where there was nothing to remove.
    func clear() throws -> Bool {
        if var record = (try? folder.record()) ?? nil {
            record.phase = .removing
            try folder.write(record)
        }
        let namespaces = try NetworkNamespace.names().filter { name.owns(namespace: $0) }
        let processes = try LabProcesses(inNamespaces: namespaces)
        let left = try processes.end() + endRecordedProcesses()
        guard left.isEmpty else {
            let pids = left.map { String($0.pid) }.joined(separator: ", ")
            throw LabError("these processes of lab \(name) do not end: \(pids)", advice: "Run the command again.")
        }
        for (index, namespace) in namespaces.enumerated() {
            report(.progress(phase: "Namespaces removed", done: index + 1, total: namespaces.count))
            try NetworkNamespace.remove(named: namespace)
        }
        var hadFiles = false
        if let directory = try folder.open("") {
            for entry in try directory.entries() where entry != ".lock" {
                hadFiles = true
                do throws(KernelError) {
                    try directory.remove(entry)
                } catch {
                    guard error.errno == .isDirectory else { throw error }
                    try directory.removeSubdirectory(entry)
                }
            }
        }
        return hadFiles || !namespaces.isEmpty
    }

    /// Ends processes whose namespace has lost its name before they were ended, and returns those that do not end.
    private func endRecordedProcesses() throws -> [ProcessIdentity] {
        var processes: [ProcessIdentity] = []
        for node in try folder.open("nodes")?.entries() ?? [] {
            if let process = try? folder.process("agent.json", in: "nodes/\(node)") { processes.append(process) }
        }
        for file in try folder.open("pods")?.entries() ?? [] where file.hasSuffix(".server.json") {
            if let process = try? folder.process(file, in: "pods") { processes.append(process) }
        }
        // A record may be old, and its process's number another's by now: one that lives where somebody else gave the
        // name, or nobody has to, is not ours.
        var foreign = [try NetworkNamespace.current().inode]
        for name in try NetworkNamespace.names() {
            if let namespace = try? NetworkNamespace.open(named: name) { foreign.append(namespace.inode) }
        }
        if let first = try? NetworkNamespace.of(process: 1) { foreign.append(first.inode) }
        processes = processes.filter { process in
            guard process.isRunning, let namespace = try? NetworkNamespace.of(process: process.pid) else {
                return false
            }
            return !foreign.contains(namespace.inode)
        }
        try processes.end(grace: .milliseconds(500))
        return processes.filter(\.isRunning)
    }
}
