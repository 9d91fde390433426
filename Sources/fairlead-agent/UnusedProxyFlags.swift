import ArgumentParser
import KubernetesObjects

/// The options of kube-proxy that change nothing here.
///
/// They are taken so that a command line need not be edited to switch, and warned about by name, with the reason, where
/// they ask for something other than the default. `--help-hidden` lists them.
struct UnusedProxyFlags: ParsableArguments {
    @Option(help: .unused) var kubeApiBurst: Int?
    @Option(help: .unused) var kubeApiContentType: String?
    @Option(help: .unused) var kubeApiQps: Double?
    @Option(help: .unused) var configSyncPeriod: String?
    @Flag(help: .unused) var profiling = false
    @Option(help: .unused) var showHiddenMetricsForVersion: String?

    @Option(help: .unused) var iptablesMasqueradeBit: Int?
    @Flag(help: .unused) var iptablesLocalhostNodeports = false
    @Option(help: .unused) var iptablesMinSyncPeriod: String?

    @Option(help: .unused) var ipvsExcludeCidrs: [String] = []
    @Option(help: .unused) var ipvsMinSyncPeriod: String?
    @Option(help: .unused) var ipvsScheduler: String?
    @Flag(help: .unused) var ipvsStrictArp = false
    @Option(help: .unused) var ipvsTcpTimeout: String?
    @Option(help: .unused) var ipvsTcpfinTimeout: String?
    @Option(help: .unused) var ipvsUdpTimeout: String?

    @Option(help: .unused) var loggingFormat: String?
    @Option(help: .unused) var logFlushFrequency: String?
    @Option(help: .unused) var logJsonInfoBufferSize: String?
    @Flag(help: .unused) var logJsonSplitStream = false
    @Option(help: .unused) var logTextInfoBufferSize: String?
    @Flag(help: .unused) var logTextSplitStream = false
    @Option(help: .unused) var vmodule: String?

    @Option(help: .unused) var bootIdFile: String?
    @Option(help: .unused) var machineIdFile: String?

    /// Those among them that may be written as `--flag=true`.
    static let switches = [
        "--profiling", "--iptables-localhost-nodeports", "--ipvs-strict-arp", "--log-json-split-stream",
        "--log-text-split-stream",
    ]

    /// What each one that is given says, as a field of the document; reading the document finds out whether to warn.
    ///
    /// - Parameter section: The mode's section of the document.
    func fields(section: String) -> [ProxyFlags.Field] {
        let fields: [(String, String, FieldValue?)] = [
            ("--kube-api-burst", "clientConnection.burst", kubeApiBurst.map(FieldValue.integer)),
            ("--kube-api-content-type", "clientConnection.contentType", kubeApiContentType.map(FieldValue.string)),
            ("--kube-api-qps", "clientConnection.qps", kubeApiQps.map(Self.number)),
            ("--config-sync-period", "configSyncPeriod", configSyncPeriod.map(FieldValue.string)),
            ("--profiling", "enableProfiling", profiling ? true : nil),
            (
                "--show-hidden-metrics-for-version", "showHiddenMetricsForVersion",
                showHiddenMetricsForVersion.map(FieldValue.string)
            ),
            ("--iptables-masquerade-bit", "iptables.masqueradeBit", iptablesMasqueradeBit.map(FieldValue.integer)),
            (
                "--iptables-localhost-nodeports", "iptables.localhostNodePorts",
                iptablesLocalhostNodeports ? true : nil
            ),
            ("--iptables-min-sync-period", "\(section).minSyncPeriod", iptablesMinSyncPeriod.map(FieldValue.string)),
            ("--ipvs-exclude-cidrs", "ipvs.excludeCIDRs", ProxyFlags.list(ipvsExcludeCidrs)),
            ("--ipvs-min-sync-period", "ipvs.minSyncPeriod", ipvsMinSyncPeriod.map(FieldValue.string)),
            ("--ipvs-scheduler", "ipvs.scheduler", ipvsScheduler.map(FieldValue.string)),
            ("--ipvs-strict-arp", "ipvs.strictARP", ipvsStrictArp ? true : nil),
            ("--ipvs-tcp-timeout", "ipvs.tcpTimeout", ipvsTcpTimeout.map(FieldValue.string)),
            ("--ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", ipvsTcpfinTimeout.map(FieldValue.string)),
            ("--ipvs-udp-timeout", "ipvs.udpTimeout", ipvsUdpTimeout.map(FieldValue.string)),
            ("--logging-format", "logging.format", loggingFormat.map(FieldValue.string)),
            ("--log-flush-frequency", "logging.flushFrequency", logFlushFrequency.map(FieldValue.string)),
            (
                "--log-json-info-buffer-size", "logging.options.json.infoBufferSize",
                logJsonInfoBufferSize.map(FieldValue.string)
            ),
            ("--log-json-split-stream", "logging.options.json.splitStream", logJsonSplitStream ? true : nil),
            (
                "--log-text-info-buffer-size", "logging.options.text.infoBufferSize",
                logTextInfoBufferSize.map(FieldValue.string)
            ),
            ("--log-text-split-stream", "logging.options.text.splitStream", logTextSplitStream ? true : nil),
            ("--vmodule", "logging.vmodule", ProxyFlags.list(vmodule.map { [$0] } ?? [])),
        ]
        return fields.compactMap { option, path, value in
            value.map { ProxyFlags.Field(option: option, path: path, value: $0) }
        }
    }

    /// Those that no field of the document stands for.
    var notes: [Note] {
        [("--boot-id-file", bootIdFile), ("--machine-id-file", machineIdFile)].compactMap { option, value in
            guard value != nil else { return nil }
            return Note(
                source: "command line", object: nil, field: option,
                message: "is not used: the machine's identity is not asked for", severity: .warning)
        }
    }

    private static func number(_ value: Double) -> FieldValue {
        Int(exactly: value).map(FieldValue.integer) ?? .double(value)
    }
}

extension ArgumentHelp {
    fileprivate static let unused = ArgumentHelp("Taken, and not used.", visibility: .hidden)
}
