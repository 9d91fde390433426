import Glibc
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import RouteNetlink
import Testing

@testable import KubernetesClient

/// What a node's agent does beside programming, seen from outside: a process in a network namespace of its own.
///
/// One at a time: each waits for other processes, and so holds one of the few threads that the others' deadlines need.
@Suite(.serialized) struct AgentDutiesTests {
    /// A node with loopback and an address of its own, a folder, and agents started in it.
    private final class Bed {
        let folder: TemporaryFolder
        let namespace: NetworkNamespace
        private var agents: [ChildProcess] = []

        init(hasIPv6: Bool = true) throws {
            folder = try TemporaryFolder()
            namespace = try NetworkNamespace.anonymous()
            let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
            let name = try #require(InterfaceName("lo"))
            let loopback = try #require(try socket.link(named: name)).index
            try socket.change(link: loopback, LinkChange(isUp: true))
            try socket.add(InterfaceAddress(try #require(IPPrefix("192.0.2.1/32")), link: loopback))
            if hasIPv6 { try socket.add(InterfaceAddress(try #require(IPPrefix("2001:db8::1/128")), link: loopback)) }
        }

        deinit { for agent in agents { _ = try? agent.signal(.kill); _ = try? agent.wait() } }

        func start(_ arguments: [String]) throws -> ChildProcess {
            let log = "\(folder.path)/log"
            let agent = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.spawn(
                    executable: AgentTests.binary, arguments: arguments + ["--state-dir", "\(folder.path)/state"],
                    standardOutput: .file(log), standardError: .file(log))
            }
            agents.append(agent)
            return agent
        }

        /// Objects in a folder of manifests, as one file.
        func write(_ yaml: String) throws {
            _ = try StateDirectory.open("\(folder.path)/m", create: true)
            try StateDirectory.open("\(folder.path)/m", create: false).replace("objects.yaml", Array(yaml.utf8))
        }

        var log: String { (try? folder.read("log")) ?? "" }

        func run(_ program: String, _ arguments: [String]) throws -> String {
            let captured = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture(program, arguments, timeout: .seconds(20))
            }
            return captured.text
        }

        /// The code and the whole answer; the code is 000 where nobody answers.
        func get(_ url: String) throws -> (code: String, text: String) {
            let text = try run("curl", ["-sig", "-w", "\n%{http_code}", "--max-time", "10", "http://\(url)"])
            return (String(text.suffix(3)), text)
        }

        /// Asks until the answer is as expected.
        func wait(
            _ what: String, sourceLocation: SourceLocation = #_sourceLocation, until isSo: () throws -> Bool
        ) async throws {
            let deadline = ContinuousClock.now + .seconds(30)
            while try !isSo() {
                guard ContinuousClock.now < deadline else {
                    Issue.record("waited in vain for \(what): \(log)", sourceLocation: sourceLocation)
                    throw CancellationError()
                }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    private static func objects(
        taint: String = "", check: Int = 31000, node: String = "node-1", families: String = "IPv4"
    ) -> String {
        let taints = taint.isEmpty ? "" : ", taints: [{key: \(taint), effect: NoSchedule}]"
        let addresses = families == "IPv4" ? "[10.96.0.10]" : "[10.96.0.10, \"fd00::10\"]"
        return """
            {apiVersion: v1, kind: Node, metadata: {name: node-1}, spec: {podCIDRs: [10.244.1.0/24]\(taints)}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.96.0.10, clusterIPs: \(addresses), externalTrafficPolicy: Local, healthCheckNodePort: \(check), ports: [{port: 80}]}}
            ---
            {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.244.1.5], nodeName: \(node)}], ports: [{port: 8080}]}
            """
    }

    private func manifests(_ bed: Bed, _ more: [String] = []) -> [String] {
        ["--manifests", "\(bed.folder.path)/m", "--node-name", "node-1", "--components", "services"] + more
    }

    /// Half a minute long: the agent waits that long before it says what is missing.
    @Test(.needsRoot) func `an agent whose Node object stays away says so, and goes on`() async throws {
        let bed = try Bed()
        try bed.write(Self.objects())
        let agent = try bed.start(manifests(bed) + ["--node-name", "node-2"])
        try await Task.sleep(for: .seconds(30))
        try await bed.wait("the word about the Node") { bed.log.contains("There is no Node object of this name") }
        try await Task.sleep(for: .milliseconds(500))
        #expect(try bed.get("127.0.0.1:10256/livez").code == "200", "\(bed.log)")
        #expect(try agent.signal(.terminate) && agent.wait().isSuccess)
    }

    @Test(.needsRoot) func `pages tell of health, and follow the node`() async throws {
        let bed = try Bed()
        try bed.write(Self.objects())
        let agent = try bed.start(manifests(bed))
        try await bed.wait("readiness") { try bed.get("127.0.0.1:10256/readyz").code == "200" }
        for url in ["127.0.0.1:10256/healthz", "127.0.0.1:10256/livez", "[::1]:10256/healthz"] {
            let (code, text) = try bed.get(url)
            #expect(code == "200" && text.contains("Content-Type: application/json"), "\(url): \(text)")
        }
        #expect(try bed.get("127.0.0.1:10249/proxyMode").text.contains("\r\n\r\nnftables\n"))
        #expect(try bed.get("127.0.0.1:10249/nothing").code == "404")
        let configuration = try bed.get("127.0.0.1:10249/configz").text
        for field in [#""hostnameOverride":"node-1""#, #""mode":"nftables""#, #""nodePortAddresses":["primary"]"#] {
            #expect(configuration.contains(field), "\(field) is missing in \(configuration)")
        }
        #expect(try bed.get("127.0.0.1:10249/flagz").text.contains("\ncomponents=services\n"))
        #expect(try bed.get("127.0.0.1:10249/statusz").text.contains("\nUp: 0 hr 00 min "))
        // Only on this host.
        #expect(try bed.get("192.0.2.1:10249/metrics").code == "000")
        try bed.write(Self.objects(taint: "ToBeDeletedByClusterAutoscaler"))
        try await bed.wait("the taint") { try bed.get("127.0.0.1:10256/healthz").code == "503" }
        #expect(try bed.get("127.0.0.1:10256/livez").code == "200")
        let levels = try bed.get("127.0.0.1:10249/metrics/slis").text
        for line in [#"kubernetes_healthcheck{name="proxy",type="healthz"} 0"#, #"{name="proxy",type="livez"} 1"#] {
            #expect(levels.contains(line), "\(line) is missing in \(levels)")
        }
        let page = try bed.get("127.0.0.1:10249/metrics").text
        for line in [
            "kubeproxy_sync_proxy_rules_service_changes_total 1", "fairlead_elements{component=\"services\"} ",
            "kubeproxy_proxy_livez_total{code=\"200\"} 2", "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "process_resident_memory_bytes ", "fairlead_batch_bytes_total ",
        ] {
            #expect(page.contains("\n\(line)"), "\(line) is missing in \(page)")
        }
        try agent.signal(.terminate)
        #expect(try agent.wait() == .exited(0))
    }

    @Test(.needsRoot) func `a host without addresses of IPv6 is served by IPv4`() async throws {
        let bed = try Bed(hasIPv6: false)
        try bed.write(Self.objects())
        _ = try bed.start(manifests(bed, ["--proxy-mode", "iptables"]))
        try await bed.wait("readiness") { try bed.get("127.0.0.1:10256/readyz").code == "200" }
        try await bed.wait("the service's own port") { try bed.get("192.0.2.1:31000/").code == "200" }
        #expect(!bed.log.contains("cannot serve"))
    }

    @Test(.needsRoot) func `load balancers are told of a service's endpoints, wherever the service goes`() async throws
    {
        let bed = try Bed()
        try bed.write(Self.objects())
        _ = try bed.start(manifests(bed, ["--nodeport-addresses", "192.0.2.0/24,2001:db8::/32"]))
        try await bed.wait("an answer") { try bed.get("192.0.2.1:31000/any").code == "200" }
        let answer = try bed.get("192.0.2.1:31000/").text
        #expect(answer.contains("X-Load-Balancing-Endpoint-Weight: 1\r\n"))
        #expect(answer.contains("X-Content-Type-Options: nosniff\r\n"))
        #expect(
            answer.contains(
                "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 1,"
            ))
        // Neither another address nor a family that the service has not.
        #expect(try bed.get("127.0.0.1:31000/").code == "000")
        #expect(try bed.get("[2001:db8::1]:31000/").code == "000")
        try bed.write(Self.objects(node: "node-2", families: "both"))
        try await bed.wait("the endpoint's move") { try bed.get("192.0.2.1:31000/").code == "503" }
        try await bed.wait("the other family") { try bed.get("[2001:db8::1]:31000/").code == "503" }
        // A port that somebody has: said, and taken as soon as it is free.
        let holder = try bed.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: "/usr/bin/python3", arguments: ["-m", "http.server", "31001", "--bind", "192.0.2.1"],
                standardOutput: .null, standardError: .null)
        }
        try await bed.wait("the holder") { try bed.get("192.0.2.1:31001/").code != "000" }
        try bed.write(Self.objects(check: 31001))
        try await bed.wait("the complaint") {
            bed.log.contains("failed to start healthcheck \"shop/web\" on port 31001: Address already in use")
        }
        #expect(try bed.get("192.0.2.1:31000/").code == "000")
        try holder.signal(.kill)
        _ = try holder.wait()
        try await bed.wait("the freed port") { try bed.get("192.0.2.1:31001/").text.contains("\"localEndpoints\": 1") }
        try bed.write(Self.objects(check: 31001).replacing("type: LoadBalancer", with: "type: ClusterIP"))
        try await bed.wait("the end") { try bed.get("192.0.2.1:31001/").code == "000" }
    }

    @Test(.needsRoot) func `with kube-proxy's file and arguments it stands in for kube-proxy`() async throws {
        let bed = try Bed()
        let server = TestServer()
        server.change { model in
            model.set(WatchedResource.nodes.path, node("node-1"))
            model.set(AgentTests.services, service("web", "10.96.0.1"))
        }
        try await server.start(in: bed.namespace)
        try bed.folder.write("ca.pem", TestCertificate.here.certificate)
        let kubeconfig = try bed.folder.write(
            "kubeconfig",
            KubeconfigTests.file(
                cluster: "{server: 'https://127.0.0.1:\(server.port)', certificate-authority: ca.pem}"))
        let text = """
            apiVersion: kubeproxy.config.k8s.io/v1alpha1
            kind: KubeProxyConfiguration
            mode: nftables
            clientConnection: {kubeconfig: \(kubeconfig)}
            clusterCIDR: 10.244.0.0/16
            conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 2h, udpTimeout: 40s}
            metricsBindAddress: 192.0.2.99:10249
            enableProfiling: true

            """
        // A folder of its own: what else changes beside the file does not matter.
        try StateDirectory.open("\(bed.folder.path)/etc", create: true).replace("config.conf", Array(text.utf8))
        let path = "\(bed.folder.path)/etc/config.conf"
        let agent = try bed.start([
            "--config", path, "--hostname-override=node-1", "--cluster-cidr=10.0.0.0/8", "--masquerade-all=false",
        ])
        do {
            try await bed.wait("the service") {
                try bed.run("nft", ["list", "table", "inet", "fairlead-services"]).contains("10.96.0.1 . tcp . 80")
            }
            #expect(bed.log.contains("\(path): enableProfiling: is not used"))
            #expect(
                bed.log.contains("command line: --cluster-cidr: is not used, because \(path) is given with --config"))
            // What needs no right that kube-proxy's role lacks.
            #expect(server.requests(.watch, .pods).isEmpty && server.requests(.list, .pods).isEmpty)
            let timeout = try bed.run("cat", ["/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"])
            #expect(timeout == "7200\n")
            #expect(try bed.run("cat", ["/proc/sys/net/netfilter/nf_conntrack_udp_timeout"]) == "40\n")
            // An address this host has not.
            try await bed.wait("both Events") { server.with { $0.created.count } >= 2 }
            let created = server.with {
                $0.created.map { [$0.path, $0.object["reason"]?.string, $0.object["note"]?.string] }
            }
            let path = "/apis/events.k8s.io/v1/namespaces/default/events"
            #expect(created.contains([path, "Starting", ""]))
            #expect(
                created.contains([
                    path, "FailedToStartMetricServer",
                    "cannot serve metrics at 192.0.2.99:10249: Cannot assign requested address",
                ]), "\(created)")
            #expect(try bed.get("127.0.0.1:10256/healthz").code == "200")

            try StateDirectory.open("\(bed.folder.path)/etc", create: false)
                .replace("config.conf", Array((text + "bindAddressHardFail: true\n").utf8))
            #expect(try agent.wait() == .exited(1))
            #expect(bed.log.contains("config.conf has changed; ending, to be started again with it"))
            #expect(try bed.run("nft", ["list", "tables"]).contains("fairlead-services"))

            let again = try bed.start(["--config", "\(bed.folder.path)/etc/config.conf", "--hostname-override=node-1"])
            #expect(try again.wait() == .exited(1))
            #expect(bed.log.contains("cannot serve metrics at 192.0.2.99:10249: Cannot assign requested address"))
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    @Test(.needsRoot, arguments: [[], ["--shared-tables"]])
    func `cleaning up removes what a dead agent left, and is content with nothing`(options: [String]) async throws {
        let bed = try Bed()
        try bed.write(Self.objects())
        let agent = try bed.start(
            ["--manifests", "\(bed.folder.path)/m", "--node-name", "node-1", "--components", "services,policy"]
                + options)
        try await bed.wait("readiness") { try bed.get("127.0.0.1:10256/readyz").code == "200" }
        func cleanUp(_ options: [String] = []) throws -> ChildProcess.Captured {
            try bed.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture(AgentTests.binary, ["--cleanup"] + options, timeout: .seconds(20))
            }
        }
        if options.isEmpty {
            let early = try cleanUp()
            #expect(!early.status.isSuccess)
            #expect(early.errorText.contains("it belongs to a process that runs; end the agent first"))
        }
        try agent.signal(.kill)
        _ = try agent.wait()
        _ = try bed.run("nft", ["add", "table", "inet", "foreign"])
        #expect(try bed.run("nft", ["list", "tables"]).contains("fairlead-policy"))
        #expect(try cleanUp().status.isSuccess)
        #expect(try bed.run("nft", ["list", "tables"]) == "table inet foreign\n")
        let runtime = try StateDirectory.open("\(bed.folder.path)/net.d", create: true)
        for name in ["10-fairlead.conflist", "99-other.conf"] { try runtime.replace(name, []) }
        #expect(try cleanUp().status.isSuccess)
        #expect(try runtime.entries().count == 2)
        for _ in 1...2 {
            #expect(try cleanUp(["--write-cni-conf", "--cni-conf-dir", runtime.path]).status.isSuccess)
            #expect(try runtime.entries() == ["99-other.conf"])
        }
        #expect(try cleanUp(["--write-cni-conf", "--cni-conf-dir", "/none"]).status.isSuccess)
    }

    /// What kube-proxy leaves in iptables mode, cut down, beside things of others.
    private static let iptables = """
        *nat
        :CNI-HOSTPORT-SETMARK - [0:0]
        :KUBE-KUBELET-CANARY - [0:0]
        :KUBE-MARK-MASQ - [0:0]
        :KUBE-POSTROUTING - [0:0]
        :KUBE-ROUTER-OUTPUT - [0:0]
        :KUBE-SEP-GDT7UD7DCGSKYHSM - [0:0]
        :KUBE-SERVICES - [0:0]
        :KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
        -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A PREROUTING -p tcp -m tcp --dport 9998 -j CNI-HOSTPORT-SETMARK
        -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A OUTPUT -j KUBE-ROUTER-OUTPUT
        -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
        -A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -A KUBE-POSTROUTING -j MASQUERADE --random-fully
        -A KUBE-SEP-GDT7UD7DCGSKYHSM -s 192.0.2.1/32 -j KUBE-MARK-MASQ
        -A KUBE-SEP-GDT7UD7DCGSKYHSM -p tcp -m tcp -j DNAT --to-destination 192.0.2.1:6443
        -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
        -A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-GDT7UD7DCGSKYHSM
        COMMIT
        *filter
        :KUBE-FORWARD - [0:0]
        -A INPUT -p tcp -m tcp --dport 9999 -j ACCEPT
        -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
        -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        COMMIT

        """

    @Test(.needsRoot) func `taking over removes kube-proxy's rules and nobody else's, and only when asked`()
        async throws
    {
        let bed = try Bed()
        try bed.write(Self.objects())
        try bed.folder.write("rules", Self.iptables)
        _ = try bed.run("iptables-nft-restore", ["\(bed.folder.path)/rules"])
        _ = try bed.run("nft", ["add table ip kube-proxy; add chain ip kube-proxy services; add table ip6 kube-proxy"])
        func rules() throws -> Set<String> {
            let saved = try bed.run("iptables-nft-save", [])
            return Set(saved.split(separator: "\n").map(String.init).filter { $0.hasPrefix("-A") || $0.hasPrefix(":") })
        }
        let before = try rules()
        try #require(before.contains { $0.hasPrefix("-A KUBE-SVC-") })
        let first = try bed.start(manifests(bed))
        try await bed.wait("the warning") { bed.log.contains("kube-proxy's rules are active on this node beside ours") }
        #expect(try rules() == before)
        try first.signal(.terminate)
        _ = try first.wait()
        _ = try bed.start(manifests(bed, ["--take-over"]))
        try await bed.wait("the take-over") { bed.log.contains("Took over from kube-proxy") }
        try await bed.wait("what stays") { bed.log.contains("stays: chain KUBE-POSTROUTING of table ip nat") }
        #expect(
            bed.log.contains("stays: chain KUBE-MARK-MASQ of table ip nat, because chain CNI-HOSTPORT-SETMARK uses it"))
        let gone = before.subtracting(try rules())
        #expect(
            Set(
                gone.map {
                    $0.split(separator: " ")[0] == "-A"
                        ? String($0.split(separator: " ")[1]) : String($0.split(separator: " ")[0])
                })
                == [
                    "PREROUTING", "OUTPUT", "FORWARD", "KUBE-SERVICES", "KUBE-SVC-NPX46M4PTMTKRN6Y",
                    "KUBE-SEP-GDT7UD7DCGSKYHSM", "KUBE-FORWARD", ":KUBE-SERVICES", ":KUBE-SVC-NPX46M4PTMTKRN6Y",
                    ":KUBE-SEP-GDT7UD7DCGSKYHSM", ":KUBE-FORWARD",
                ])
        #expect(try rules().subtracting(before) == [])
        for rule in [
            "-A PREROUTING -p tcp -m tcp --dport 9998 -j CNI-HOSTPORT-SETMARK", "-A OUTPUT -j KUBE-ROUTER-OUTPUT",
            "-A INPUT -p tcp -m tcp --dport 9999 -j ACCEPT", ":KUBE-KUBELET-CANARY - [0:0]",
        ] {
            #expect(try rules().contains(rule), "\(rule)")
        }
        let tables = try bed.run("nft", ["list", "tables"])
        #expect(!tables.contains("kube-proxy") && tables.contains("fairlead-services"))
    }

    @Test func `a configuration that makes no sense is refused with all its errors`() throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let path = try folder.write(
            "c.yaml",
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: x\noomScoreAdj: 5000\n")
        let captured = try ChildProcess.capture(AgentTests.binary, ["--config", path])
        #expect(!captured.status.isSuccess)
        #expect(captured.errorText.contains("\(path): mode: \"x\" is none of iptables, ipvs, nftables"))
        #expect(captured.errorText.contains("\(path): oomScoreAdj: 5000 is not within -1000 to 1000"))
    }

    @Test func `the configuration with its defaults is written and read again`() throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let path = "\(folder.path)/written"
        func write(_ arguments: [String], to path: String) throws {
            let captured = try ChildProcess.capture(AgentTests.binary, arguments + ["--write-config-to", path])
            #expect(captured.status.isSuccess, "\(captured.errorText)")
        }
        try write(
            ["--proxy-mode", "nftables", "--cluster-cidr", "10.0.0.0/8", "--nodeport-addresses", "primary"], to: path)
        let text = try folder.read("written")
        #expect(text.contains("clusterCIDR: 10.0.0.0/8\n") && text.contains("syncPeriod: 30s\n"))
        try write(["--config", path], to: path + "-again")
        #expect(try folder.read("written-again") == text)
    }
}
