import KubernetesObjects
import NetworkAddresses
import ProxyConfiguration
import Testing

@testable import NodeDuties

/// 2026-01-31T12:00:00Z and some seconds later.
private func moment(_ seconds: Double = 0) -> Moment {
    Moment(
        wall: 1_769_860_800_000_000_000 + Int64(seconds * 1e9),
        steady: .seconds(1000) + .milliseconds(Int(seconds * 1000)))
}

private func node(taints: [Node.Taint] = [], deletedAt: Timestamp? = nil) -> Node {
    Node(metadata: ObjectMetadata(name: "n", namespace: "", deletionTimestamp: deletedAt), taints: taints)
}

@Suite struct ProxyHealthTests {
    private var health: ProxyHealth {
        var health = ProxyHealth(families: [.ipv4, .ipv6], limit: .seconds(60))
        health.setNode(node())
        return health
    }

    @Test func `a node in good order answers as kube-proxy does`() {
        var health = health
        health.queued(at: moment())
        health.updated(at: moment(0.5))
        #expect(
            health.healthz(at: moment(5))
                == .init(
                    code: 200,
                    body: #"{"lastUpdated":"2026-01-31T12:00:05Z","currentTime":"2026-01-31T12:00:05Z","#
                        + #""nodeEligible":true,"healthy":true,"status":{"#
                        + #""IPv4":{"lastUpdated":"2026-01-31T12:00:00.5Z","healthy":true},"#
                        + #""IPv6":{"lastUpdated":"2026-01-31T12:00:00.5Z","healthy":true}}}"#))
        #expect(!health.livez(at: moment(5)).body.contains("nodeEligible"))
    }

    @Test func `a change that waits for twice the period makes it unhealthy, until it is programmed`() {
        var health = health
        health.updated(at: moment())
        health.queued(at: moment(10))
        // A later change is not older than the oldest.
        health.queued(at: moment(60))
        #expect(health.livez(at: moment(69.9)).code == 200)
        #expect(health.livez(at: moment(70)).code == 503)
        let answer = health.healthz(at: moment(70))
        #expect(answer.code == 503)
        #expect(answer.body.hasPrefix(#"{"lastUpdated":"2026-01-31T12:00:00Z","currentTime":"2026-01-31T12:01:10Z","#))
        #expect(answer.body.contains(#""nodeEligible":true,"healthy":false"#))
        #expect(health.readyz(at: moment(70)).code == 503)
        health.updated(at: moment(71))
        #expect(health.livez(at: moment(1000)).code == 200)
    }

    @Test func `a node about to go takes no traffic, but its proxy lives`() {
        for leaving in [
            node(taints: [.init(key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule")]),
            node(deletedAt: Timestamp(secondsSince1970: 1)), nil,
        ] {
            var health = health
            health.updated(at: moment())
            health.setNode(leaving)
            #expect(health.healthz(at: moment(1)).code == 503)
            #expect(health.healthz(at: moment(1)).body.contains(#""nodeEligible":false,"healthy":true"#))
            #expect(health.livez(at: moment(1)).code == 200)
            #expect(health.readyz(at: moment(1)).code == 200)
        }
        var other = health
        other.setNode(node(taints: [.init(key: "node.kubernetes.io/unreachable", effect: "NoExecute")]))
        #expect(other.healthz(at: moment(1)).code == 200)
    }

    @Test func `ready is what has been programmed, and never having been is not healthy for ever`() {
        var health = health
        #expect(health.readyz(at: moment()).code == 503)
        #expect(health.livez(at: moment()).code == 200)
        health.queued(at: moment())
        #expect(health.livez(at: moment(61)).code == 503)
        health.updated(at: moment(62))
        #expect(health.readyz(at: moment(63)) == .init(code: 200, body: "ok\n"))
    }
}

@Suite struct ProxyMetricsTests {
    private func pass(_ milliseconds: Int, changes: Int = 1, failed: Bool = false) -> ProxyMetrics.Pass {
        .init(component: "services", duration: .milliseconds(milliseconds), changes: changes, failed: failed)
    }

    private func lines(_ metrics: ProxyMetrics) -> Set<String> {
        Set(metrics.page(.init()).split(separator: "\n").map(String.init))
    }

    @Test func `a pass is whole at first and after a refusal, and clears what was pending`() {
        var metrics = ProxyMetrics(families: [.ipv4])
        metrics.queued(services: 2, endpoints: 3, at: moment())
        #expect(lines(metrics).contains("kubeproxy_sync_proxy_rules_endpoint_changes_pending 3"))
        metrics.synced(pass(3, failed: true), triggers: [], at: moment(1))
        #expect(lines(metrics).contains("kubeproxy_sync_proxy_rules_service_changes_pending 2"))
        metrics.synced(pass(3), triggers: [(.ipv4, moment().wall)], at: moment(2))
        metrics.synced(pass(1), triggers: [], at: moment(3))
        let page = lines(metrics)
        for line in [
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.001\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 2",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 2",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"+Inf\"} 2",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"1\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"2\"} 1",
            "kubeproxy_network_programming_duration_seconds_sum{ip_family=\"IPv4\"} 2",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1769860803",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 1769860800",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
            "# TYPE kubeproxy_sync_proxy_rules_no_local_endpoints_total gauge",
        ] {
            #expect(page.contains(line), "\(line) is missing")
        }
    }

    @Test func `what is said of others stands on the page`() {
        var gauges = ProxyMetrics.Gauges()
        gauges.notes = ["Service": 2, "a\"b\\c\n": 1]
        gauges.withoutLocalInternal = [.ipv4: 7]
        var metrics = ProxyMetrics(families: [.ipv4])
        metrics.answeredHealthz(503)
        metrics.answeredHealthz(503)
        let page = metrics.page(gauges)
        #expect(page.contains("fairlead_notes{kind=\"Service\"} 2\n"))
        #expect(page.contains("fairlead_notes{kind=\"a\\\"b\\\\c\\n\"} 1\n"))
        #expect(page.contains("no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 7\n"))
        #expect(page.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 2\n"))
    }
}

@Suite struct LocalEndpointsTests {
    private let key = NamespacedName(namespace: "shop", name: "web")

    private func service(
        type: Service.Kind = .loadBalancer, external: Service.TrafficPolicy = .local,
        internal: Service.TrafficPolicy = .cluster, port: Int? = 31000
    ) throws -> KubernetesObject {
        .service(
            Service(
                metadata: ObjectMetadata(name: "web", namespace: "shop"), type: type,
                clusterIPs: [try #require(IPAddress("10.96.0.1"))], externalTrafficPolicy: external,
                internalTrafficPolicy: `internal`, healthCheckNodePort: port.flatMap { Port($0) }))
    }

    private func slice(_ name: String, _ endpoints: [(String, String)], terminating: Bool = false) throws
        -> KubernetesObject
    {
        .endpointSlice(
            EndpointSlice(
                metadata: ObjectMetadata(
                    name: name, namespace: "shop", labels: [EndpointSlice.serviceNameLabel: "web"]),
                family: .ipv4,
                endpoints: try endpoints.map { address, node in
                    Endpoint(
                        address: try #require(IPAddress(address)), isReady: !terminating, isTerminating: terminating,
                        nodeName: node)
                },
                ports: [EndpointPort(number: try #require(Port(80)))]))
    }

    @Test func `a load balancer hears how many addresses here are ready`() throws {
        var local = LocalEndpoints(nodeName: "n")
        // Slices may come first, and one address may stand in two of them.
        local.apply(.set(try slice("a", [("10.0.0.1", "n"), ("10.0.0.2", "m"), ("10.0.0.3", "n")])))
        local.apply(.set(try slice("b", [("10.0.0.1", "n")])))
        let isNew = local.apply(.set(try service()))
        let isRepeated = local.apply(.set(try service()))
        #expect(isNew && !isRepeated)
        #expect(local.checks == [.init(service: key, port: try #require(Port(31000)), family: .ipv4)])
        #expect(local.readyAddresses(of: key, .ipv4) == 2)
        #expect(local.readyAddresses(of: key, .ipv6) == 0)
        local.apply(.set(try slice("a", [("10.0.0.3", "n")], terminating: true)))
        #expect(local.readyAddresses(of: key, .ipv4) == 1)
        local.apply(.removed(ObjectReference(.endpointSlice, NamespacedName(namespace: "shop", name: "b"))))
        #expect(local.readyAddresses(of: key, .ipv4) == 0)
        // Those that terminate still serve.
        #expect(local.servicesWithoutLocal(.ipv4) == (0, 0))
        local.apply(.set(try service(port: 31001)))
        #expect(local.checks.map(\.port) == [try #require(Port(31001))])
        let isGone = local.apply(.removed(ObjectReference(.service, key)))
        #expect(local.checks.isEmpty && isGone)
    }

    @Test func `only services of type LoadBalancer and policy Local have such a port`() throws {
        for other in [try service(type: .nodePort), try service(external: .cluster), try service(port: nil)] {
            var local = LocalEndpoints(nodeName: "n")
            local.apply(.set(other))
            #expect(local.checks.isEmpty)
        }
    }

    @Test func `services without endpoints here are counted by the policy that wants them here`() throws {
        var local = LocalEndpoints(nodeName: "n")
        local.apply(.set(try service(internal: .local)))
        // Without endpoints anywhere there is nothing that a policy could take away.
        #expect(local.servicesWithoutLocal(.ipv4) == (0, 0))
        local.apply(.set(try slice("a", [("10.0.0.2", "m")])))
        #expect(local.servicesWithoutLocal(.ipv4) == (1, 1))
        local.apply(.set(try service(type: .clusterIP, internal: .local)))
        #expect(local.servicesWithoutLocal(.ipv4) == (1, 0))
        local.apply(.set(try slice("a", [("10.0.0.2", "m"), ("10.0.0.1", "n")])))
        #expect(local.servicesWithoutLocal(.ipv4) == (0, 0))
    }

    @Test func `the answer is kube-proxy's, to the letter`() {
        let answer = LoadBalancerAnswer(service: key, localEndpoints: 2, isProxyHealthy: true)
        #expect(answer.code == 200)
        #expect(
            answer.body
                == "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n"
                + "\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}")
        #expect(LoadBalancerAnswer(service: key, localEndpoints: 0, isProxyHealthy: true).code == 503)
        #expect(LoadBalancerAnswer(service: key, localEndpoints: 2, isProxyHealthy: false).code == 503)
    }
}

@Suite struct ConntrackSettingsTests {
    private func settings(perCore: Int, min: Int = 131072, processors: Int) -> ConntrackSettings {
        ConntrackSettings(
            .init(
                maxPerCore: perCore, min: min, tcpEstablishedTimeout: .seconds(86400), tcpCloseWaitTimeout: .zero,
                tcpBeLiberal: true, udpTimeout: .milliseconds(500), udpStreamTimeout: .seconds(180)),
            processors: processors)
    }

    @Test(arguments: [
        (32768, 131072, 2, 131072), (32768, 131072, 8, 262144), (32768, 131072, 64, 1_048_576), (1, 0, 1, 1),
        (Int.max, 0, 4, 1_048_576),
    ]) func `the limit grows with the processors, between bounds`(perCore: Int, min: Int, processors: Int, limit: Int) {
        let settings = settings(perCore: perCore, min: min, processors: processors)
        #expect(settings.most == limit)
        #expect(settings.buckets == limit / 4)
    }

    @Test func `zero leaves a setting alone`() {
        let settings = settings(perCore: 0, processors: 4)
        #expect(settings.most == nil)
        #expect(
            settings.settings == [
                .init(name: "nf_conntrack_tcp_timeout_established", value: 86400),
                .init(name: "nf_conntrack_udp_timeout_stream", value: 180),
                .init(name: "nf_conntrack_tcp_be_liberal", value: 1),
            ])
    }
}

@Suite struct EventLedgerTests {
    @Test func `an Event has all that the API server asks for`() throws {
        var ledger = EventLedger(controller: "kube-proxy", nodeName: "n")
        let first = ledger.event(for: .node("n", .normal, reason: "Starting"), at: moment())
        let event = try #require(first)
        #expect(event.path == "/apis/events.k8s.io/v1/namespaces/default/events")
        #expect(
            event.body == [
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": ["name": "n.188fcf053de38001", "namespace": "default"],
                "eventTime": "2026-01-31T12:00:00.000000Z", "type": "Normal", "reason": "Starting",
                "action": "StartKubeProxy",
                "regarding": ["apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n"], "note": "",
                "reportingController": "kube-proxy", "reportingInstance": "kube-proxy-n",
            ])
        let service = ObjectReference(.service, NamespacedName(namespace: "shop", name: "web"))
        let second = ledger.event(for: ObjectNews(.warning, service, reason: "R", action: "A", note: "N"), at: moment())
        let other = try #require(second)
        #expect(other.path == "/apis/events.k8s.io/v1/namespaces/shop/events")
        #expect(other.body["regarding"] == ["apiVersion": "v1", "kind": "Service", "name": "web", "namespace": "shop"])
    }

    @Test func `the same is told once in ten minutes`() {
        var ledger = EventLedger(controller: "kube-proxy", nodeName: "n")
        let news = ObjectNews.node("n", .warning, reason: "FailedToStartMetricServer", note: "taken")
        let told = [0, 599, 600].map { ledger.event(for: news, at: moment($0)) != nil }
        #expect(told == [true, false, true])
    }

    @Test func `a storm of news is cut short`() {
        var ledger = EventLedger(controller: "kube-proxy", nodeName: "n")
        func tell(_ seconds: Double) -> Int {
            (0..<1000).count { (number: Int) in
                ledger.event(for: .node("n", .warning, reason: "R", note: "\(seconds) \(number)"), at: moment(seconds))
                    != nil
            }
        }
        #expect(tell(0) == 25)
        #expect(tell(30) == 3)
    }
}
