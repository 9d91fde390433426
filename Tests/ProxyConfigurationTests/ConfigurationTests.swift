import KubernetesObjects
import ManifestFolder
import NetworkAddresses
import ServiceRules
import Testing

@testable import ProxyConfiguration

@Suite struct ConfigurationTests {
    private func read(_ yaml: String) throws -> KubeProxyConfiguration.Reading {
        let header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        let documents = try ManifestText.documents(in: Array((header + yaml).utf8))
        return KubeProxyConfiguration.read(documents.first, source: "c.yaml")
    }

    private func configuration(_ yaml: String) throws -> KubeProxyConfiguration {
        try #require(try read(yaml).configuration)
    }

    /// What `kubeadm init` puts into the ConfigMap `kube-proxy`.
    private static let kubeadm = """
        bindAddress: 0.0.0.0
        bindAddressHardFail: false
        clientConnection:
          acceptContentTypes: ""
          burst: 0
          contentType: ""
          kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
          qps: 0
        clusterCIDR: 10.244.0.0/16
        configSyncPeriod: 0s
        conntrack:
          maxPerCore: null
          min: null
          tcpBeLiberal: false
          tcpCloseWaitTimeout: null
          tcpEstablishedTimeout: null
          udpStreamTimeout: 0s
          udpTimeout: 0s
        detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
        detectLocalMode: ""
        enableProfiling: false
        healthzBindAddress: ""
        hostnameOverride: ""
        iptables:
          localhostNodePorts: null
          masqueradeAll: false
          masqueradeBit: null
          minSyncPeriod: 0s
          syncPeriod: 0s
        ipvs:
          excludeCIDRs: null
          minSyncPeriod: 0s
          scheduler: ""
          strictARP: false
          syncPeriod: 0s
          tcpFinTimeout: 0s
          tcpTimeout: 0s
          udpTimeout: 0s
        logging:
          flushFrequency: 0
          options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}
          verbosity: 0
        metricsBindAddress: ""
        mode: nftables
        nftables:
          masqueradeAll: false
          masqueradeBit: null
          minSyncPeriod: 0s
          syncPeriod: 0s
        nodePortAddresses: null
        oomScoreAdj: null
        portRange: ""
        showHiddenMetricsForVersion: ""
        winkernel:
          enableDSR: false
          forwardHealthCheckVip: false
          networkName: ""
          rootHnsEndpointName: ""
          sourceVip: ""
        """

    @Test func `kubeadm's file is read without a word, and what it leaves open is kube-proxy's default`() throws {
        let reading = try read(Self.kubeadm)
        #expect(reading.notes == [])
        let configuration = try #require(reading.configuration)
        #expect(configuration.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf")
        #expect(configuration.mode == .nftables)
        #expect(configuration.healthzAddress?.description == "0.0.0.0:10256")
        #expect(configuration.metricsAddress?.description == "127.0.0.1:10249")
        #expect(configuration.syncPeriod == .seconds(30))
        #expect(configuration.oomScoreAdjustment == -999)
        #expect(configuration.services.localTraffic == .clusterCIDR([try #require(IPPrefix("10.244.0.0/16"))]))
        #expect(configuration.services.nodePortAddresses == .primary)
        #expect(configuration.services.primaryAddress == nil)
        #expect(
            configuration.conntrack
                == .init(
                    maxPerCore: 32768, min: 131072, tcpEstablishedTimeout: .seconds(86400),
                    tcpCloseWaitTimeout: .seconds(3600), tcpBeLiberal: false, udpTimeout: .zero, udpStreamTimeout: .zero
                ))
    }

    @Test func `zero is a value where kube-proxy takes it for one`() throws {
        let configuration = try configuration(
            "oomScoreAdj: 0\nconntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}")
        #expect(configuration.oomScoreAdjustment == 0)
        #expect(configuration.conntrack.maxPerCore == 0 && configuration.conntrack.min == 0)
        #expect(configuration.conntrack.tcpEstablishedTimeout == .zero)
        #expect(configuration.conntrack.tcpCloseWaitTimeout == .zero)
    }

    @Test func `every field of the document is read, or named as not used when it asks for something`() throws {
        // A value other than the default for every leaf.
        func other(_ value: FieldValue, _ path: String) -> FieldValue {
            switch path {
            case "apiVersion", "kind": return value
            case "mode": return "ipvs"
            case "detectLocalMode": return "BridgeInterface"
            case "bindAddress", "healthzBindAddress", "metricsBindAddress": return "10.0.0.1"
            case "clusterCIDR": return "10.1.0.0/16"
            case "nodePortAddresses": return ["10.0.0.0/8"]
            case "ipvs.excludeCIDRs": return ["10.0.0.0/8"]
            case "featureGates": return ["SomeGate": true]
            case "logging.options": return ["json": ["infoBufferSize": "1Ki"]]
            case "logging.vmodule": return [["filePattern": "a", "verbosity": 3]]
            default: break
            }
            switch value {
            case .object(let object):
                return .object(
                    FieldObject(
                        object.entries.map { entry in
                            .init(
                                key: entry.key,
                                value: other(entry.value, path.isEmpty ? entry.key : "\(path).\(entry.key)"))
                        }))
            case .bool(let value): return .bool(!value)
            case .integer(let number): return .integer(number == -999 ? -1 : 3)
            case .string(let text): return text.hasSuffix("s") && text.first?.isNumber == true ? "7m" : "x"
            default: return value
            }
        }
        let document = other(DocumentDefaults.tree(.ipv4), "")
        let reading = KubeProxyConfiguration.read(document, source: "c.yaml")
        let configuration = try #require(reading.configuration, "\(reading.notes)")
        let named = Set(reading.notes.map(\.field))
        let used: Set = [
            "bindAddress", "bindAddressHardFail", "clientConnection.kubeconfig", "clusterCIDR", "conntrack.maxPerCore",
            "conntrack.min", "conntrack.tcpBeLiberal", "conntrack.tcpCloseWaitTimeout",
            "conntrack.tcpEstablishedTimeout", "conntrack.udpStreamTimeout", "conntrack.udpTimeout",
            "detectLocal.bridgeInterface", "detectLocal.interfaceNamePrefix", "detectLocalMode", "healthzBindAddress",
            "hostnameOverride", "iptables.masqueradeAll", "iptables.syncPeriod", "ipvs.syncPeriod", "logging.verbosity",
            "metricsBindAddress", "mode", "nftables.masqueradeAll", "nftables.syncPeriod", "nodePortAddresses",
            "oomScoreAdj", "iptables.localhostNodePorts", "featureGates",
        ]
        func leaves(_ value: FieldValue, _ path: String) -> [String] {
            guard case .object(let object) = value, !object.entries.isEmpty else { return [path] }
            return object.entries.flatMap { leaves($0.value, path.isEmpty ? $0.key : "\(path).\($0.key)") }
        }
        for leaf in leaves(DocumentDefaults.tree(.ipv4), "") where leaf != "kind" && leaf != "apiVersion" {
            #expect(used.contains(leaf) || named.contains(leaf), "\(leaf) is neither used nor named")
        }
        #expect(named.contains("featureGates.SomeGate"))
        #expect(configuration.bindAddressHardFail)
        #expect(configuration.kubeconfig == "x")
        #expect(configuration.services.localTraffic == .bridgeInterface(try #require(InterfaceName("x"))))
        #expect(configuration.services.masqueradesAll)
        #expect(configuration.services.primaryAddress == IPAddress("10.0.0.1"))
        #expect(configuration.services.nodePortAddresses == .networks([try #require(IPPrefix("10.0.0.0/8"))]))
        #expect(configuration.healthzAddress?.description == "10.0.0.1:10256")
        #expect(configuration.syncPeriod == .seconds(420))
        #expect(configuration.verbosity == 3)
        #expect(configuration.oomScoreAdjustment == -1)
    }

    @Test(arguments: [
        ("surprise: 1", "c.yaml: surprise: is not known, and not used"),
        ("nftables: {syncperiod: 5s}", "c.yaml: nftables.syncperiod: is not known, and not used; \"syncPeriod\" is"),
        ("mode: nftables\nmode: nftables", "c.yaml: mode: is given twice; the last one counts"),
        (
            "iptables: {localhostNodePorts: true}",
            "c.yaml: iptables.localhostNodePorts: is not used: node ports do not answer at 127.0.0.1"
        ),
        ("enableProfiling: true", "c.yaml: enableProfiling: is not used: there are no profiling pages"),
        (
            "mode: iptables",
            "c.yaml: mode: is iptables; it decides what the other fields mean, but rules are made in tables of our own, by nftables"
        ),
    ]) func `what changes nothing is warned about by name`(yaml: String, warning: String) throws {
        let reading = try read(yaml)
        #expect(reading.configuration != nil)
        #expect(reading.notes.map(\.description).contains(warning), "\(reading.notes)")
        #expect(reading.notes.allSatisfy { $0.severity == .warning })
    }

    @Test(arguments: [
        ("mode: kernelspace", "mode: \"kernelspace\" is none of iptables, ipvs, nftables"),
        ("mode: nftables\nnftables: {syncPeriod: -1s}", "nftables.syncPeriod: -1s is not greater than 0"),
        (
            "mode: nftables\nnftables: {minSyncPeriod: 1m}",
            "nftables.syncPeriod: is shorter than nftables.minSyncPeriod"
        ),
        ("nftables: {masqueradeBit: 32}", "nftables.masqueradeBit: 32 is not within 0 to 31"),
        ("oomScoreAdj: -1001", "oomScoreAdj: -1001 is not within -1000 to 1000"),
        ("healthzBindAddress: localhost:1", "healthzBindAddress: \"localhost:1\" is not address:port"),
        ("metricsBindAddress: 127.0.0.1:70000", "metricsBindAddress: \"127.0.0.1:70000\" is not address:port"),
        ("bindAddress: node-1", "bindAddress: is no IP address"),
        (
            "clusterCIDR: 10.0.0.0/8,10.1.0.0/16",
            "clusterCIDR: has two IPv4 networks: one, or one of each family, is meant"
        ),
        ("clusterCIDR: 10.0.0.0", "clusterCIDR: \"10.0.0.0\" is no network in CIDR notation"),
        (
            "nodePortAddresses: [primary, 10.0.0.0/8]",
            "nodePortAddresses: has both \"primary\" and others; \"primary\" stands alone"
        ),
        (
            "nodePortAddresses: [10.0.0.0/8, x]",
            "nodePortAddresses[1]: is neither a network in CIDR notation nor \"primary\""
        ),
        (
            "detectLocalMode: Magic",
            "detectLocalMode: \"Magic\" is none of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"
        ),
        (
            "detectLocalMode: BridgeInterface",
            "detectLocal.bridgeInterface: is missing: detectLocalMode is BridgeInterface"
        ),
        ("conntrack: {min: -1}", "conntrack.min: -1 is not within 0 to 2147483647"),
        ("conntrack: {udpTimeout: soon}", "conntrack.udpTimeout: \"soon\" is no duration (1h30m, 5s)"),
        ("conntrack: 7", "conntrack: is a number (7), not a map"),
        ("bindAddressHardFail: sometimes", "bindAddressHardFail: is a string (\"sometimes\"), not true or false"),
    ]) func `what makes no sense is an error that names the field`(yaml: String, error: String) throws {
        let reading = try read(yaml)
        #expect(reading.configuration == nil)
        let errors = reading.notes.filter { $0.severity == .error }.map(\.description)
        #expect(errors.contains("c.yaml: \(error)"), "\(errors)")
    }

    @Test func `all errors are told at once`() throws {
        let reading = try read("mode: x\noomScoreAdj: 5000\nbindAddress: y")
        #expect(reading.notes.filter { $0.severity == .error }.count == 3)
    }

    @Test func `another kind or version is refused`() throws {
        let reading = KubeProxyConfiguration.read(["kind": "KubeletConfiguration"], source: "c.yaml")
        #expect(reading.configuration == nil)
        #expect(
            reading.notes.map(\.description).prefix(2) == [
                "c.yaml: kind: is not KubeProxyConfiguration",
                "c.yaml: apiVersion: is not kubeproxy.config.k8s.io/v1alpha1",
            ])
    }

    @Test func `a blank mode is that of iptables in a file, and nftables where nobody chose`() throws {
        let file = try configuration("iptables: {masqueradeAll: true, syncPeriod: 10s}")
        #expect(file.mode == .iptables && file.services.masqueradesAll && file.syncPeriod == .seconds(10))
        #expect(file.services.nodePortAddresses == .all)
        #expect(file.services.localTraffic == .clusterCIDR([]))
        let nobody = try #require(KubeProxyConfiguration.read(nil, source: "command line", isFile: false).configuration)
        #expect(nobody.mode == .nftables && nobody.services == ServiceSettings())
    }

    @Test func `the addresses of pages follow the family of bindAddress`() throws {
        let configuration = try configuration("bindAddress: '::'")
        #expect(configuration.healthzAddress?.description == "[::]:10256")
        #expect(configuration.metricsAddress?.description == "[::1]:10249")
    }

    @Test func `the document with its defaults says the same when it is read again`() throws {
        let first = try configuration(Self.kubeadm + "\nfeatureGates: {AllowServiceExternalIPs: false}")
        #expect(!first.services.allowsExternalIPs)
        let text = ManifestText.yaml([first.document])
        let again = try #require(
            KubeProxyConfiguration.read(try ManifestText.documents(in: Array(text.utf8)).first, source: "")
                .configuration)
        #expect(again == first)
    }

    @Test(arguments: [
        ("0", "0s"), ("1h", "1h0m0s"), ("1h30m", "1h30m0s"), ("90s", "1m30s"), ("1.5s", "1.5s"), ("100ms", "100ms"),
        ("-5s", "-5s"), ("1h15m30.918273645s", "1h15m30.918273645s"), ("10us", "10µs"),
    ]) func `durations are Go's`(text: String, printed: String) {
        #expect(GoDuration(text)?.description == printed)
    }

    @Test(arguments: ["", "-", "5", "1d", "s", "1..5s", "1h ", "99999999999h", "nan s", "infs"])
    func `no other text is a duration`(text: String) {
        #expect(GoDuration(text) == nil)
    }
}
