import FoundationEssentials
import KernelInterface

/// The programs a lab is made of, as paths.
public struct LabBinaries: Hashable, Sendable {
    /// This program, which also is the stand-in for containers.
    public var fairlead: String
    public var agent: String
    public var plugin: String

    /// Looks beside the running program, then in `PATH`.
    public static func find() throws(LabError) -> LabBinaries {
        guard let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
            throw LabError("cannot tell where the running program is: /proc/self/exe is not readable")
        }
        return LabBinaries(
            fairlead: own, agent: try find("fairlead-agent", beside: own), plugin: try find("fairlead-cni", beside: own)
        )
    }

    static func find(
        _ name: String, beside own: String, path: String = ProcessInfo.processInfo.environment["PATH"] ?? ""
    ) throws(LabError) -> String {
        let folder = own[..<(own.lastIndex(of: "/") ?? own.startIndex)]
        let candidates = [String(folder)] + path.split(separator: ":").map(String.init)
        // A relative folder would mean another program in every place the command is called from.
        for candidate in candidates where candidate.hasPrefix("/") {
            let file = "\(candidate)/\(name)"
            if FileManager.default.isExecutableFile(atPath: file) { return file }
        }
        throw LabError(
            "\(name) is neither beside \(own) nor in PATH",
            advice: "Build it with 'scripts/build', or install all programs with 'scripts/install'.")
    }
}

extension LabFolder {
    /// Gives the plugin the name by which it is called, as on a real node: it tells by its own name what it is to be.
    func linkPlugin(to binary: String) throws {
        _ = try StateDirectory.open(pluginPath, create: true)
        let link = "\(pluginPath)/\(Self.plugin)"
        if (try? FileManager.default.destinationOfSymbolicLink(atPath: link)) == binary { return }
        try StateDirectory.open(pluginPath, create: false).remove(Self.plugin)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: binary)
    }

    static let plugin = "fairlead"
    /// What `CNI_PATH` is.
    var pluginPath: String { "\(path)/plugins" }
}
