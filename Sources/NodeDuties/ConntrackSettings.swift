public import ProxyConfiguration

/// What the kernel's connection tracking should be set to.
public struct ConntrackSettings: Hashable, Sendable {
    /// A setting below `/proc/sys/net/netfilter`.
    public struct Setting: Hashable, Sendable {
        public var name: String
        public var value: Int
    }

    /// Connections the table may hold; nil leaves it as it is.
    public var most: Int?
    /// All settings, that one included; what is to be left alone is not among them.
    public var settings: [Setting]

    /// More connections than that would take too much memory on a machine of many processors.
    private static let limit = 1 << 20

    public init(_ configuration: KubeProxyConfiguration.Conntrack, processors: Int) {
        settings = []
        if configuration.maxPerCore > 0 {
            let (scaled, overflows) = configuration.maxPerCore.multipliedReportingOverflow(by: processors)
            most = overflows || scaled > Self.limit ? Self.limit : max(scaled, configuration.min)
        }
        if let most, most > 0 { settings.append(Setting(name: "nf_conntrack_max", value: most)) }
        let timeouts: KeyValuePairs<String, Duration> = [
            "nf_conntrack_tcp_timeout_established": configuration.tcpEstablishedTimeout,
            "nf_conntrack_tcp_timeout_close_wait": configuration.tcpCloseWaitTimeout,
            "nf_conntrack_udp_timeout": configuration.udpTimeout,
            "nf_conntrack_udp_timeout_stream": configuration.udpStreamTimeout,
        ]
        // The kernel counts whole seconds; less than one would end every connection at once.
        for (name, timeout) in timeouts where timeout >= .seconds(1) {
            settings.append(Setting(name: name, value: Int(timeout.components.seconds)))
        }
        if configuration.tcpBeLiberal { settings.append(Setting(name: "nf_conntrack_tcp_be_liberal", value: 1)) }
    }

    /// How many buckets the table needs, so that chains stay short: a fourth of its connections.
    public var buckets: Int? { most.map { $0 / 4 } }
}
