import FoundationEssentials
import KernelInterface
import KubernetesClient
import KubernetesObjects
import Logging
import NetworkAddresses
import NodeDuties
import OverlayRoutes
import PolicyRules
import ProxyConfiguration
import Reconciliation
import ServiceLifecycle
import ServiceRules
import UnixSignals

/// The agent of one node, put together from what its command line and its configuration say.
struct AgentNode {
    private let command: AgentCommand
    private let configuration: KubeProxyConfiguration
    private let logger: Logger
    private let name: String
    private let components: Set<Component>
    /// Nil where a folder of manifests stands in for the API server.
    private let access: ClusterAccess?

    init(_ command: AgentCommand, _ configuration: KubeProxyConfiguration, logger: Logger) throws {
        self.command = command
        self.configuration = configuration
        self.logger = logger
        components =
            command.components?.components ?? (command.proxy.config == nil ? Set(Component.allCases) : [.services])
        name = try Self.name(command, configuration)
        access = command.manifests == nil ? try Self.access(command, configuration) : nil
    }

    /// The command line's, the file's or the host's.
    private static func name(_ command: AgentCommand, _ configuration: KubeProxyConfiguration) throws -> String {
        let candidates = [command.nodeNameGiven, configuration.hostnameOverride]
        if let name = candidates.compactMap(\.self).first(where: { !$0.isEmpty }) { return name }
        return try KernelSetting.read(["kernel", "hostname"])?.lowercased() ?? "localhost"
    }

    private static func access(_ command: AgentCommand, _ configuration: KubeProxyConfiguration) throws -> ClusterAccess
    {
        let master = try command.proxy.master.map { url in
            guard let server = ClusterAccess.Server(url) else {
                throw ConfigurationError(
                    file: "command line", field: "--master", message: "\"\(url)\" is no URL of a server")
            }
            return server
        }
        let path = configuration.kubeconfig.isEmpty ? command.kubeconfig : configuration.kubeconfig
        var access: ClusterAccess
        if let path {
            access = try Kubeconfig.open(path).access(context: path == command.kubeconfig ? command.context : nil)
        } else if let master, !command.inCluster {
            access = ClusterAccess(server: master)
        } else {
            access = try ClusterAccess.inCluster(environment: ProcessInfo.processInfo.environment)
        }
        if let master { access.server = master }
        return access
    }

    /// Runs until it is told to end, or until its configuration changes.
    ///
    /// - Parameter file: What the configuration file held, to notice changes.
    func run(watching file: [UInt8]?) async throws {
        let mailbox = Mailbox()
        let requests = RequestCounts()
        let events = EventSender(
            nodeName: name, writer: access.map { ObjectWriter($0, counts: requests) }, logger: logger)
        let state = DutyState(
            nodeName: name, components: components, limit: configuration.syncPeriod * 2, requests: requests)
        let ports = HealthCheckPorts(
            state: state, settings: configuration.services, nodeName: name, events: events, logger: logger)
        let ownsTables = try !command.sharedTables && NftablesSocket.open().knowsOwnership()
        var settings = NodeReconciler.Configuration(
            nodeName: name, components: components,
            overlay: OverlayConfiguration(
                mode: command.overlay, vni: command.vni, port: command.vxlanPort,
                checksumOffload: command.vxlanChecksumOffload.map { $0 == .on }),
            services: configuration.services, denialLog: .init(group: command.denialLogGroup),
            firstEpoch: command.conntrackMask.first)
        settings.ownsTables = ownsTables
        let reconciler = try NodeReconciler(settings, logger: logger)
        let plugins = pluginConfigurationWriter()
        var services: [any ServiceLifecycle.Service] = [
            ReconcilerService(
                reconciler: reconciler, mailbox: mailbox, status: try StatusFile(command.stateDir, node: name),
                plugins: plugins, state: state, ports: ports, events: events, logger: logger),
            // Attachments first: a pod that already has its address is known before its policies are compiled.
            try AttachmentSource(command.stateDir, mailbox: mailbox, logger: logger),
            try source(mailbox, requests),
            try KernelChangeSource.network(mailbox: mailbox),
            events,
            NodeArrival(name: name, state: state, settings: configuration.services, logger: logger),
        ]
        if let plugins { services.append(plugins) }
        // A proxy beside another network has no attachments to look after.
        if components != [.services] {
            services.append(
                try AttachmentKeeper(
                    stateFolder: command.stateDir, programs: command.plugins.cniBinDir,
                    grace: .seconds(command.plugins.garbageGrace), logger: logger))
        }
        if !ownsTables { services.append(try KernelChangeSource.ruleset(mailbox: mailbox)) }
        if components.contains(.services) {
            services += [ports, KubeProxyWatch(state: state, takesOver: command.takeOver, logger: logger)]
        }
        services += pages(of: state, events: events)
        if let file, let path = command.proxy.config { services.append(try ConfigurationWatch(path, bytes: file)) }
        // A lab's nodes share one kernel with its owner's machine, whose settings are not theirs to make.
        if access != nil, components.contains(.services) {
            NodeTuning(configuration: configuration, logger: logger).run()
        }
        logger.info(
            "Started",
            metadata: ["node": "\(name)", "source": "\(access?.server.description ?? command.manifests ?? "")"])
        events.tell(.node(name, .normal, reason: "Starting"))
        try await run(services)
    }

    private func pluginConfigurationWriter() -> PluginConfigurationWriter? {
        let flags = command.plugins
        guard flags.writeCniConf else { return nil }
        var clusterCIDRs: [IPPrefix] = []
        if case .clusterCIDR(let ranges) = configuration.services.localTraffic { clusterCIDRs = ranges }
        return PluginConfigurationWriter(
            .init(
                folder: flags.cniConfDir, programs: flags.cniBinDir, version: flags.cniVersion,
                network: flags.cniNetwork, clusterCIDRs: clusterCIDRs, stateFolder: command.stateDir,
                leaseFolder: flags.cniDataDir, hasPolicy: components.contains(.policy)),
            logger: logger)
    }

    private func run(_ services: [any ServiceLifecycle.Service]) async throws {
        let configurations = services.map { service in
            ServiceGroupConfiguration.ServiceConfiguration(
                service: service, failureTerminationBehavior: .gracefullyShutdownGroup)
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: configurations, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }

    /// Where the objects come from.
    private func source(_ mailbox: Mailbox, _ requests: RequestCounts) throws -> any ServiceLifecycle.Service {
        if let access {
            return KubernetesSource(access, components: components, counts: requests, mailbox: mailbox)
        }
        return try ManifestSource(command.manifests ?? "", mailbox: mailbox)
    }

    private func pages(of state: DutyState, events: EventSender) -> [any ServiceLifecycle.Service] {
        let pages = NodePages(
            state: state, document: documentInForce, options: ProxyFlags.normalized(CommandLine.arguments.dropFirst()),
            status: [
                ("Node", name), ("Source", access?.server.description ?? command.manifests ?? ""),
                ("Components", components.map(\.rawValue).sorted().joined(separator: ", ")),
            ])
        func server(_ name: String, _ failure: String, _ address: SocketAddress, _ answer: @escaping PageListener.Pages)
            -> PageServer
        {
            // As in Go, every address of the host means those of IPv6 too.
            let isOpen = address.address.isUnspecified && state.hasIPv6
            let address = isOpen ? SocketAddress(.v6(IPv6Address(rawValue: 0)), address.port) : address
            return PageServer(
                name: name, failure: failure, listener: PageListener(address: address, pages: answer),
                isEssential: configuration.bindAddressHardFail, nodeName: self.name, events: events, logger: logger)
        }
        return [
            configuration.healthzAddress.map {
                server("health", "FailedToStartProxierHealthcheck", $0, pages.health)
            },
            configuration.metricsAddress.map { server("metrics", "FailedToStartMetricServer", $0, pages.metrics) },
        ].compactMap(\.self)
    }

    /// The configuration with what was chosen where it leaves the choice open.
    private var documentInForce: FieldValue {
        var document = configuration.document
        document["hostnameOverride"] = .string(command.nodeNameGiven ?? configuration.hostnameOverride)
        document["mode"] = .string(configuration.mode.rawValue)
        document["detectLocalMode"] =
            switch configuration.services.localTraffic {
            case .clusterCIDR: "ClusterCIDR"
            case .nodeCIDR: "NodeCIDR"
            case .bridgeInterface: "BridgeInterface"
            case .interfaceNamePrefix: "InterfaceNamePrefix"
            }
        if configuration.services.nodePortAddresses == .primary { document["nodePortAddresses"] = ["primary"] }
        return document
    }
}
