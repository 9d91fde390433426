import FoundationEssentials
import KernelInterface
import KubernetesObjects
import Logging
import OverlayRoutes
import Reconciliation

/// The agent's word on itself, for the lab and for people: `STATE-DIR/status.json`, replaced as a whole.
struct StatusFile: Sendable {
    private let folder: String
    private let node: String
    private static let name = "status.json"

    private struct Content: Encodable {
        var pid: Int32
        var node: String
        var synced: Bool
        var revision: String
        var changes: Int
        var notes: [String]
        var errors: [String]
        var overlay: Overlay?
    }

    /// How far the overlay is; absent where it is somebody else's, or was not looked at yet.
    private struct Overlay: Encodable {
        var mode: String
        var ready: Bool
        /// Why it is not ready; empty where it is.
        var reason: String
        /// What pods may send at once, in bytes; absent in mode `none`.
        var mtu: Int?
    }

    init(_ folder: String, node: String) throws {
        self.folder = folder
        self.node = node
        // A report of an earlier run must not be taken for this one's.
        _ = try StateDirectory.open(folder, create: true).remove(Self.name)
    }

    func write(_ report: SyncReport, logger: Logger) {
        let content = Content(
            pid: ProcessInfo.processInfo.processIdentifier, node: node, synced: report.isSynced,
            revision: report.revision, changes: report.changes, notes: report.notes.map(\.description),
            errors: report.errors,
            overlay: report.overlay.map {
                Overlay(mode: $0.mode.rawValue, ready: $0.isReady, reason: $0.reason, mtu: $0.podMTU)
            })
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            try StateDirectory.open(folder, create: true).replace(Self.name, Array(encoder.encode(content)))
        } catch {
            logger.error("Cannot write the status file", metadata: ["error": "\(error)"])
        }
    }
}
