import CNIProtocol
import KernelInterface
import PodAttachment
import SystemPackage

extension FairleadConfiguration {
    /// Whether pods of this network need the node agent: the overlay's devices and routes are its work, and an ADD that
    /// waits for a pod's admission waits for it.
    var needsAgent: Bool {
        if case .wait = policyGate { return true }
        return overlay == .vxlan
    }
}

/// What the node agent last said of itself, in `stateDir/status.json`.
enum AgentReport {
    private static let name = "status.json"

    /// Fails where no pod should come to this node now: no agent runs, or it has not got the node into shape yet.
    static func require(in folder: StateFolder) throws(CNIError) {
        let path = "\(folder.path)/\(name)"
        guard let report = try report(in: folder) else {
            throw unavailable("no node agent has reported", details: "\(path) is missing; fairlead-agent writes it")
        }
        let pid = report["pid"]?.integer.flatMap { Int32(exactly: $0) }
        guard let pid, ProcessIdentity(pid: pid)?.isRunning == true else {
            throw unavailable("the node agent has ended", details: "\(path) is of process \(pid ?? 0)")
        }
        let errors = (report["errors"]?.array ?? []).compactMap(\.string)
        guard report["synced"] == .bool(true) else {
            throw unavailable(
                "the node agent has not programmed this node yet", details: errors.joined(separator: "; "))
        }
        // Absent where the overlay is not the agent's.
        if let overlay = report["overlay"]?.object, overlay["ready"] == .bool(false) {
            throw unavailable("the overlay is not ready", details: overlay["reason"]?.string ?? "")
        }
    }

    private static func unavailable(_ message: String, details: String) -> CNIError {
        CNIError(.notAvailable, message, details: details)
    }

    private static func report(in folder: StateFolder) throws(CNIError) -> JSONObject? {
        do throws(KernelError) {
            let bytes = try StateDirectory.open(folder.path, create: false).read(name, limit: 1 << 20)
            // What is no report is none; the agent replaces it as a whole.
            return bytes.flatMap { (try? JSONValue(parsing: $0))?.object } ?? nil
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        } catch {
            throw CNIError(.inputOutput, error.description)
        }
    }
}
