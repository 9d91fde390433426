import ArgumentParser
import KernelInterface
import SystemPackage

/// What the agent is told about the CNI plugins of its node.
struct PluginFlags: ParsableArguments {
    @Flag(
        help: """
            Write the container runtime's configuration, 10-fairlead.conflist, once the overlay, the policy and the \
            plugin are in place, and again when the node's networks or the MTU change.
            """)
    var writeCniConf = false

    @Flag(
        help: """
            Put the plugins that lie beside this program into --cni-bin-dir, and end; a plugin of another make keeps its \
            name.
            """)
    var installPlugins = false

    @Option(help: ArgumentHelp("Where the container runtime looks for configurations.", valueName: "folder"))
    var cniConfDir = "/etc/cni/net.d"

    @Option(help: ArgumentHelp("Where the container runtime looks for plugins.", valueName: "folder"))
    var cniBinDir = "/opt/cni/bin"

    @Option(help: ArgumentHelp("Version of the CNI specification that the configuration has.", valueName: "version"))
    var cniVersion = "1.0.0"

    @Option(help: ArgumentHelp("What the configuration calls the network.", valueName: "name"))
    var cniNetwork = "fairlead"

    @Option(help: ArgumentHelp("Where the addresses of pods are leased.", valueName: "folder"))
    var cniDataDir = "/var/lib/cni/networks"

    @Option(
        help: ArgumentHelp(
            """
            Seconds after which what is left of a pod whose network namespace is gone is removed, where the runtime \
            does not do it; 0 for never.
            """, valueName: "seconds"))
    var garbageGrace = 60

    /// Takes the configuration that is written with `--write-cni-conf` away.
    ///
    /// - Returns: Its path; nil where none is to be written, or there is none.
    func removeConfiguration() throws(KernelError) -> String? {
        guard writeCniConf else { return nil }
        do {
            let isRemoved = try StateDirectory.open(cniConfDir, create: false).remove(PluginConfiguration.fileName)
            return isRemoved ? "\(cniConfDir)/\(PluginConfiguration.fileName)" : nil
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    func validate() throws {
        guard (0...86_400).contains(garbageGrace) else {
            throw ValidationError("--garbage-grace must be 0 to 86400 seconds")
        }
        for (name, path) in [("conf", cniConfDir), ("bin", cniBinDir), ("data", cniDataDir)]
        where !path.hasPrefix("/") {
            throw ValidationError("--cni-\(name)-dir must begin with /")
        }
    }
}
