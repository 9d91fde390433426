import KernelInterface
import Testing

/// kube-proxy's command line, given to the agent.
@Suite struct AgentOptionsTests {
    /// What the agent writes as its configuration, and what it says.
    private func configuration(_ arguments: [String]) throws -> (text: String, said: String, isSuccess: Bool) {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let captured = try ChildProcess.capture(
            AgentTests.binary, arguments + ["--write-config-to", "\(folder.path)/written"])
        return ((try? folder.read("written")) ?? "", captured.errorText, captured.status.isSuccess)
    }

    /// Every option of kube-proxy 1.36 that changes something here, in a spelling of its own.
    @Test func `options are taken in all the ways that Go programs spell them`() throws {
        let (text, said, isSuccess) = try configuration([
            "--bind-address=2001:db8::1", "--bind-address-hard-fail", "--cluster_cidr=10.0.0.0/8",
            "--conntrack-max-per-core=0", "--conntrack-min", "7", "--conntrack-tcp-be-liberal=true",
            "--conntrack-tcp-timeout-close-wait=1m", "--conntrack-tcp-timeout-established=2m",
            "--conntrack-udp-timeout=3s",
            "--conntrack-udp-timeout-stream=4s", "--detect-local-mode=InterfaceNamePrefix",
            "--pod-interface-name-prefix=veth", "--pod-bridge-interface=br0",
            "--feature-gates=AllowServiceExternalIPs=false",
            "--healthz-bind-address=", "--metrics-port=99", "--hostname-override=n", "--iptables-sync-period=40s",
            "--ipvs-sync-period=50s", "--kubeconfig=/x", "--master=https://192.0.2.1", "--masquerade_all=1",
            "--nodeport-addresses=10.1.0.0/16,10.2.0.0/16", "--nodeport-addresses", "10.3.0.0/16", "--oom-score-adj=-7",
            "--proxy-mode=nftables", "-v3",
        ])
        #expect(isSuccess && said.isEmpty, "\(said)")
        for line in [
            "bindAddress: 2001:db8::1", "bindAddressHardFail: true", "clusterCIDR: 10.0.0.0/8", "maxPerCore: 0",
            "min: 7",
            "tcpBeLiberal: true", "tcpCloseWaitTimeout: 1m", "tcpEstablishedTimeout: 2m", "udpTimeout: 3s",
            "udpStreamTimeout: 4s", "detectLocalMode: InterfaceNamePrefix", "interfaceNamePrefix: veth",
            "bridgeInterface: br0", "AllowServiceExternalIPs: false", "healthzBindAddress: \"\"",
            "metricsBindAddress: '[::1]:99'", "syncPeriod: 40s", "syncPeriod: 50s", "masqueradeAll: true",
            "- 10.1.0.0/16", "- 10.2.0.0/16", "- 10.3.0.0/16", "oomScoreAdj: -7", "mode: nftables", "verbosity: 3",
        ] {
            #expect(text.contains("\(line)\n"), "\(line) is missing in \(text)")
        }
    }

    /// Every other option of it; each with a value that is not the default.
    @Test(arguments: [
        "--boot-id-file=/x", "--config-sync-period=1m", "--iptables-localhost-nodeports", "--iptables-masquerade-bit=3",
        "--iptables-min-sync-period=2s", "--ipvs-exclude-cidrs=10.0.0.0/8", "--ipvs-min-sync-period=2s",
        "--ipvs-scheduler=rr", "--ipvs-strict-arp=true", "--ipvs-tcp-timeout=1m", "--ipvs-tcpfin-timeout=1m",
        "--ipvs-udp-timeout=1m", "--kube-api-burst=200", "--kube-api-content-type=application/json",
        "--kube-api-qps=7.5",
        "--log-flush-frequency=1s", "--log-json-info-buffer-size=1Ki", "--log-json-split-stream",
        "--log-text-info-buffer-size=1Ki", "--log-text-split-stream=true", "--logging-format=json",
        "--machine-id-file=/x",
        "--profiling", "--show-hidden-metrics-for-version=1.35", "--vmodule=proxier=9",
    ])
    func `what changes nothing is taken, and named`(option: String) throws {
        let name = option.prefix { $0 != "=" }
        let (_, said, isSuccess) = try configuration([option])
        #expect(isSuccess && said.contains("command line: \(name): is not used: "), "\(said)")
    }

    @Test func `what kube-proxy does by default needs no word`() throws {
        let (_, said, isSuccess) = try configuration([
            "--kube-api-burst=10", "--kube-api-qps=5", "--profiling=false", "--iptables-localhost-nodeports=false",
            "--iptables-masquerade-bit=14", "--logging-format=text", "--log-flush-frequency=5s",
        ])
        #expect(isSuccess && said.isEmpty, "\(said)")
    }

    @Test(arguments: [
        ("--oom-score-adj=5000", "command line: --oom-score-adj: 5000 is not within -1000 to 1000"),
        ("--iptables-masquerade-bit=32", "command line: --iptables-masquerade-bit: 32 is not within 0 to 31"),
        ("--healthz-port=99999", "command line: --healthz-port: \"0.0.0.0:99999\" is not address:port"),
        ("--nodeport-addresses=10.0.0.0/33", "command line: --nodeport-addresses"),
    ])
    func `what makes no sense is refused by the option's name`(option: String, message: String) throws {
        let (_, said, isSuccess) = try configuration([option])
        #expect(!isSuccess && said.contains(message), "\(said)")
    }

    /// The program lies beside the agent in the folder that both are built into.
    @Test func `plugins are installed where they differ, and another make keeps its names`() throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        func install() throws -> ChildProcess.Captured {
            try ChildProcess.capture(AgentTests.binary, ["--install-plugins", "--cni-bin-dir", "\(folder.path)/bin"])
        }
        let bin = try StateDirectory.open("\(folder.path)/bin", create: true)
        try bin.replace("bridge", Array("of another make".utf8), mode: 0o755)
        let first = try install()
        #expect(first.status.isSuccess, "\(first.errorText)")
        #expect(
            first.errorText.contains(
                "written=fairlead-cni, fairlead, bandwidth, host-local, loopback, portmap, ptp, static "))
        for name in ["fairlead", "loopback"] { #expect(try bin.linkContent(name) == "fairlead-cni") }
        #expect(try bin.read("bridge", limit: 100) == Array("of another make".utf8))
        let version = try ChildProcess.capture(
            "\(folder.path)/bin/fairlead", [], environment: ["CNI_COMMAND": "VERSION"], input: Array("{}".utf8))
        #expect(version.text.contains("supportedVersions"), "\(version)")

        let made = try bin.changeTime(of: "fairlead-cni")
        #expect(try install().errorText.contains("written= "))
        #expect(try bin.changeTime(of: "fairlead-cni") == made)
        // What an older image left.
        try bin.replace("fairlead-cni", Array("old".utf8), mode: 0o755)
        #expect(try install().errorText.contains("written=fairlead-cni "))
        #expect(try bin.changeTime(of: "fairlead-cni") != made)
    }
}
