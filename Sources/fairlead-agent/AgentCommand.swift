public import ArgumentParser
import FoundationEssentials
import KernelInterface
import KubernetesClient
import KubernetesObjects
public import Logging
import ManifestFolder
import NIOCore
public import NetworkAddresses
import NodeDuties
public import OverlayRoutes
import PolicyRules
import ProxyConfiguration
import Reconciliation
import ServiceLifecycle
import UnixSignals

@main
struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fairlead-agent",
        abstract: "Programs this node's services, network policies and overlay from Kubernetes objects.",
        discussion: """
            The agent follows an API server (--kubeconfig, --in-cluster) or a folder of manifests (--manifests), and \
            keeps three things in the kernel equal to what its objects say: the \
            nftables tables `inet fairlead-services` and `inet fairlead-policy`, and the VXLAN device `fairlead.1` \
            with its routes, neighbours and forwarding entries. Ending it changes nothing for running pods; starting \
            it again writes only what differs. Run it as root in the node's network namespace.

            In kube-proxy's place it takes kube-proxy's arguments and file, with their meanings: `--config FILE` is all \
            that a kubeadm node needs. Then only the services are taken care of, unless --components says otherwise, \
            and the agent ends when the file changes, to be started again.

            After each pass it writes STATE-DIR/status.json: whether the kernel holds everything, which revision of \
            the folder (the content of its file .revision, if any), and what is wrong with which object.
            """)

    @Option(help: ArgumentHelp("The folder of *.yaml and *.json manifests to follow.", valueName: "folder"))
    var manifests: String?

    @Option(help: ArgumentHelp("Follow the API server of a context of this file.", valueName: "file"))
    var kubeconfig: String?

    @Option(help: ArgumentHelp("The kubeconfig's context, instead of its current one.", valueName: "name"))
    var context: String?

    @Flag(help: "Follow the API server of the cluster this process is a pod of, with its service account.")
    var inCluster = false

    @Option(
        name: [.customLong("node-name"), .customLong("hostname-override")],
        help: ArgumentHelp("This node's name, as in its Node object; by default the host's.", valueName: "name"))
    var nodeNameGiven: String?

    @Option(
        help: ArgumentHelp("Where the CNI plugins record attachments and the agent its status.", valueName: "folder"))
    var stateDir = "/run/fairlead"

    @Option(
        help: ArgumentHelp(
            "What to take care of: overlay, services, policy; between commas. (default: all, or services with --config)",
            valueName: "list"))
    var components: ComponentList?

    @Option(
        help: """
            How pods of different nodes reach each other: vxlan, direct (routes; the nodes share a link), cross-subnet \
            (routes to nodes on the same link, VXLAN to the others) or none.
            """)
    var overlay = OverlayMode.vxlan

    @Option(help: ArgumentHelp("VXLAN network identifier, the same on all nodes.", valueName: "number"))
    var vni: UInt32 = 1

    @Option(help: ArgumentHelp("UDP port of the VXLAN tunnel, the same on all nodes.", valueName: "port"))
    var vxlanPort = Port(8472)!

    @Option(
        help: """
            Whether the VXLAN device leaves checksums to the network card: on or off. Off is the way out where packets \
            through the tunnel get lost; not given, it stays as it is.
            """)
    var vxlanChecksumOffload: Switch?

    @Option(
        help: ArgumentHelp(
            "Bits of the conntrack mark that policy may use to remember what it allowed.", valueName: "mask"))
    var conntrackMask = MarkField(first: PolicyEpoch(1)!)

    @Option(help: ArgumentHelp("NFLOG group that denied packets are reported to.", valueName: "group"))
    var denialLogGroup = DenialLog().group

    @Flag(
        help:
            "Let other programs write to our nftables tables, and undo what they did; so it is before Linux 6.9 anyway."
    )
    var sharedTables = false

    @Flag(
        help: """
            Remove what the agent made on this node, with --write-cni-conf the runtime's configuration too, and end; pods' \
            own networks and the kernel's settings stay.
            """)
    var cleanup = false

    @Flag(help: "Remove kube-proxy's rules as soon as ours are in place.")
    var takeOver = false

    @Flag(help: "Set what needs all of root's rights (connection tracking, memory shortage), and end.")
    var initOnly = false

    @OptionGroup(title: "CNI plugins") var plugins: PluginFlags

    @OptionGroup(title: "Options of kube-proxy") var proxy: ProxyFlags

    @Option(help: "Least severe messages to log: trace, debug, info, notice, warning, error or critical.")
    var logLevel = Logger.Level.info

    static func main() async { await main(ProxyFlags.normalized(CommandLine.arguments.dropFirst())) }

    func validate() throws {
        let sources = [manifests != nil, kubeconfig != nil, inCluster].count(where: \.self)
        let ends = cleanup || initOnly || proxy.writeConfigTo != nil || plugins.installPlugins
        let needsNone = proxy.config != nil || proxy.master != nil || ends
        guard sources == 1 || sources == 0 && needsNone else {
            throw ValidationError("exactly one of --manifests, --kubeconfig and --in-cluster must be given")
        }
        guard context == nil || kubeconfig != nil else {
            throw ValidationError("--context chooses among the contexts of a --kubeconfig, which is not given")
        }
        if let nodeNameGiven {
            guard !nodeNameGiven.isEmpty, nodeNameGiven.utf8.count <= 253 else {
                throw ValidationError("--node-name must have 1 to 253 characters")
            }
        }
        guard !plugins.writeCniConf || components?.components.contains(.overlay) ?? (proxy.config == nil) else {
            throw ValidationError("--write-cni-conf needs the component overlay, which knows what to write")
        }
        guard vni < 1 << 24 else { throw ValidationError("--vni must be below 16777216") }
    }

    func run() async throws {
        // Objects are decoded on one thread and applied on another.
        ProcessMemory.useOneArena()
        // The usual thread per core, each with buffers of its own, is for servers of many.
        NIOSingletons.groupLoopCountSuggestion = 2
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "fairlead-agent")
        logger.logLevel = logLevel
        if cleanup { return try cleanUp(logger) }
        if plugins.installPlugins {
            return try PluginInstaller.besideThisProgram(target: plugins.cniBinDir, logger: logger).run()
        }
        let (reading, file) = try proxy.configuration()
        for note in reading.notes where note.severity == .warning { logger.warning("\(note)") }
        guard let configuration = reading.configuration else {
            let errors = reading.notes.filter { $0.severity == .error }.map(\.description)
            throw ValidationError(errors.joined(separator: "\n"))
        }
        if configuration.verbosity >= 4 { logger.logLevel = configuration.verbosity >= 6 ? .trace : .debug }
        if let path = proxy.writeConfigTo { return try write(configuration, to: path) }
        if initOnly { return NodeTuning(configuration: configuration, logger: logger).run() }
        let node = try AgentNode(self, configuration, logger: logger)
        try await node.run(watching: file)
    }

    private func cleanUp(_ logger: Logger) throws {
        var removed: [String] = []
        // Before all else: the plugin lets no new pod in while nobody enforces its policies.
        if let file = try plugins.removeConfiguration() { removed.append(file) }
        removed += try removeEverythingOfTheAgent(device: OverlayConfiguration(mode: overlay).device)
        logger.info("Cleaned up", metadata: ["removed": "\(removed.joined(separator: ", "))"])
    }

    private func write(_ configuration: KubeProxyConfiguration, to path: String) throws {
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        let folder = String(path.dropLast(name.utf8.count))
        try StateDirectory.open(folder.isEmpty ? "." : folder, create: false)
            .replace(name, Array(ManifestText.yaml([configuration.document]).utf8))
    }
}

/// A comma-separated list of components, as an argument.
struct ComponentList: ExpressibleByArgument {
    var components: Set<Component>

    init(_ components: Set<Component>) { self.components = components }

    init?(argument: String) {
        var components: Set<Component> = []
        for name in argument.split(separator: ",") {
            guard let component = Component(rawValue: String(name)) else { return nil }
            components.insert(component)
        }
        guard !components.isEmpty else { return nil }
        self.components = components
    }

    var defaultValueDescription: String { components.map(\.rawValue).sorted().joined(separator: ",") }
}

/// A field of the conntrack mark, given as a mask in hexadecimal.
struct MarkField: ExpressibleByArgument {
    /// The first policy epoch in that field.
    var first: PolicyEpoch

    init(first: PolicyEpoch) { self.first = first }

    init?(argument: String) {
        let digits = argument.lowercased().hasPrefix("0x") ? argument.dropFirst(2) : argument[...]
        guard let mask = UInt32(digits, radix: 16), let first = PolicyEpoch(1, mask: mask) else { return nil }
        self.first = first
    }

    var defaultValueDescription: String { "0x\(String(first.mask, radix: 16))" }
}

extension OverlayMode: ExpressibleByArgument {}

enum Switch: String, ExpressibleByArgument {
    case on
    case off
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

extension Port: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}
