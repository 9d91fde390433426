import CNIProtocol
import NetworkAddresses
import PodAttachment
import RouteNetlink
import Testing

private func routed(
    _ leased: AttachmentResult, _ keys: String = "", underlay: Underlay? = Underlay(mtu: 1500, family: .ipv4)
) throws -> RoutedAttachment {
    let request = try request(#""ipam": {"type": "host-local"}\#(keys)"#)
    let configuration = try FairleadConfiguration(request.configuration, arguments: CNIArguments())
    return try RoutedAttachment(attachment, leased: leased, configuration: configuration, underlay: underlay)
}

@Suite struct RoutedAttachmentTests {
    @Test func `a dual-stack pod takes these steps`() throws {
        let plan = try routed(leased("10.244.1.7/24 10.244.1.1", "fd00:1::7/64 fd00:1::1"))
        #expect(
            plan.steps.map(\.description) == [
                "make veth fld162ccb905e to the pod's eth0", "set net/ipv6/conf/lo/disable_ipv6 = 0 in the pod",
                "set net/ipv6/conf/eth0/disable_ipv6 = 0 in the pod",
                "set net/ipv6/conf/eth0/accept_dad = 0 in the pod",
                "set net/ipv6/conf/eth0/keep_addr_on_down = 1 in the pod", "set net/ipv4/ip_forward = 1",
                "set net/ipv6/conf/all/forwarding = 1", "set net/ipv4/conf/fld162ccb905e/rp_filter = 1",
                "set net/ipv6/conf/fld162ccb905e/accept_ra = 0", "add address 10.244.1.7/32 to the pod's eth0",
                "add address fd00:1::7/128 to the pod's eth0", "set the pod's eth0 up",
                "set neighbour 169.254.1.1 22:e9:d3:34:6f:a1 on the pod's eth0",
                "set neighbour fe80::1 22:e9:d3:34:6f:a1 on the pod's eth0",
                "add route 0.0.0.0/0 via 169.254.1.1 onlink on the pod's eth0",
                "add route ::/0 via fe80::1 onlink on the pod's eth0",
                "set neighbour 10.244.1.7 de:16:2c:cb:90:5e on fld162ccb905e",
                "add route 10.244.1.7/32 on fld162ccb905e",
                "set neighbour fd00:1::7 de:16:2c:cb:90:5e on fld162ccb905e",
                "add route fd00:1::7/128 on fld162ccb905e",
                "wait for fld162ccb905e to run", "wait for the pod to take in packets to fd00:1::7",
            ])
        #expect(plan.steps.compactMap(\.undo) == [.removeLink(attachment.routedHostInterface)])
    }

    @Test func `a pod without IPv6 has none on its host's end either`() throws {
        let steps = try routed(leased("10.244.1.7/24")).steps.map(\.description)
        #expect(steps.contains("set net/ipv6/conf/fld162ccb905e/disable_ipv6 = 1"))
        #expect(!steps.contains { $0.contains("fe80::1") || $0.hasSuffix("in the pod") })
    }

    @Test func `the result says what the pod has`() throws {
        let plan = try routed(
            leased(
                "10.244.1.7/24", "fd00:1::7/64",
                routes: [.init(to: IPPrefix("10.0.0.0/8")!, via: IPAddress("10.244.1.1"))]),
            #", "dns": {"nameservers": ["10.96.0.10"]}"#)
        #expect(
            try plan.result(sandbox: "/run/netns/pod").json(as: .current) == [
                "cniVersion": "1.1.0",
                "interfaces": [
                    ["name": "fld162ccb905e", "mac": "22:e9:d3:34:6f:a1", "mtu": 1500],
                    ["name": "eth0", "mac": "de:16:2c:cb:90:5e", "sandbox": "/run/netns/pod", "mtu": 1500],
                ],
                "ips": [
                    ["interface": 1, "address": "10.244.1.7/32", "gateway": "169.254.1.1"],
                    ["interface": 1, "address": "fd00:1::7/128", "gateway": "fe80::1"],
                ],
                "routes": [
                    ["dst": "0.0.0.0/0", "gw": "169.254.1.1"], ["dst": "10.0.0.0/8", "gw": "169.254.1.1"],
                    ["dst": "::/0", "gw": "fe80::1"],
                ],
                "dns": ["nameservers": ["10.96.0.10"]],
            ])
    }

    @Test func `a default route with an MTU takes the place of ours`() throws {
        var route = AttachmentResult.Route(to: IPPrefix("0.0.0.0/0")!)
        route.mtu = 1400
        let plan = try routed(leased("10.244.1.7/24", routes: [route]))
        let routes = plan.result(sandbox: "x").routes
        #expect(routes.map(\.mtu) == [1400] && routes.map(\.gateway) == [IPAddress("169.254.1.1")])
    }

    @Test(
        arguments: [
            ("", Underlay(mtu: 1500, family: .ipv4), 1500),
            (#", "overlay": "direct""#, Underlay(mtu: 9000, family: .ipv4), 9000),
            (#", "overlay": "vxlan""#, Underlay(mtu: 1500, family: .ipv4), 1450),
            (#", "overlay": "vxlan""#, Underlay(mtu: 9001, family: .ipv6), 8931), (#", "overlay": "vxlan""#, nil, 1450),
            (#", "overlay": "vxlan", "mtu": 1400"#, Underlay(mtu: 1500, family: .ipv4), 1400),
            (#", "mtu": 0"#, nil, 1500),
            (#", "overlay": "vxlan""#, Underlay(mtu: 1300, family: .ipv4), 1280),
        ] as [(String, Underlay?, Int)])
    func `the MTU is what reaches other nodes in one piece`(keys: String, underlay: Underlay?, mtu: Int) throws {
        #expect(try routed(leased("10.244.1.7/24"), keys, underlay: underlay).mtu == mtu)
    }

    @Test(arguments: [
        (#", "mtu": 67"#, 7, "mtu: 67 is not within"), (#", "mtu": 65536"#, 7, "mtu: 65536"),
        (#", "mtu": "big""#, 7, "mtu: expected a whole number"),
        (#", "mtu": 1000"#, 7, "mtu: 1000 is less than 1280"),
        (#", "overlay": "gre""#, 7, #"overlay: "gre" is none of"#),
        (#", "policyGate": "ajar""#, 7, #"policyGate: "ajar" is none of"#),
        (#", "policyGateTimeout": -1"#, 7, "policyGateTimeout: -1"),
        (#", "stateDir": "here""#, 7, #"stateDir: "here" does not begin with /"#),
        (
            #", "runtimeConfig": {"mac": "01:00:5e:00:00:01"}"#, 7,
            "mac: 01:00:5e:00:00:01 is not the address of one interface"
        ),
        (#", "runtimeConfig": {"mac": "zz"}"#, 7, #"runtimeConfig.mac: "zz" is no Ethernet address"#),
        (#", "runtimeConfig": {"portMappings": [{"HostPort": 80}]}"#, 7, "runtimeConfig.portMappings[0].containerPort"),
        (#", "runtimeConfig": {"bandwidth": {"IngressRate": 1000}}"#, 7, "runtimeConfig.bandwidth.ingressBurst"),
    ])
    func `what cannot be done is refused by key`(keys: String, code: UInt, message: String) {
        let error = #expect(throws: CNIError.self) { try routed(leased("10.244.1.7/24", "fd00::7/64"), keys) }
        #expect(error?.code.rawValue == code && error?.message.hasPrefix(message) == true, "\(error?.message ?? "")")
    }

    @Test func `empty capabilities are fine`() throws {
        #expect(throws: Never.self) {
            try routed(
                leased("10.0.0.1/24"), #", "runtimeConfig": {"portMappings": [], "bandwidth": {"ingressRate": 0}}"#)
        }
    }

    @Test func `no addresses are no attachment`() {
        #expect(throws: CNIError(.internal, "IPAM plugin returned missing IP config")) { try routed(leased()) }
    }

    @Test func `a route's numbers reach the step, and 0 says nothing`() throws {
        var route = AttachmentResult.Route(to: IPPrefix("10.0.0.0/8")!)
        (route.mtu, route.advertisedSegmentSize, route.priority, route.table) = (1300, 1200, 50, 100)
        var plain = AttachmentResult.Route(to: IPPrefix("0.0.0.0/0")!)
        (plain.priority, plain.table, plain.scope) = (0, 254, 0)
        let steps = try routed(leased("10.244.1.7/24", routes: [route, plain])).steps
        let planned = steps.compactMap { step -> PlannedRoute? in
            guard case .addRoute(let route, .pod(attachment.interface)) = step else { return nil }
            return route
        }
        #expect(planned.map(\.destination.description) == ["10.0.0.0/8", "0.0.0.0/0"])
        #expect(
            planned.map(\.traits) == [
                RouteTraits(priority: 50, advertisedSegmentSize: 1200, table: 100), RouteTraits(scope: 0),
            ])
        #expect(planned.map(\.mtu) == [1300, nil])
    }

    @Test(arguments: [
        ("priority", -1, 7, "routes[0].priority: -1 is not within 0…4294967295"),
        ("table", 1 << 32, 7, "routes[0].table: 4294967296 is not within"),
        ("advmss", 65_536, 7, "routes[0].advmss: 65536 is not within"),
        ("mtu", -5, 7, "routes[0].mtu: -5 is not within"), ("scope", 256, 7, "routes[0].scope: 256 is not within"),
        ("scope", 253, 2, "routes[0].scope: 253 is for destinations on the link"),
    ])
    func `a route's number that cannot be is named`(key: String, value: Int, code: UInt, message: String) throws {
        var route = AttachmentResult.Route(to: IPPrefix("10.0.0.0/8")!)
        switch key {
        case "priority": route.priority = value
        case "table": route.table = value
        case "advmss": route.advertisedSegmentSize = value
        case "mtu": route.mtu = value
        default: route.scope = value
        }
        let error = #expect(throws: CNIError.self) { try routed(leased("10.244.1.7/24", routes: [route])) }
        #expect(error?.code.rawValue == code && error?.message.hasPrefix(message) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [
        (#", "ipMasq": true"#, "ipMasq: true needs clusterCIDRs"),
        (#", "clusterCIDRs": ["10.0.0.0"]"#, #"clusterCIDRs: "10.0.0.0" is no network"#),
        (#", "clusterCIDRs": "10.0.0.0/8""#, "clusterCIDRs: expected an array of strings"),
        (#", "clusterCIDRs": ["10.0.0.0/8"], "ipMasq": 1"#, "ipMasq: expected true or false"),
    ])
    func `what is to be masqueraded must be known`(keys: String, message: String) {
        let error = #expect(throws: CNIError.self) { try routed(leased("10.244.1.7/24"), keys) }
        #expect(error?.code == .invalidConfiguration && error?.message.hasPrefix(message) == true)
    }

    @Test func `the cluster's ranges decide what is masqueraded`() throws {
        let sources = { (keys: String) throws in
            let request = try request(#""ipam": {"type": "host-local"}\#(keys)"#)
            let configuration = try FairleadConfiguration(request.configuration, arguments: CNIArguments())
            return try configuration.masquerading.sources(of: [IPAddress("10.244.1.7")!, IPAddress("fd00::7")!])
        }
        let ranges = #", "clusterCIDRs": ["10.244.1.9/16", "10.244.0.0/16"]"#
        // Of a family without a range nothing is known, and nothing is done.
        #expect(try sources(ranges) == [.init(IPAddress("10.244.1.7")!, inside: [IPPrefix("10.244.0.0/16")!])])
        #expect(try sources("") == [] && sources(ranges + #", "ipMasq": false"#) == [])
        let error = #expect(throws: CNIError.self) { try sources(ranges + #", "ipMasq": true"#) }
        #expect(error?.message == "clusterCIDRs: no range of the family of fd00::7, and ipMasq is true")
    }

    @Test func `bandwidth is limited by annotations where nothing else is said`() throws {
        let limits = { (keys: String) throws in
            let request = try request(#""ipam": {"type": "host-local"}\#(keys)"#)
            return try FairleadConfiguration(request.configuration, arguments: CNIArguments()).bandwidth
        }
        let annotations = { (ingress: String, egress: String) in
            #""io.kubernetes.cri.pod-annotations": {"kubernetes.io/ingress-bandwidth": "\#(ingress)", "#
                + #""kubernetes.io/egress-bandwidth": "\#(egress)", "other": "1"}"#
        }
        let runtime = { (text: String) in #", "runtimeConfig": {\#(text)}"# }
        let annotated = try limits(runtime(annotations("10M", "1.5Ki")))
        #expect(annotated.ingress?.rate == 1_250_000 && annotated.ingress?.burst == 33_554_432)
        #expect(annotated.egress?.rate == 192)
        for (text, rate) in [("8k", 1000), ("1e3", 125), ("0.5G", 62_500_000), ("8000000m", 1000)] {
            #expect(try limits(runtime(annotations(text, ""))).ingress?.rate == UInt64(rate), "\(text)")
        }
        #expect(try limits(runtime(annotations("", ""))).isEmpty)
        // What the runtime made of them itself counts, also where that is nothing; and the configuration before all.
        let both = #""bandwidth": {"IngressRate": 8000, "IngressBurst": 8000}, "# + annotations("10M", "10M")
        #expect(try limits(runtime(both)).ingress?.rate == 1000 && limits(runtime(both)).egress == nil)
        let own = #", "egressRate": 16000, "egressBurst": 8000"#
        #expect(try limits(own + runtime(both)).egress?.rate == 2000 && limits(own + runtime(both)).ingress == nil)
        for (text, message) in [
            ("fast", #""fast" is no quantity such as 10M"#), ("10", "resource is unreasonably small (< 1kbit)"),
            ("2P", "resource is unreasonably large (> 1Pbit)"), ("nan", #""nan" is no quantity"#),
            ("-1M", #""-1M" is no quantity"#), ("0x1p30", #""0x1p30" is no quantity"#),
        ] {
            let error = #expect(throws: CNIError.self) { try limits(runtime(annotations(text, ""))) }
            #expect(
                error?.message.hasPrefix(
                    "runtimeConfig.io.kubernetes.cri.pod-annotations.kubernetes.io/ingress-bandwidth: \(message)")
                    == true, "\(error?.message ?? "")")
        }
    }

    @Test func `name servers are the runtime's, or else the configuration's, or else the IPAM plugin's`() throws {
        var result = leased("10.244.1.7/24")
        result.nameService.nameservers = ["192.0.2.1"]
        let servers = { (keys: String) throws in try routed(result, keys).nameService }
        #expect(try servers("").nameservers == ["192.0.2.1"])
        let own = #", "dns": {"nameservers": ["192.0.2.2"], "domain": "a.example"}"#
        #expect(try servers(own).nameservers == ["192.0.2.2"] && servers(own).domain == "a.example")
        let runtime = #", "runtimeConfig": {"dns": {"Servers": ["192.0.2.3"], "Searches": ["b"], "Options": ["c"]}}"#
        let last = try servers(own + runtime)
        #expect(last.nameservers == ["192.0.2.3"] && last.search == ["b"] && last.options == ["c"] && last.domain == "")
        #expect(try servers(own + #", "runtimeConfig": {"dns": {"Servers": null}}"#).nameservers == ["192.0.2.2"])
    }

    @Test func `the Ethernet address is asked for in three places, the runtime's last`() throws {
        let configuration = { (keys: String, arguments: String) in
            let request = try request(#""ipam": {"type": "host-local"}\#(keys)"#, arguments: arguments)
            return try FairleadConfiguration(request.configuration, arguments: request.arguments()).mac?.description
        }
        let args = #", "args": {"cni": {"mac": "02:00:00:00:00:02"}}"#
        let runtime = #", "runtimeConfig": {"mac": "02:00:00:00:00:03"}"#
        #expect(try configuration("", "") == nil)
        #expect(try configuration("", "MAC=02:00:00:00:00:01") == "02:00:00:00:00:01")
        #expect(try configuration(args, "MAC=02:00:00:00:00:01") == "02:00:00:00:00:02")
        #expect(try configuration(args + runtime, "MAC=02:00:00:00:00:01") == "02:00:00:00:00:03")
    }
}
