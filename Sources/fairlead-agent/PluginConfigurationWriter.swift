import FoundationEssentials
import KernelInterface
import Logging
import NetworkAddresses
import Reconciliation
import ServiceLifecycle
import Synchronization

/// Writes the container runtime's configuration as soon as an ADD can succeed, and keeps it up to date.
///
/// It is there as a whole or not at all, and stays when the agent ends: the plugin works without it. A kubelet takes
/// the node for ready by this file, so it must not come before the overlay, the policy and the plugin itself are there.
final class PluginConfigurationWriter: ServiceLifecycle.Service, Sendable {
    struct Settings: Sendable {
        /// Where runtimes look for configurations.
        var folder: String
        /// Where runtimes look for plugins.
        var programs: String
        var version: String
        var network: String
        var clusterCIDRs: [IPPrefix]
        var stateFolder: String
        var leaseFolder: String
        var hasPolicy: Bool
    }

    private struct State {
        var wanted: PluginConfiguration?
        /// Why there is none to be written, or none could be.
        var obstacle = ""
        var rivals: [String] = []
    }

    private let settings: Settings
    private let logger: Logger
    private let state = Mutex(State())

    init(_ settings: Settings, logger: Logger) {
        self.settings = settings
        self.logger = logger
    }

    /// Takes in what a pass came to.
    func reported(_ report: SyncReport) {
        state.withLock { state in
            guard let overlay = report.overlay else { return }
            let refusal = report.errors.first { $0.hasPrefix("\(Component.policy.rawValue):") }
            guard overlay.isReady, refusal == nil || !settings.hasPolicy else {
                // What was written in better times stays.
                state.wanted = nil
                tell(&state, overlay.isReady ? refusal ?? "" : overlay.reason)
                return
            }
            state.wanted = PluginConfiguration(
                version: settings.version, network: settings.network, mode: overlay.mode, mtu: overlay.podMTU,
                podCIDRs: overlay.podCIDRs, clusterCIDRs: settings.clusterCIDRs, stateFolder: settings.stateFolder,
                leaseFolder: settings.leaseFolder, isClosed: settings.hasPolicy)
            write(&state)
        }
    }

    /// Looks every second: the plugin may be installed later than the agent, and somebody may remove the file.
    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while (try? await Task.sleep(for: .seconds(1))) != nil { state.withLock { write(&$0) } }
        }
    }

    private func write(_ state: inout State) {
        guard let wanted = state.wanted else { return }
        let program = "\(settings.programs)/\(PluginConfiguration.plugin)"
        guard FileManager.default.isExecutableFile(atPath: program) else {
            return tell(&state, "there is no program \(program) yet; scripts/install puts it there")
        }
        do {
            let folder = try StateDirectory.open(settings.folder, create: true)
            warn(of: try folder.entries(), &state)
            let bytes = Array(wanted.text.utf8)
            guard try folder.read(PluginConfiguration.fileName, limit: 1 << 20) != bytes else { return }
            try folder.replace(PluginConfiguration.fileName, bytes, mode: 0o600)
            logger.info(
                "Wrote the CNI configuration",
                metadata: [
                    "file": "\(settings.folder)/\(PluginConfiguration.fileName)",
                    "podCIDRs": "\(wanted.podCIDRs.map(\.description).joined(separator: ","))",
                    "mtu": "\(wanted.mtu.map(String.init) ?? "the plugin's choice")",
                ])
            state.obstacle = ""
        } catch {
            tell(&state, "\(error)")
        }
    }

    /// Says once why runtimes get no configuration.
    private func tell(_ state: inout State, _ obstacle: String) {
        guard obstacle != state.obstacle else { return }
        state.obstacle = obstacle
        logger.warning("The CNI configuration is not written", metadata: ["reason": "\(obstacle)"])
    }

    /// Other configurations are somebody else's, and are left alone even where they come first.
    private func warn(of names: [String], _ state: inout State) {
        let rivals = names.filter { name in
            name < PluginConfiguration.fileName && [".conf", ".conflist", ".json"].contains { name.hasSuffix($0) }
        }.sorted()
        guard rivals != state.rivals else { return }
        state.rivals = rivals
        guard !rivals.isEmpty else { return }
        logger.warning(
            "Runtimes take another CNI configuration first; delete it, or pods get its network",
            metadata: ["files": "\(rivals.map { "\(settings.folder)/\($0)" }.joined(separator: ", "))"])
    }
}
