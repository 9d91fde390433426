import CNIProtocol
import KernelInterface
import PodAttachment

/// How the binary was called: as which plugin, or by a person.
struct Invocation {
    let arguments: [String]
    let environment: [String: String]

    static let version = "0.1.0"

    /// The plugins of this binary.
    static let plugins: [any Plugin] = [
        FairleadPlugin(), BridgePlugin(), PointToPointPlugin(), HostLocalPlugin(), StaticPlugin(), LoopbackPlugin(),
        PortmapPlugin(), BandwidthPlugin(),
    ]

    private static var names: String { plugins.map(\.name).joined(separator: ", ") }

    static func plugin(named name: String) -> (any Plugin)? { plugins.first { $0.name == name } }

    /// The plugin that the name of the link it was called by says, or else the first argument.
    private var plugin: (any Plugin)? {
        let called = (arguments.first ?? "").split(separator: "/").last.map(String.init) ?? ""
        return Self.plugin(named: called) ?? arguments.dropFirst().first.flatMap(Self.plugin)
    }

    func outcome(input: () throws(CNIError) -> [UInt8]) -> Outcome {
        let words = arguments.dropFirst()
        if words.contains("--version") { return Outcome(output: "fairlead-cni \(Self.version)\n") }
        if words.contains("--help") || words.contains("-h") { return Outcome(output: help) }
        if let folder = restorationFolder { return restore(folder) }
        if let plugin {
            guard let times = StepTimes.asked(in: environment) else {
                return run(plugin, environment: environment, input: input, isOwnNamespace: isOwnNamespace)
            }
            times.begin("read the request")
            var outcome = run(
                plugin.timed(by: times), environment: environment, input: input, isOwnNamespace: isOwnNamespace)
            outcome.diagnostics += times.text()
            return outcome
        }
        guard let command = environment["CNI_COMMAND"], !command.isEmpty else { return Outcome(diagnostics: about) }
        let error = CNIError(
            .invalidEnvironment,
            "CNI_COMMAND: \(command) for no plugin: link fairlead-cni under the name of one of \(Self.names)")
        return Outcome(failure: error)
    }

    /// The state folder in `fairlead restore FOLDER`, which the node agent calls and no runtime.
    private var restorationFolder: String? {
        let words = arguments.dropFirst().drop { $0 == "fairlead" }
        guard words.count == 2, words.first == "restore", environment["CNI_COMMAND"] == nil else { return nil }
        return words.last
    }

    private func restore(_ folder: String) -> Outcome {
        do throws(CNIError) {
            try Restoration(records: AttachmentRecords(folder: StateFolder(path: folder))).run()
            return Outcome()
        } catch {
            return Outcome(failure: error)
        }
    }

    private var about: String {
        let versions = SpecVersion.supported.map(\.description).joined(separator: ", ")
        return """
            fairlead-cni \(Self.version): the CNI plugins \(Self.names) in one binary
            CNI protocol versions supported: \(versions)

            """
    }

    private var help: String {
        """
        \(about)
        A container runtime starts it under the name of a plugin, with CNI_COMMAND and its companions in the
        environment and the network's configuration on standard input. By hand: fairlead-cni PLUGIN.

        fairlead-cni restore STATE-FOLDER puts back what was removed of the host ports and masqueraded addresses of
        the pods recorded there; the node agent does it when another program has changed the packet filter.

        """
    }
}

/// Whether the path stands for the network namespace that the calling thread is in; a path that leads nowhere does not.
private func isOwnNamespace(_ path: String) -> Bool {
    guard !path.isEmpty, let other = try? NetworkNamespace.open(path), let own = try? NetworkNamespace.current() else {
        return false
    }
    return own.inode == other.inode
}
