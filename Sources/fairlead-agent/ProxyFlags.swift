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

    @Option(help: "Where to serve /healthz, /livez and /readyz; empty for nowhere (0.0.0.0:10256).")
    var healthzBindAddress: String?

    @Option(
        help: "Where to serve /metrics and the other pages that /statusz names; empty for nowhere (127.0.0.1:10249).")
    var metricsBindAddress: String?

    @Option(help: "The port of --healthz-bind-address, where that names none; 0 for no such pages.")
    var healthzPort: Int?

    @Option(help: "The same for --metrics-bind-address.")
    var metricsPort: Int?

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
    var nodeportAddresses: [String] = []

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

    @Option(help: "Half the time after which a change that is not programmed makes the node unhealthy (30s).")
    var iptablesSyncPeriod: String?

    @Option(help: "The same for the mode ipvs (30s).")
    var ipvsSyncPeriod: String?

    @Option(help: "AllowServiceExternalIPs=true|false; other gates are not used.")
    var featureGates: String?

    @Option(name: [.customShort("v"), .customLong("v")], help: "From 4 on log details, from 6 on everything.")
    var verbosity: Int?

    @OptionGroup(visibility: .hidden) var unused: UnusedProxyFlags

    /// What an option says, as a field of the document.
    struct Field {
        var option: String
        /// Such as `conntrack.min`.
        var path: String
        var value: FieldValue

        var isOfLogging: Bool { path.hasPrefix("logging.") }
    }

    /// The flags that Go programs also take as `--flag=true`.
    private static let switches =
        [
            "--bind-address-hard-fail", "--masquerade-all", "--conntrack-tcp-be-liberal", "--init-only", "--cleanup",
        ] + UnusedProxyFlags.switches

    /// The arguments as our parser takes them: what Go programs write in several ways is written in one.
    ///
    /// `--some_flag` becomes `--some-flag`, `-v2` becomes `-v 2`, `--flag=` becomes `--flag ""`, `--flag=true` becomes
    /// `--flag`, and `--flag=false` goes.
    static func normalized(_ arguments: some Sequence<String>) -> [String] {
        arguments.flatMap { argument -> [String] in
            if let level = argument.wholeMatch(of: /-v(\d+)/)?.1 { return ["-v", String(level)] }
            guard argument.hasPrefix("--") else { return [argument] }
            let name = String(argument.prefix { $0 != "=" }.map { $0 == "_" ? "-" : $0 })
            let value = argument.dropFirst(name.utf8.count + 1)
            guard argument.utf8.count > name.utf8.count else { return [name] }
            guard switches.contains(name) else { return value.isEmpty ? [name, ""] : ["\(name)=\(value)"] }
            switch value.lowercased() {
            case "true", "1", "t": return [name]
            case "false", "0", "f": return []
            default: return [argument]
            }
        }
    }

    /// What each option that is given says, as a field of the document.
    private var fields: [Field] {
        let period = proxyMode == "nftables" || proxyMode == nil ? "nftables" : "iptables"
        var fields = unused.fields(section: period)
        func add(_ option: String, _ path: String, _ value: FieldValue?) {
            if let value { fields.append(Field(option: option, path: path, value: value)) }
        }
        add("--proxy-mode", "mode", proxyMode.map(FieldValue.string))
        add("--bind-address", "bindAddress", bindAddress.map(FieldValue.string))
        let any = bindAddress?.contains(":") == true ? ("[::]", "[::1]") : ("0.0.0.0", "127.0.0.1")
        add(
            healthzBindAddress == nil ? "--healthz-port" : "--healthz-bind-address", "healthzBindAddress",
            Self.address(healthzBindAddress, port: healthzPort, usual: any.0))
        add(
            metricsBindAddress == nil ? "--metrics-port" : "--metrics-bind-address", "metricsBindAddress",
            Self.address(metricsBindAddress, port: metricsPort, usual: any.1))
        add("--bind-address-hard-fail", "bindAddressHardFail", bindAddressHardFail ? true : nil)
        add("--detect-local-mode", "detectLocalMode", detectLocalMode.map(FieldValue.string))
        add("--pod-bridge-interface", "detectLocal.bridgeInterface", podBridgeInterface.map(FieldValue.string))
        add(
            "--pod-interface-name-prefix", "detectLocal.interfaceNamePrefix",
            podInterfaceNamePrefix.map(FieldValue.string))
        add("--cluster-cidr", "clusterCIDR", clusterCIDR.map(FieldValue.string))
        add("--masquerade-all", "\(period).masqueradeAll", masqueradeAll ? true : nil)
        add("--nodeport-addresses", "nodePortAddresses", Self.list(nodeportAddresses))
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
        add("--iptables-sync-period", "\(period).syncPeriod", iptablesSyncPeriod.map(FieldValue.string))
        add("--ipvs-sync-period", "ipvs.syncPeriod", ipvsSyncPeriod.map(FieldValue.string))
        add("--feature-gates", "featureGates", featureGates.map(Self.gates))
        add("-v", "logging.verbosity", verbosity.map(FieldValue.integer))
        return fields
    }

    /// An address with the port of the older option, where it names none of its own; empty for port 0.
    private static func address(_ address: String?, port: Int?, usual: String) -> FieldValue? {
        guard let port, port != 0, address != "" else { return port == 0 ? "" : address.map(FieldValue.string) }
        let host = address ?? usual
        let colons = host.count { $0 == ":" }
        if colons == 1 || host.contains("]:") { return .string(host) }
        return .string(colons > 1 && !host.hasPrefix("[") ? "[\(host)]:\(port)" : "\(host):\(port)")
    }

    /// The elements of an option that may be repeated, each a list between commas; nil where it is not given.
    static func list(_ values: [String]) -> FieldValue? {
        guard !values.isEmpty else { return nil }
        return .array(values.flatMap { $0.split(separator: ",") }.map { .string(String($0)) })
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

    /// What the file says, or where there is none the options; of the options beside a file only those of logging count.
    ///
    /// - Returns: Also the file's bytes, to notice when they change.
    func configuration() throws -> (reading: KubeProxyConfiguration.Reading, file: [UInt8]?) {
        guard let config else { return (configurationOfOptions, nil) }
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
        let (ofLogging, others) = (fields.filter(\.isOfLogging), fields.filter { !$0.isOfLogging })
        for field in ofLogging { document = KubeProxyConfiguration.setting(field.value, at: field.path, in: document) }
        var reading = KubeProxyConfiguration.read(document, source: config)
        for field in others {
            reading.notes.append(
                Note(
                    source: "command line", object: nil, field: field.option,
                    message: "is not used, because \(config) is given with --config", severity: .warning))
        }
        reading.notes += unused.notes
        return (reading, bytes)
    }

    private var configurationOfOptions: KubeProxyConfiguration.Reading {
        let fields = fields
        var tree: FieldValue?
        for field in fields { tree = KubeProxyConfiguration.setting(field.value, at: field.path, in: tree) }
        var reading = KubeProxyConfiguration.read(tree, source: "command line", isFile: proxyMode != nil)
        // Whoever wrote an option knows it by that name.
        for index in reading.notes.indices {
            let path = reading.notes[index].field
            if let field = fields.last(where: { "\($0.path).".hasPrefix("\(path.prefix { $0 != "[" }).") }) {
                reading.notes[index].field = field.option
            }
        }
        reading.notes += unused.notes
        // A file has no way to say this: there, empty asks for the default.
        if healthzBindAddress == "" || healthzPort == 0 { reading.configuration?.servesNoHealth() }
        if metricsBindAddress == "" || metricsPort == 0 { reading.configuration?.servesNoMetrics() }
        return reading
    }
}
