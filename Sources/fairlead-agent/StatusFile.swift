import FoundationEssentials
import KernelInterface
import KubernetesObjects
import Logging
import OverlayRoutes
import Reconciliation

/// The agent's word on itself, for the lab, the plugins and people: `STATE-DIR/status.json`, replaced as a whole.
///
/// What it says is written at once. What it has said already is written again at most once a second, in case somebody
/// has removed the file.
struct StatusFile: Sendable {
    private let folder: String
    private let node: String
    private static let name = "status.json"
    private var last: (content: Content, time: ContinuousClock.Instant)?

    private struct Content: Encodable, Equatable {
        var pid: Int32
        var node: String
        var synced: Bool
        var revision: String
        var notes: [String]
        var errors: [String]
        var overlay: Overlay?
    }

    /// How far the overlay is; absent where it is somebody else's, or was not looked at yet.
    private struct Overlay: Encodable, Equatable {
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

    mutating func write(_ report: SyncReport, logger: Logger) {
        let content = Content(
            pid: ProcessInfo.processInfo.processIdentifier, node: node, synced: report.isSynced,
            revision: report.revision, notes: report.notes.map(\.description),
            errors: report.errors,
            overlay: report.overlay.map {
                Overlay(mode: $0.mode.rawValue, ready: $0.isReady, reason: $0.reason, mtu: $0.podMTU)
            })
        let now = ContinuousClock.now
        if let last, last.content == content, now - last.time < .seconds(1) { return }
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            try StateDirectory.open(folder, create: true).replace(Self.name, Array(encoder.encode(content)))
            last = (content, now)
        } catch {
            logger.error("Cannot write the status file", metadata: ["error": "\(error)"])
        }
    }
}
