import ArgumentParser
import KernelInterface
import KubernetesObjects
import ManifestFolder
import ProxyConfiguration

/// The options of kube-proxy, by its names and with its meanings.
///
/// They and a file given with `--config` say the same things: each option sets a field of the document.
struct ProxyFlags: ParsableArguments {
    @Option(help: ArgumentHelp("The KubeProxyConfiguration (v1alpha1) to follow.", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("Write the configuration with all defaults to this file, and end.", valueName: "file"))
    var writeConfigTo: String?

    @Option(help: ArgumentHelp("The API server's URL, whatever the kubeconfig says.", valueName: "url"))
    var master: String?

    @Option(help: "The proxy mode asked for: iptables, ipvs or nftables; rules are made by nftables whichever it is.")
    var proxyMode: String?

    @Option(help: "The node's own address, whatever its Node object says.")
    var bindAddress: String?

    @Option(help: "Where to serve /healthz, /livez and /readyz (0.0.0.0:10256).")
    var healthzBindAddress: String?

    @Option(help: "Where to serve /metrics, /proxyMode and /configz (127.0.0.1:10249).")
    var metricsBindAddress: String?

    @Flag(help: "End if one of these addresses cannot be listened at.")
    var bindAddressHardFail = false

    @Option(help: "How to tell pods' traffic: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.")
    var detectLocalMode: String?

    @Option(help: "The pods' bridge, for BridgeInterface.")
    var podBridgeInterface: String?

    @Option(help: "The beginning of the names of pods' interfaces, for InterfaceNamePrefix.")
    var podInterfaceNamePrefix: String?

    @Option(help: "The pods' network, or one of each family between commas, for ClusterCIDR.")
    var clusterCIDR: String?

    @Flag(help: "Masquerade everything that goes to a cluster IP.")
    var masqueradeAll = false

    @Option(help: "Networks of the addresses at which node ports answer, or primary; between commas.")
    var nodeportAddresses: String?

    @Option(help: "From -1000 to 1000: how willingly the kernel ends the agent when memory is short (-999).")
    var oomScoreAdj: Int?

    @Option(help: "Connections to track for each processor; 0 leaves the limit as it is (32768).")
    var conntrackMaxPerCore: Int?

    @Option(help: "Least number of connections to track (131072).")
    var conntrackMin: Int?

    @Option(help: "After how long to forget a silent TCP connection; 0 leaves it as it is (24h).")
    var conntrackTCPTimeoutEstablished: String?

    @Option(help: "The same for one that its other end has closed (1h).")
    var conntrackTCPTimeoutCloseWait: String?

    @Flag(help: "Let TCP packets outside of their connection's window pass.")
    var conntrackTCPBeLiberal = false

    @Option(help: "After how long to forget a UDP conversation without an answer; 0 leaves it as it is.")
    var conntrackUDPTimeout: String?

    @Option(help: "The same for one with answers.")
    var conntrackUDPTimeoutStream: String?

    @Option(help: "Not used: watches are believed.")
    var configSyncPeriod: String?

    @Option(help: "Half the time after which a change that is not programmed makes the node unhealthy (30s).")
    var iptablesSyncPeriod: String?

    @Option(help: "Not used: changes are programmed as they come.")
    var iptablesMinSyncPeriod: String?

    @Option(help: "AllowServiceExternalIPs=true|false; other gates are not used.")
    var featureGates: String?

    @Option(name: [.customShort("v"), .customLong("v")], help: "From 4 on log details, from 6 on everything.")
    var verbosity: Int?

    /// The flags that Go programs also take as `--flag=true`.
    private static let switches = [
        "--bind-address-hard-fail", "--masquerade-all", "--conntrack-tcp-be-liberal", "--init-only", "--cleanup",
    ]

    /// The arguments with `--flag=true` as `--flag`, and without `--flag=false`.
    static func normalized(_ arguments: some Sequence<String>) -> [String] {
        arguments.compactMap { argument in
            guard let name = switches.first(where: { argument.hasPrefix("\($0)=") }) else { return argument }
            switch argument.dropFirst(name.count + 1).lowercased() {
            case "true", "1", "t": return name
            case "false", "0", "f": return nil
            default: return argument
            }
        }
    }

    /// What each option that is given says, as a field of the document.
    private var fields: [(option: String, path: String, value: FieldValue)] {
        let period = proxyMode == "nftables" || proxyMode == nil ? "nftables" : "iptables"
        var fields: [(option: String, path: String, value: FieldValue)] = []
        func add(_ option: String, _ path: String, _ value: FieldValue?) {
            if let value { fields.append((option, path, value)) }
        }
        add("--proxy-mode", "mode", proxyMode.map(FieldValue.string))
        add("--bind-address", "bindAddress", bindAddress.map(FieldValue.string))
        add("--healthz-bind-address", "healthzBindAddress", healthzBindAddress.map(FieldValue.string))
        add("--metrics-bind-address", "metricsBindAddress", metricsBindAddress.map(FieldValue.string))
        add("--bind-address-hard-fail", "bindAddressHardFail", bindAddressHardFail ? true : nil)
        add("--detect-local-mode", "detectLocalMode", detectLocalMode.map(FieldValue.string))
        add("--pod-bridge-interface", "detectLocal.bridgeInterface", podBridgeInterface.map(FieldValue.string))
        add(
            "--pod-interface-name-prefix", "detectLocal.interfaceNamePrefix",
            podInterfaceNamePrefix.map(FieldValue.string))
        add("--cluster-cidr", "clusterCIDR", clusterCIDR.map(FieldValue.string))
        add("--masquerade-all", "\(period).masqueradeAll", masqueradeAll ? true : nil)
        add("--nodeport-addresses", "nodePortAddresses", nodeportAddresses.map(Self.list))
        add("--oom-score-adj", "oomScoreAdj", oomScoreAdj.map(FieldValue.integer))
        add("--conntrack-max-per-core", "conntrack.maxPerCore", conntrackMaxPerCore.map(FieldValue.integer))
        add("--conntrack-min", "conntrack.min", conntrackMin.map(FieldValue.integer))
        add(
            "--conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout",
            conntrackTCPTimeoutEstablished.map(FieldValue.string))
        add(
            "--conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout",
            conntrackTCPTimeoutCloseWait.map(FieldValue.string))
        add("--conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", conntrackTCPBeLiberal ? true : nil)
        add("--conntrack-udp-timeout", "conntrack.udpTimeout", conntrackUDPTimeout.map(FieldValue.string))
        add(
            "--conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout",
            conntrackUDPTimeoutStream.map(FieldValue.string))
        add("--config-sync-period", "configSyncPeriod", configSyncPeriod.map(FieldValue.string))
        add("--iptables-sync-period", "\(period).syncPeriod", iptablesSyncPeriod.map(FieldValue.string))
        add("--iptables-min-sync-period", "\(period).minSyncPeriod", iptablesMinSyncPeriod.map(FieldValue.string))
        add("--feature-gates", "featureGates", featureGates.map(Self.gates))
        return fields
    }

    private static func list(_ text: String) -> FieldValue {
        .array(text.split(separator: ",").map { .string(String($0)) })
    }

    private static func gates(_ text: String) -> FieldValue {
        .object(
            FieldObject(
                text.split(separator: ",").map { gate in
                    let parts = gate.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                    let value: FieldValue =
                        switch parts.count > 1 ? parts[1] : "" {
                        case "true": true
                        case "false": false
                        default: .string(parts.count > 1 ? String(parts[1]) : "")
                        }
                    return .init(key: String(parts[0]), value: value)
                }))
    }

    // MARK: - Reading

    /// Longer files are no configurations.
    static let sizeLimit = 1 << 20

    /// What the file says, or where there is none the options; of the options beside a file only `-v` counts.
    ///
    /// - Returns: Also the file's bytes, to notice when they change.
    func configuration() throws -> (reading: KubeProxyConfiguration.Reading, file: [UInt8]?) {
        guard let config else {
            var tree: FieldValue?
            for field in fields { tree = KubeProxyConfiguration.setting(field.value, at: field.path, in: tree) }
            if let verbosity {
                tree = KubeProxyConfiguration.setting(.integer(verbosity), at: "logging.verbosity", in: tree)
            }
            return (KubeProxyConfiguration.read(tree, source: "command line", isFile: proxyMode != nil), nil)
        }
        guard let bytes = try readFile(config, limit: Self.sizeLimit) else {
            throw ValidationError("\(config) does not exist")
        }
        let documents: [FieldValue]
        do {
            documents = try ManifestText.documents(in: bytes)
        } catch {
            throw ValidationError("\(config): \(error)")
        }
        guard documents.count == 1, var document = documents.first else {
            throw ValidationError("\(config) holds \(documents.count) documents; one is meant")
        }
        if let verbosity {
            document = KubeProxyConfiguration.setting(.integer(verbosity), at: "logging.verbosity", in: document)
        }
        var reading = KubeProxyConfiguration.read(document, source: config)
        for field in fields {
            reading.notes.append(
                Note(
                    source: "command line", object: nil, field: field.option,
                    message: "is not used, because \(config) is given with --config", severity: .warning))
        }
        return (reading, bytes)
    }
}
