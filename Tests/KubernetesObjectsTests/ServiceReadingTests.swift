import KubernetesObjects
import NetworkAddresses
import Testing

struct ServiceReadingTests {
    private func read(spec: FieldValue, status: FieldValue = .null) -> (service: Service?, notes: [String]) {
        let (object, notes) = decode(.object(.service, [("spec", spec), ("status", status)]))
        guard case .service(let service)? = object else { return (nil, notes) }
        return (service, notes)
    }

    @Test func `a small service gets the API server's defaults`() throws {
        let (service, notes) = read(spec: [
            "clusterIP": "10.96.0.10", "selector": ["app": "web"], "ports": [["port": 80]],
        ])
        #expect(notes.isEmpty)
        #expect(
            service
                == Service(
                    metadata: ObjectMetadata(name: "x", namespace: "shop"), type: .clusterIP,
                    clusterIPs: [IPAddress("10.96.0.10")!],
                    ports: [ServicePort(protocol: .tcp, number: Port(80)!, target: .number(Port(80)!))],
                    selector: ["app": "web"], externalTrafficPolicy: .cluster, internalTrafficPolicy: .cluster,
                    sessionAffinity: .none, sourceRanges: nil))
        #expect(service?.isProxied == true)
    }

    @Test func `every field is read`() throws {
        let (service, notes) = read(
            spec: [
                "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
                "ports": [
                    ["name": "http", "port": 80, "targetPort": "web", "nodePort": 30080],
                    ["name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353],
                ],
                "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP", "sessionAffinityConfig": ["clientIP": ["timeoutSeconds": 60]],
                "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "2001:db8::1/32"], "healthCheckNodePort": 30999,
                "publishNotReadyAddresses": true,
            ],
            status: [
                "loadBalancer": [
                    "ingress": [
                        ["ip": "203.0.113.1"], ["hostname": "lb.example"], ["ip": "2001:db8::1", "ipMode": "Proxy"],
                    ]
                ]
            ])
        #expect(notes.isEmpty)
        #expect(
            service
                == Service(
                    metadata: ObjectMetadata(name: "x", namespace: "shop"), type: .loadBalancer,
                    clusterIPs: [IPAddress("10.96.0.10")!, IPAddress("fd00:10:96::a")!], families: [.ipv4, .ipv6],
                    familyPolicy: .requireDualStack,
                    ports: [
                        ServicePort(name: "http", number: Port(80)!, target: .name("web"), nodePort: Port(30080)!),
                        ServicePort(name: "dns", protocol: .udp, number: Port(53)!, target: .number(Port(5353)!)),
                    ],
                    externalIPs: [IPAddress("192.0.2.1")!], externalTrafficPolicy: .local,
                    internalTrafficPolicy: .local, sessionAffinity: .clientIP(timeoutSeconds: 60),
                    ingress: [
                        LoadBalancerIngress(address: IPAddress("203.0.113.1")!),
                        LoadBalancerIngress(address: IPAddress("2001:db8::1")!, mode: .proxy),
                    ],
                    sourceRanges: [IPPrefix("10.0.0.0/8")!, IPPrefix("2001:db8::/32")!],
                    healthCheckNodePort: Port(30999)!, publishesNotReadyAddresses: true))
        #expect(service?.clusterIP(of: .ipv6) == IPAddress("fd00:10:96::a"))
    }

    @Test(
        arguments: [
            ["clusterIP": "None"], ["clusterIPs": ["None"]], ["type": "ExternalName", "externalName": "example.com"],
            ["clusterIP": ""], [:],
        ] as [FieldValue])
    func `services without an address have nothing to program`(spec: FieldValue) {
        let (service, notes) = read(spec: spec)
        #expect(notes.isEmpty)
        #expect(service?.isProxied == false)
        #expect(service?.clusterIPs == [])
    }

    @Test func `a service of another proxy is left to it`() {
        var tree = FieldValue.object(.service, [("spec", ["clusterIP": "10.96.0.1"])])
        tree["metadata"]?["labels"] = ["service.kubernetes.io/service-proxy-name": "other"]
        guard case .service(let service)? = decode(tree).object else {
            Issue.record("no service")
            return
        }
        #expect(service.proxyName == "other")
        #expect(!service.isProxied)
    }

    /// One of two ports is wrong: the note it costs, and the numbers of the ports that are left.
    @Test(
        arguments: [
            (["name": "b", "port": 0], "spec.ports[1].port: 0 is no port (1 to 65535)"),
            (["name": "b", "port": 70000], "spec.ports[1].port: 70000 is no port (1 to 65535)"),
            (["name": "b", "port": -1], "spec.ports[1].port: -1 is no port (1 to 65535)"),
            (["name": "b", "port": "80"], "spec.ports[1].port: is a string (\"80\"), not a whole number"),
            (["name": "b", "port": 80.5], "spec.ports[1].port: is a number (80.5), not a whole number"),
            (["name": "b"], "spec.ports[1].port: is missing"),
            (["name": "b", "port": 81, "nodePort": 65536], "spec.ports[1].nodePort: 65536 is no port (1 to 65535)"),
            (
                ["name": "b", "port": 81, "protocol": "ICMP"],
                "spec.ports[1].protocol: \"ICMP\" is none of TCP, UDP, SCTP"
            ),
            (
                ["name": "b", "port": 81, "targetPort": "8080"],
                "spec.ports[1].targetPort: \"8080\" is no port name (15 lower-case letters, digits and '-')"
            ),
            (
                ["name": "b", "port": 81, "targetPort": 70000],
                "spec.ports[1].targetPort: 70000 is no port (1 to 65535)"
            ),
            (
                ["name": "B", "port": 81],
                "spec.ports[1].name: \"B\" is no port name (lower-case letters, digits and '-')"
            ),
            (["port": 81], "spec.ports[1]: needs a name, because the service has several ports"),
            (["name": "a", "port": 81], "spec.ports[1]: has the name a of a port before it"),
            (["name": "b", "port": 80], "spec.ports[1]: repeats 80/tcp of a port before it"),
            ("http", "spec.ports[1]: is a string (\"http\"), not a map"),
            (.null, "spec.ports[1]: is missing"),
        ] as [(FieldValue, String)])
    func `a bad port is named, and the others are served`(port: FieldValue, note: String) {
        let (service, notes) = read(spec: ["ports": [["name": "a", "port": 80], port]])
        #expect(notes == [note])
        #expect(service?.ports == [ServicePort(name: "a", number: Port(80)!)])
    }

    @Test(
        arguments: [
            (["clusterIPs": ["10.96.0.300", "fd00::1"]], "spec.clusterIPs[0]: \"10.96.0.300\" is no IP address"),
            (
                ["clusterIPs": ["fd00::1", "fd00::2"]],
                "spec.clusterIPs[1]: is the second IPv6 address, and is not used"
            ),
            (
                ["clusterIPs": ["127.0.0.1", "fd00::1"]],
                "spec.clusterIPs[0]: 127.0.0.1 is a loopback address, which nothing can be served at"
            ),
            (["clusterIPs": ["fd00::1"], "externalIPs": ["x"]], "spec.externalIPs[0]: \"x\" is no IP address"),
            (
                ["clusterIPs": ["fd00::1"], "externalIPs": ["169.254.0.1"]],
                "spec.externalIPs[0]: 169.254.0.1 is a link-local address, which nothing can be served at"
            ),
            (
                ["clusterIPs": ["fd00::1"], "ipFamilies": ["ipv4"]],
                "spec.ipFamilies[0]: \"ipv4\" is none of IPv4, IPv6"
            ),
        ] as [(FieldValue, String)])
    func `a bad address is named, and the others are served`(spec: FieldValue, note: String) {
        let (service, notes) = read(spec: spec)
        #expect(notes == [note])
        #expect(service?.clusterIPs == [IPAddress("fd00::1")!])
        #expect(service?.externalIPs == [])
    }

    @Test func `source ranges that cannot be read admit no one`() {
        let (service, notes) = read(spec: ["loadBalancerSourceRanges": ["10.0.0.0"]])
        #expect(notes == ["spec.loadBalancerSourceRanges[0]: \"10.0.0.0\" is no network in CIDR notation"])
        #expect(service?.sourceRanges == [])
        #expect(read(spec: ["loadBalancerSourceRanges": []]).service?.sourceRanges == .some(nil))
    }

    @Test func `an ingress address that is none is named`() {
        let (service, notes) = read(
            spec: [:], status: ["loadBalancer": ["ingress": [["ip": "1.2.3"], ["ip": "203.0.113.1"]]]])
        #expect(notes == ["status.loadBalancer.ingress[0].ip: \"1.2.3\" is no IP address"])
        #expect(service?.ingress.map(\.address) == [IPAddress("203.0.113.1")!])
    }

    @Test(
        arguments: [
            (
                ["type": "Clusterip"],
                "spec.type: \"Clusterip\" is none of ClusterIP, NodePort, LoadBalancer, ExternalName"
            ),
            (["externalTrafficPolicy": "local"], "spec.externalTrafficPolicy: \"local\" is none of Cluster, Local"),
            (["selector": "app=web"], "spec.selector: is a string (\"app=web\"), not a map"),
            (["selector": ["app": 1]], "spec.selector.app: is a number (1), not a string"),
            (["ports": ["port": 80]], "spec.ports: is a map, not a list"),
            (["sessionAffinity": "ip"], "spec.sessionAffinity: \"ip\" is none of None, ClientIP"),
            (
                ["sessionAffinity": "ClientIP", "sessionAffinityConfig": ["clientIP": ["timeoutSeconds": 0]]],
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not within 1 to 86400"
            ),
            (["healthCheckNodePort": 70000], "spec.healthCheckNodePort: 70000 is no port (1 to 65535)"),
            (
                ["publishNotReadyAddresses": "yes"],
                "spec.publishNotReadyAddresses: is a string (\"yes\"), not true or false"
            ),
            (
                ["ipFamilyPolicy": "Dual"],
                "spec.ipFamilyPolicy: \"Dual\" is none of SingleStack, PreferDualStack, RequireDualStack"
            ),
            (.null, "spec: is missing"),
        ] as [(FieldValue, String)])
    func `a field that changes the whole service refuses it`(spec: FieldValue, note: String) {
        let (service, notes) = read(spec: spec)
        #expect(notes == [note])
        #expect(service == nil)
    }
}
