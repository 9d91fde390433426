internal import KubernetesObjects
internal import NetworkAddresses

/// The document as it is when nothing is said: every field of v1alpha1 with its default.
///
/// It is also the list of the fields there are. A map that is empty here may hold any key.
enum DocumentDefaults {
    static let apiVersion = "kubeproxy.config.k8s.io/v1alpha1"
    static let kind = "KubeProxyConfiguration"

    /// - Parameter family: Of `bindAddress`; the other addresses follow it.
    static func tree(_ family: AddressFamily) -> FieldValue {
        let (any, loopback) = family == .ipv4 ? ("0.0.0.0", "127.0.0.1") : ("[::]", "[::1]")
        return [
            "apiVersion": .string(apiVersion),
            "bindAddress": "0.0.0.0",
            "bindAddressHardFail": false,
            "clientConnection": [
                "acceptContentTypes": "",
                "burst": 10,
                "contentType": "application/vnd.kubernetes.protobuf",
                "kubeconfig": "",
                "qps": 5,
            ],
            "clusterCIDR": "",
            "configSyncPeriod": "15m0s",
            "conntrack": [
                "maxPerCore": 32768,
                "min": 131072,
                "tcpBeLiberal": false,
                "tcpCloseWaitTimeout": "1h0m0s",
                "tcpEstablishedTimeout": "24h0m0s",
                "udpStreamTimeout": "0s",
                "udpTimeout": "0s",
            ],
            "detectLocal": ["bridgeInterface": "", "interfaceNamePrefix": ""],
            "detectLocalMode": "",
            "enableProfiling": false,
            "featureGates": [:],
            "healthzBindAddress": .string("\(any):10256"),
            "hostnameOverride": "",
            "iptables": [
                "localhostNodePorts": true,
                "masqueradeAll": false,
                "masqueradeBit": 14,
                "minSyncPeriod": "1s",
                "syncPeriod": "30s",
            ],
            "ipvs": [
                "excludeCIDRs": .null,
                "minSyncPeriod": "0s",
                "scheduler": "",
                "strictARP": false,
                "syncPeriod": "30s",
                "tcpFinTimeout": "0s",
                "tcpTimeout": "0s",
                "udpTimeout": "0s",
            ],
            "kind": .string(kind),
            "logging": [
                "flushFrequency": "5s",
                "format": "text",
                "options": [:],
                "verbosity": 0,
                "vmodule": .null,
            ],
            "metricsBindAddress": .string("\(loopback):10249"),
            "mode": "",
            "nftables": [
                "masqueradeAll": false,
                "masqueradeBit": 14,
                "minSyncPeriod": "1s",
                "syncPeriod": "30s",
            ],
            "nodePortAddresses": .null,
            "oomScoreAdj": -999,
            "portRange": "",
            "showHiddenMetricsForVersion": "",
            "windowsRunAsService": false,
            "winkernel": [
                "enableDSR": false,
                "forwardHealthCheckVip": false,
                "networkName": "",
                "rootHnsEndpointName": "",
                "sourceVip": "",
            ],
        ]
    }

    /// Fields of which zero is a value like any other; everywhere else it asks for the default.
    static let optional: Set<String> = [
        "conntrack.maxPerCore", "conntrack.min", "conntrack.tcpCloseWaitTimeout", "conntrack.tcpEstablishedTimeout",
        "featureGates", "iptables.localhostNodePorts", "iptables.masqueradeBit", "nftables.masqueradeBit",
        "oomScoreAdj",
    ]

    /// Fields that change nothing here, and why; warned about where they ask for something.
    static let unused: KeyValuePairs<String, String> = [
        "clientConnection.acceptContentTypes": "the client chooses the encoding",
        "clientConnection.burst": "only lists and watches are asked for, and a server's throttling is obeyed",
        "clientConnection.contentType": "the client chooses the encoding",
        "clientConnection.qps": "only lists and watches are asked for, and a server's throttling is obeyed",
        "configSyncPeriod": "watches are believed; nothing is listed again on a timer",
        "enableProfiling": "there are no profiling pages",
        "iptables.masqueradeBit": "no packet mark is needed to masquerade",
        "iptables.minSyncPeriod": "changes are programmed as they come",
        "ipvs.excludeCIDRs": "there is no IPVS here",
        "ipvs.minSyncPeriod": "changes are programmed as they come",
        "ipvs.scheduler": "connections are spread at random",
        "ipvs.strictARP": "no service address is put on an interface",
        "ipvs.tcpFinTimeout": "there is no IPVS here",
        "ipvs.tcpTimeout": "there is no IPVS here",
        "ipvs.udpTimeout": "there is no IPVS here",
        "logging.flushFrequency": "messages are written at once",
        "logging.format": "messages are text",
        "logging.options": "messages are text",
        "logging.vmodule": "verbosity is the same for all parts",
        "nftables.masqueradeBit": "no packet mark is needed to masquerade",
        "nftables.minSyncPeriod": "changes are programmed as they come",
        "portRange": "kube-proxy has not used it for years either",
        "showHiddenMetricsForVersion": "no metric is hidden",
        "windowsRunAsService": "this is Linux",
        "winkernel.enableDSR": "this is Linux",
        "winkernel.forwardHealthCheckVip": "this is Linux",
        "winkernel.networkName": "this is Linux",
        "winkernel.rootHnsEndpointName": "this is Linux",
        "winkernel.sourceVip": "this is Linux",
    ]
}

extension FieldValue {
    /// Whether the value asks for nothing, as Go's zero values do.
    var isZero: Bool {
        switch self {
        case .null: true
        case .bool(let value): !value
        case .integer(let number): number == 0
        case .double(let number): number == 0
        case .string(let text): text.isEmpty || text == "0" || text == "0s"
        case .array(let elements): elements.isEmpty
        case .object(let object): object.entries.allSatisfy(\.value.isZero)
        }
    }

    /// The value at a path such as `conntrack.min`; null where there is none.
    func value(at path: String) -> FieldValue {
        path.split(separator: ".").reduce(self) { $0[String($1)] ?? .null }
    }

    /// Sets the value at a path, making maps on the way.
    mutating func set(_ value: FieldValue, at path: some Collection<Substring>) {
        guard let first = path.first.map(String.init) else {
            self = value
            return
        }
        var child = self[first] ?? .null
        child.set(value, at: path.dropFirst())
        self[first] = child
    }
}
