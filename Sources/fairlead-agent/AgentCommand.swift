public import ArgumentParser
import FoundationEssentials
import KernelInterface
import KubernetesClient
public import Logging
public import NetworkAddresses
public import OverlayRoutes
import PolicyRules
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

    @Option(help: ArgumentHelp("This node's name, as in its Node object.", valueName: "name"))
    var nodeName: String

    @Option(
        help: ArgumentHelp("Where the CNI plugins record attachments and the agent its status.", valueName: "folder"))
    var stateDir = "/run/fairlead"

    @Option(help: ArgumentHelp("What to take care of: overlay, services, policy; between commas.", valueName: "list"))
    var components = ComponentList(Set(Component.allCases))

    @Option(
        help: "How pods of different nodes reach each other: vxlan, direct (routes; the nodes share a link) or none.")
    var overlay = OverlayMode.vxlan

    @Option(help: ArgumentHelp("VXLAN network identifier, the same on all nodes.", valueName: "number"))
    var vni: UInt32 = 1

    @Option(help: ArgumentHelp("UDP port of the VXLAN tunnel, the same on all nodes.", valueName: "port"))
    var vxlanPort = Port(8472)!

    @Option(
        help: ArgumentHelp(
            "Bits of the conntrack mark that policy may use to remember what it allowed.", valueName: "mask"))
    var conntrackMask = MarkField(first: PolicyEpoch(1)!)

    @Option(help: ArgumentHelp("NFLOG group that denied packets are reported to.", valueName: "group"))
    var denialLogGroup = DenialLog().group

    @Option(help: "Least severe messages to log: trace, debug, info, notice, warning, error or critical.")
    var logLevel = Logger.Level.info

    func validate() throws {
        let sources = [manifests != nil, kubeconfig != nil, inCluster]
        guard sources.count(where: \.self) == 1 else {
            throw ValidationError("exactly one of --manifests, --kubeconfig and --in-cluster must be given")
        }
        guard context == nil || kubeconfig != nil else {
            throw ValidationError("--context chooses among the contexts of a --kubeconfig, which is not given")
        }
        guard !nodeName.isEmpty, nodeName.utf8.count <= 253 else {
            throw ValidationError("--node-name must have 1 to 253 characters")
        }
        guard vni < 1 << 24 else { throw ValidationError("--vni must be below 16777216") }
    }

    func run() async throws {
        // Objects are decoded on one thread and applied on another.
        ProcessMemory.useOneArena()
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "fairlead-agent")
        logger.logLevel = logLevel
        let mailbox = Mailbox()
        let reconciler = try NodeReconciler(
            NodeReconciler.Configuration(
                nodeName: nodeName, components: components.components,
                overlay: OverlayConfiguration(mode: overlay, vni: vni, port: vxlanPort),
                denialLog: DenialLog(group: denialLogGroup), firstEpoch: conntrackMask.first),
            logger: logger)
        let (objects, source) = try objectSource(mailbox)
        let group = ServiceGroup(
            services: [
                ReconcilerService(
                    reconciler: reconciler, mailbox: mailbox, status: try StatusFile(stateDir, node: nodeName),
                    logger: logger),
                // Attachments first: a pod that already has its address is known before its policies are compiled.
                try AttachmentSource(stateDir, mailbox: mailbox, logger: logger),
                objects,
                try KernelChangeSource(mailbox: mailbox),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        logger.info("Started", metadata: ["node": "\(nodeName)", "source": "\(source)"])
        try await group.run()
    }

    /// Where the objects come from, and what to call it.
    private func objectSource(_ mailbox: Mailbox) throws -> (any ServiceLifecycle.Service, String) {
        if let manifests { return (try ManifestSource(manifests, mailbox: mailbox), manifests) }
        let access =
            if let kubeconfig {
                try Kubeconfig.open(kubeconfig).access(context: context)
            } else {
                try ClusterAccess.inCluster(environment: ProcessInfo.processInfo.environment)
            }
        let source = KubernetesSource(access, components: components.components, mailbox: mailbox)
        return (source, "\(access.server)")
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

extension Logger.Level: @retroactive ExpressibleByArgument {}

extension Port: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}
