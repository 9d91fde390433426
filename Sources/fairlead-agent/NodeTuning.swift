import FoundationEssentials
import KernelInterface
import Logging
import NodeDuties
import ProxyConfiguration

/// Sets what a service proxy sets once at its start: connection tracking, and its own place when memory is short.
///
/// Nothing here is worth failing for: a node in a container may not be allowed to, and says so.
struct NodeTuning {
    let configuration: KubeProxyConfiguration
    let logger: Logger

    func run() {
        attempt { () throws(KernelError) in
            try ProcessFigures.setMemoryShortageScore(configuration.oomScoreAdjustment)
        }
        let conntrack = ConntrackSettings(
            configuration.conntrack, processors: ProcessInfo.processInfo.processorCount)
        for setting in conntrack.settings {
            attempt { () throws(KernelError) in try set(setting) }
        }
        attempt { () throws(KernelError) in try grow(to: conntrack) }
    }

    /// Writes a setting that differs.
    private func set(_ setting: ConntrackSettings.Setting) throws(KernelError) {
        let path = ["net", "netfilter", setting.name]
        let value = "\(setting.value)"
        let present = try KernelSetting.read(path)
        guard present != value else { return }
        try KernelSetting.write(path, value)
        logger.info("Set \(setting.name)", metadata: ["value": "\(value)", "before": "\(present ?? "")"])
    }

    /// Gives the table as many buckets as its limit asks for, where that limit is in force.
    private func grow(to conntrack: ConntrackSettings) throws(KernelError) {
        guard let most = conntrack.most, let wanted = conntrack.buckets,
            try KernelSetting.read(["net", "netfilter", "nf_conntrack_max"]) == "\(most)",
            let present = try ConnectionTable.buckets(), present < wanted
        else { return }
        try ConnectionTable.setBuckets(wanted)
        logger.info("Set the connection table's buckets", metadata: ["value": "\(wanted)", "before": "\(present)"])
    }

    private func attempt(_ body: () throws(KernelError) -> Void) {
        do {
            try body()
        } catch {
            logger.warning("\(error); it stays as it is")
        }
    }
}
