import CNIProtocol
import NetworkAddresses
import PodAttachment
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

    @Test func `a route that the kernel messages cannot say is refused`() {
        var route = AttachmentResult.Route(to: IPPrefix("10.0.0.0/8")!)
        route.table = 100
        let error = #expect(throws: CNIError.self) { try routed(leased("10.244.1.7/24", routes: [route])) }
        #expect(error?.code == .unsupportedField && error?.message == "routes[0].table: 100 is not supported")
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
