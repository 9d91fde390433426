import KubernetesObjects
import NetworkAddresses
import Testing

struct ObjectReadingTests {
    // MARK: Pods

    @Test func `a pod is read with the ports of its lasting containers`() {
        let (object, notes) = decode(
            .object(
                .pod,
                [
                    (
                        "spec",
                        [
                            "nodeName": "node-a", "hostNetwork": true, "nodeSelector": ["disk": "ssd"],
                            "containers": [
                                [
                                    "name": "web",
                                    "ports": [
                                        ["name": "http", "containerPort": 8080, "hostPort": 80],
                                        ["name": "dns", "containerPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"],
                                    ],
                                ]
                            ],
                            "initContainers": [
                                ["name": "setup", "ports": [["name": "once", "containerPort": 1]]],
                                [
                                    "name": "sidecar", "restartPolicy": "Always",
                                    "ports": [
                                        ["name": "http", "containerPort": 15001], ["name": "m", "containerPort": 9],
                                    ],
                                ],
                            ],
                        ]
                    ),
                    (
                        "status",
                        [
                            "phase": "Running", "podIP": "10.244.0.5",
                            "podIPs": [["ip": "10.244.0.5"], ["ip": "fd00:10:244::5"]],
                            "conditions": [
                                ["type": "Initialized", "status": "True"], ["type": "Ready", "status": "False"],
                            ],
                        ]
                    ),
                ]))
        #expect(notes.isEmpty)
        guard case .pod(let pod)? = object else {
            Issue.record("no pod")
            return
        }
        #expect(
            pod
                == Pod(
                    metadata: ObjectMetadata(name: "x", namespace: "shop"),
                    spec: PodSpec(
                        nodeName: "node-a", nodeSelector: ["disk": "ssd"], isHostNetwork: true,
                        containers: [
                            Container(
                                name: "web",
                                ports: [
                                    ContainerPort(name: "http", number: Port(8080)!, hostPort: Port(80)!),
                                    ContainerPort(
                                        name: "dns", number: Port(53)!, protocol: .udp,
                                        hostAddress: IPAddress("192.0.2.1")!),
                                ]),
                            Container(
                                name: "sidecar",
                                ports: [
                                    ContainerPort(name: "http", number: Port(15001)!),
                                    ContainerPort(name: "m", number: Port(9)!),
                                ]),
                        ]),
                    phase: .running, addresses: [IPAddress("10.244.0.5")!, IPAddress("fd00:10:244::5")!],
                    readyCondition: false))
        #expect(pod.spec.port(named: "http", protocol: .tcp) == Port(8080))
        #expect(pod.spec.port(named: "http", protocol: .udp) == nil)
        #expect(pod.spec.port(named: "m", protocol: .tcp) == Port(9))
        #expect(pod.spec.port(named: "once", protocol: .tcp) == nil)
        #expect(!pod.isReady)
    }

    @Test(
        arguments: [
            ("Running", .null, true), ("Running", "True", true), ("Running", "Unknown", false),
            ("Pending", .null, false),
        ] as [(FieldValue, FieldValue, Bool)])
    func `a running pod is ready unless a condition says otherwise`(
        phase: FieldValue, condition: FieldValue, ready: Bool
    ) {
        var status: FieldValue = ["phase": phase]
        if condition != .null { status["conditions"] = [["type": "Ready", "status": condition]] }
        guard case .pod(let pod)? = decode(.object(.pod, [("status", status)])).object else {
            Issue.record("no pod")
            return
        }
        #expect(pod.isReady == ready)
    }

    @Test(
        arguments: [
            (
                ["status": ["podIPs": [["ip": "10.244.0.5.6"], ["ip": "fd00::5"]]]],
                "status.podIPs[0].ip: \"10.244.0.5.6\" is no IP address"
            ),
            (
                ["status": ["podIPs": ["fd00::5", ["ip": "fd00::5"]]]],
                "status.podIPs[0]: is a string (\"fd00::5\"), not a map"
            ),
            (
                [
                    "status": ["podIP": "fd00::5"],
                    "spec": ["containers": [["name": "a", "ports": [["containerPort": 0]]]]],
                ],
                "spec.containers[0].ports[0].containerPort: 0 is no port (1 to 65535)"
            ),
            (
                [
                    "status": ["podIP": "fd00::5"],
                    "spec": ["containers": [["name": "a", "ports": [["name": "HTTP", "containerPort": 1]]]]],
                ],
                "spec.containers[0].ports[0].name: \"HTTP\" is no port name (15 lower-case letters, digits and '-')"
            ),
            (
                ["status": ["podIP": "fd00::5"], "spec": ["containers": ["nginx"]]],
                "spec.containers[0]: is a string (\"nginx\"), not a map"
            ),
        ] as [(FieldValue, String)])
    func `a bad part of a pod is named, and the rest is used`(fields: FieldValue, note: String) {
        guard case .object(let map) = fields else { return }
        let (object, notes) = decode(.object(.pod, map.entries.map { ($0.key, $0.value) }))
        #expect(notes == [note])
        guard case .pod(let pod)? = object else {
            Issue.record("no pod")
            return
        }
        #expect(pod.addresses == [IPAddress("fd00::5")!])
        #expect(pod.spec.containers.allSatisfy { $0.ports.isEmpty })
    }

    @Test(
        arguments: [
            (["spec": ["hostNetwork": "true"]], "spec.hostNetwork: is a string (\"true\"), not true or false"),
            (["spec": ["containers": ["name": "a"]]], "spec.containers: is a map, not a list"),
            (
                ["status": ["phase": "running"]],
                "status.phase: \"running\" is none of Pending, Running, Succeeded, Failed, Unknown"
            ),
            (["status": ["podIP": "none"]], "status.podIP: \"none\" is no IP address"),
            (
                ["metadata": ["name": "x", "labels": ["version": 1]]],
                "metadata.labels.version: is a number (1), not a string"
            ),
            (
                ["metadata": ["name": "x", "creationTimestamp": "yesterday"]],
                "metadata.creationTimestamp: \"yesterday\" is no time (2026-01-31T12:00:00Z)"
            ),
            (["metadata": ["name": "X"]], "metadata.name: \"X\" is no name (lower-case letters, digits, '-' and '.')"),
            (
                ["metadata": ["name": "a/../b"]],
                "metadata.name: \"a/../b\" is no name (lower-case letters, digits, '-' and '.')"
            ),
            (
                ["metadata": ["name": "x", "namespace": "a\u{1b}[2J"]],
                "metadata.namespace: \"a\\u{1B}[2J\" is no name (lower-case letters, digits, '-' and '.')"
            ),
            (["metadata": ["generateName": "x-"]], "metadata.name: is missing"),
            (["metadata": "x"], "metadata: is a string (\"x\"), not a map"),
        ] as [(FieldValue, String)])
    func `a field that changes the whole pod refuses it`(fields: FieldValue, note: String) {
        guard case .object(let map) = fields else { return }
        let (object, notes) = decode(.object(.pod, map.entries.map { ($0.key, $0.value) }))
        #expect(notes == [note])
        #expect(object == nil)
    }

    // MARK: Endpoint slices

    @Test func `an endpoint slice is read with its conditions and hints`() {
        let (object, notes) = decode([
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": [
                "namespace": "shop", "name": "web-abc", "labels": ["kubernetes.io/service-name": "web"],
            ],
            "addressType": "IPv4",
            "endpoints": [
                ["addresses": ["010.244.0.05", "10.244.0.6"]],
                [
                    "addresses": ["::ffff:10.244.0.7"],
                    "conditions": ["ready": false, "serving": true, "terminating": true],
                    "nodeName": "node-a", "zone": "z1",
                    "hints": ["forZones": [["name": "z1"]], "forNodes": [["name": "node-a"]]],
                    "targetRef": ["kind": "Pod", "namespace": "shop", "name": "web-0"],
                ],
                ["addresses": ["10.244.0.8"], "conditions": ["ready": .null, "serving": .null, "terminating": .null]],
            ],
            "ports": [["name": "http", "port": 8080], ["port": 53, "protocol": "UDP"]],
        ])
        #expect(notes.isEmpty)
        #expect(
            object
                == .endpointSlice(
                    EndpointSlice(
                        metadata: ObjectMetadata(
                            name: "web-abc", namespace: "shop", labels: ["kubernetes.io/service-name": "web"]),
                        family: .ipv4,
                        endpoints: [
                            Endpoint(address: IPAddress("10.244.0.5")!),
                            Endpoint(
                                address: IPAddress("10.244.0.7")!, isReady: false, isServing: true,
                                isTerminating: true, nodeName: "node-a", zone: "z1", hintedZones: ["z1"],
                                hintedNodes: ["node-a"], pod: NamespacedName(namespace: "shop", name: "web-0")),
                            Endpoint(address: IPAddress("10.244.0.8")!),
                        ],
                        ports: [
                            EndpointPort(name: "http", number: Port(8080)!),
                            EndpointPort(protocol: .udp, number: Port(53)!),
                        ])))
        guard case .endpointSlice(let slice)? = object else { return }
        #expect(slice.service == NamespacedName(namespace: "shop", name: "web"))
        #expect(!slice.isHeadless)
    }

    @Test(
        arguments: [
            (["endpoints": [["addresses": ["1.2.3"]]]], "endpoints[0].addresses[0]: \"1.2.3\" is no IP address"),
            (["endpoints": [["addresses": []]]], "endpoints[0].addresses: is empty"),
            (["endpoints": [[:]]], "endpoints[0].addresses: is empty"),
            (
                ["endpoints": [["addresses": ["fd00::1"]]]],
                "endpoints[0]: fd00::1 is no IPv4 address, as addressType says"
            ),
            (
                ["endpoints": [["addresses": ["127.0.0.1"]]]],
                "endpoints[0].addresses[0]: 127.0.0.1 is a loopback address, which nothing can be served at"
            ),
            (
                ["endpoints": [["addresses": ["10.0.0.1"], "conditions": ["ready": "yes"]]]],
                "endpoints[0].conditions.ready: is a string (\"yes\"), not true or false"
            ),
            (["ports": [["name": "all"]]], "ports[0].port: is missing"),
            (["ports": [["port": 0]]], "ports[0].port: 0 is no port (1 to 65535)"),
        ] as [(FieldValue, String)])
    func `a bad part of a slice is named and left out`(fields: FieldValue, note: String) {
        guard case .object(let map) = fields else { return }
        let (object, notes) = decode(
            .object(.endpointSlice, [("addressType", "IPv4")] + map.entries.map { ($0.key, $0.value) }))
        #expect(notes == [note])
        guard case .endpointSlice(let slice)? = object else {
            Issue.record("no slice")
            return
        }
        #expect(slice.endpoints.isEmpty && slice.ports.isEmpty)
    }

    @Test func `a slice of host names is not used`() {
        let decoded = KubernetesObject.decode(.object(.endpointSlice, [("addressType", "FQDN")]), source: "")
        #expect(decoded.objects.isEmpty && decoded.refused.isEmpty)
        #expect(decoded.notes.map(\.severity) == [.warning])
    }

    // MARK: Cluster objects

    @Test func `a node is read with what of it can be used`() {
        let (object, notes) = decode(
            .object(
                .node,
                [
                    (
                        "spec",
                        [
                            "podCIDR": "10.244.1.0/24",
                            "podCIDRs": ["10.244.1.7/24", "fd00:10:244:1::/64", "10.244/16"],
                            "taints": [
                                ["key": "dedicated", "value": "db", "effect": "NoSchedule"], ["effect": "NoSchedule"],
                            ],
                        ]
                    ),
                    (
                        "status",
                        [
                            "addresses": [
                                ["type": "Hostname", "address": "x"], ["type": "InternalIP", "address": "192.168.0.1"],
                                ["type": "InternalIP", "address": "x"], ["type": "InternalIP", "address": "fd00::1"],
                            ]
                        ]
                    ),
                ]))
        #expect(
            notes == [
                "spec.podCIDRs[2]: \"10.244/16\" is no network in CIDR notation",
                "status.addresses[2].address: \"x\" is no IP address", "spec.taints[1].key: is missing",
            ])
        #expect(
            object
                == .node(
                    Node(
                        metadata: ObjectMetadata(name: "x", namespace: ""),
                        podCIDRs: [IPPrefix("10.244.1.0/24")!, IPPrefix("fd00:10:244:1::/64")!],
                        internalIPs: [IPAddress("192.168.0.1")!, IPAddress("fd00::1")!],
                        taints: [.init(key: "dedicated", value: "db", effect: "NoSchedule")])))
    }

    @Test func `a bad pod CIDR does not bring the other spelling back`() {
        let (object, notes) = decode(.object(.node, [("spec", ["podCIDR": "10.244.1.0/24", "podCIDRs": ["x"]])]))
        #expect(notes == ["spec.podCIDRs[0]: \"x\" is no network in CIDR notation"])
        #expect(object == .node(Node(metadata: ObjectMetadata(name: "x", namespace: ""))))
    }

    @Test(arguments: [["podCIDRs": ["10.244.1.7/24", "fd00:1::9/64"]], ["podCIDR": "10.244.1.7/24"]] as [FieldValue])
    func `a pod CIDR with host bits is its network`(spec: FieldValue) {
        guard case (.node(let node)?, let notes) = decode(.object(.node, [("spec", spec)])) else {
            Issue.record("no Node")
            return
        }
        #expect(notes == [] && node.podCIDRs.first == IPPrefix("10.244.1.0/24"))
        #expect(node.podCIDRs.dropFirst().allSatisfy { $0 == IPPrefix("fd00:1::/64") })
    }

    @Test func `a namespace carries the label with its name`() {
        let (object, notes) = decode([
            "apiVersion": "v1", "kind": "Namespace", "metadata": ["name": "shop", "labels": ["team": "a"]],
        ])
        #expect(notes.isEmpty)
        #expect(
            object == .namespace(Namespace(name: "shop", labels: ["team": "a", "kubernetes.io/metadata.name": "shop"])))
        #expect(object?.metadata.labels.count == 2)
        #expect(object?.reference.description == "Namespace shop")
    }

    @Test func `service networks are read`() {
        let (object, notes) = decode(.object(.serviceCIDR, [("spec", ["cidrs": ["10.96.0.0/16", "10.96.0.0/33"]])]))
        #expect(notes == ["spec.cidrs[1]: \"10.96.0.0/33\" is no network in CIDR notation"])
        #expect(
            object
                == .serviceCIDR(
                    ServiceCIDR(
                        metadata: ObjectMetadata(name: "x", namespace: ""), cidrs: [IPPrefix("10.96.0.0/16")!])))
    }

    // MARK: Workloads

    private static let template: FieldValue = [
        "metadata": ["labels": ["app": "web"]], "spec": ["containers": [["name": "web", "image": "nginx"]]],
    ]
    private static let selector: FieldValue = ["matchLabels": ["app": "web"]]

    @Test(arguments: [ObjectKind.deployment, .statefulSet, .daemonSet, .replicaSet])
    func `a workload is read with its template`(kind: ObjectKind) {
        let (object, notes) = decode(
            .object(
                kind, [("spec", ["replicas": 3, "selector": Self.selector, "template": Self.template])]))
        #expect(notes.isEmpty)
        guard case .workload(let workload)? = object else {
            Issue.record("no workload")
            return
        }
        #expect(object?.kind == kind)
        #expect(workload.replicas == 3)
        #expect(workload.template.labels == ["app": "web"])
        #expect(workload.template.spec.containers == [Container(name: "web")])
        #expect(workload.template.tree == Self.template)
    }

    @Test(
        arguments: [
            (["template": template], "spec.selector: is missing"),
            (["selector": [:], "template": template], "spec.selector: is empty"),
            (["selector": selector], "spec.template: is missing"),
            (
                ["selector": selector, "template": ["spec": [:]]],
                "spec.template.metadata.labels: are not matched by spec.selector"
            ),
            (
                ["selector": selector, "template": template, "replicas": -1],
                "spec.replicas: -1 is not within 0 to 100000"
            ),
            (
                ["selector": selector, "template": template, "replicas": "3"],
                "spec.replicas: is a string (\"3\"), not a whole number"
            ),
            (
                ["selector": selector, "template": template, "replicas": 1_000_000_000],
                "spec.replicas: 1000000000 is not within 0 to 100000"
            ),
        ] as [(FieldValue, String)])
    func `a workload that cannot be run is refused`(spec: FieldValue, note: String) {
        let (object, notes) = decode(.object(.deployment, [("spec", spec)]))
        #expect(notes == [note])
        #expect(object == nil)
    }
}
