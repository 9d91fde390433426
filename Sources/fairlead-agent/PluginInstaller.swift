import ArgumentParser
import KernelInterface
import Logging

/// Puts the CNI plugins where the container runtime looks for them: what an init container of the agent's image does.
///
/// A plugin of another make keeps its name, for other networks may use it; `fairlead` is all that the configuration which
/// the agent writes asks for, and `loopback` all that the runtime itself does.
struct PluginInstaller {
    /// The folder the plugins' program lies in.
    let source: String
    /// The runtime's folder.
    let target: String
    let logger: Logger

    private static let program = "fairlead-cni"
    /// The names under which the program is called.
    private static let names = [
        PluginConfiguration.plugin, "bandwidth", "bridge", "host-local", "loopback", "portmap", "ptp", "static",
    ]
    /// Several times what the program has.
    private static let sizeLimit = 64 << 20

    /// The plugins that lie beside the running program.
    static func besideThisProgram(target: String, logger: Logger) throws(KernelError) -> Self {
        let own = try StateDirectory.open("/proc/self", create: false).linkContent("exe") ?? ""
        return Self(
            source: "/" + own.split(separator: "/").dropLast().joined(separator: "/"), target: target, logger: logger)
    }

    /// Writes what differs; every name is there at once with its whole content, so plugins may be called all the while.
    func run() throws {
        guard let program = try readFile("\(source)/\(Self.program)", limit: Self.sizeLimit) else {
            throw ValidationError("there are no plugins to install: \(source)/\(Self.program) does not exist")
        }
        let folder = try StateDirectory.open(target, create: true)
        var written: [String] = []
        if try folder.read(Self.program, limit: Self.sizeLimit, followingLinks: true) != program {
            try folder.replace(Self.program, program, mode: 0o755)
            written.append(Self.program)
        }
        for name in Self.names where try folder.linkContent(name) != Self.program {
            if try name != PluginConfiguration.plugin && folder.contains(name) { continue }
            try folder.replaceLink(name, Self.program)
            written.append(name)
        }
        logger.info(
            "Installed the CNI plugins",
            metadata: ["folder": "\(target)", "written": "\(written.joined(separator: ", "))"])
    }
}
