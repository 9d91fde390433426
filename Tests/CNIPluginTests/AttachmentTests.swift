import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import Testing

/// The plugins that attach pods.
enum Attaching: String, CaseIterable, CustomTestStringConvertible {
    case fairlead, bridge, ptp

    var testDescription: String { rawValue }

    var keys: JSONObject {
        switch self {
        case .fairlead: [:]
        case .bridge: ["bridge": "br0", "isDefaultGateway": true, "hairpinMode": true]
        // A point to point link has the routes that the IPAM plugin gives it.
        case .ptp: ["ipam": ["routes": [["dst": "0.0.0.0/0"], ["dst": "::/0"]]]]
        }
    }
}

private let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]

@Suite(.needsRoot) struct AttachmentTests {
    @Test(arguments: Attaching.allCases, versions)
    func `ADD, CHECK and DEL in every version and both families`(plugin: Attaching, version: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(version: version, plugin.keys)
        let added = try node.run(plugin.rawValue, "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        #expect(added.json["cniVersion"]?.string == version)
        let expected =
            plugin == .fairlead ? ["10.88.0.2/32", "fd00:88::2/128"] : ["10.88.0.2/24", "fd00:88::2/64"]
        let reported = ["ip4", "ip6"].compactMap { added.json[$0]?.object?["ip"]?.string } + added.addresses
        #expect(reported == expected)
        #expect(try pod.addresses() == expected)
        #expect(try node.remains().contains("lease 10.88.0.2"))

        if !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(version) {
            let checked = try node.run(
                plugin.rawValue, "CHECK", configuration.with("prevResult", .object(added.json)), netns: pod.path)
            #expect(checked.outcome == Outcome(), "\(checked.outcome.output)")
        }
        // Once more than needed: a runtime repeats DEL as it pleases.
        for _ in 0..<2 {
            let deleted = try node.run(
                plugin.rawValue, "DEL", configuration.with("prevResult", .object(added.json)), netns: pod.path)
            #expect(deleted.outcome == Outcome(), "\(deleted.outcome.output)")
        }
        #expect(try pod.links().map(\.name) == [name("lo")])
        #expect(try node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") } == [])
    }

    @Test(arguments: Attaching.allCases, [["10.88.0.0/24"], ["fd00:88::/64"], ["10.88.0.0/24", "fd00:88::/64"]])
    func `pods reach each other and the host, and the host reaches them`(plugin: Attaching, ranges: [String]) throws {
        let node = try Node()
        let configuration = node.configuration(ranges: ranges, plugin.keys)
        let pods = [try node.pod(), try node.pod()]
        var addresses: [[String]] = []
        for (index, pod) in pods.enumerated() {
            let added = try node.run(plugin.rawValue, "ADD", configuration, id: "c\(index)", netns: pod.path)
            #expect(added.isSuccess, "\(added.outcome.output)")
            addresses.append(added.hosts)
        }
        // A router answers for itself with an address; a node has one, a bare namespace none.
        for text in ["192.0.2.7/32", "fd00:7::7/128"] { try node.addLoopbackAddress(IPPrefix(text)!) }
        for family in ranges.indices {
            #expect(try pods[0].pings(addresses[1][family]))
            #expect(try pods[1].pings(addresses[0][family]))
            #expect(try pods[0].pings(ranges[family].contains(":") ? "fd00:7::7" : "192.0.2.7"))
            #expect(try node.succeeds("ping", "-c", "1", "-W", "2", addresses[0][family]))
        }
    }

    @Test func `a pod cannot send under another's address`() throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod()]
        let configuration = node.configuration(ranges: ["10.88.0.0/24"])
        for (index, pod) in pods.enumerated() {
            #expect(try node.run("fairlead", "ADD", configuration, id: "c\(index)", netns: pod.path).isSuccess)
        }
        let sender = try pods[0].namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let link = try #require(try sender.link(named: name("eth0")))
        try sender.add(InterfaceAddress(IPPrefix("10.88.0.99/32")!, link: link.index))
        /// Whether a ping under this source reaches the other pod; the answer goes elsewhere.
        let arrives = { (source: String) in
            let before = try pods[1].pingsReceived()
            _ = try pods[0].namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture(
                    "ping", ["-c", "1", "-W", "1", "-I", source, "10.88.0.3"], timeout: .seconds(20))
            }
            return try pods[1].pingsReceived() > before
        }
        #expect(try arrives("10.88.0.2"))
        #expect(try !arrives("10.88.0.99"))
        // It is the source that matters, and not that nobody listens.
        let interface = AttachmentID(containerID: "c0", interface: name("eth0")).routedHostInterface
        try node.namespace.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "conf", interface.description, "rp_filter"], "0")
        }
        #expect(try arrives("10.88.0.99"))
    }

    @Test(arguments: Attaching.allCases)
    func `a reused address has none of its last owner's connections`(plugin: Attaching) throws {
        let node = try Node()
        // One address, so that it is handed out again at once.
        let configuration = node.configuration(ranges: ["10.88.0.0/30"], plugin.keys)
        let pods = [try node.pod(), try node.pod()]
        #expect(try node.run(plugin.rawValue, "ADD", configuration, id: "c1", netns: pods[0].path).isSuccess)
        for source in ["10.88.0.2", "192.0.2.9"] {
            _ = try node.namespace.output(
                of: "conntrack", "-I", "-p", "udp", "-s", source, "-d", "192.0.2.7", "--sport", "1000", "--dport", "53",
                "-t", "300")
        }
        let flows = { try node.namespace.output(of: "conntrack", "-L", "-p", "udp") }
        #expect(try flows().contains("src=10.88.0.2") && flows().contains("src=192.0.2.9"))
        #expect(try node.run(plugin.rawValue, "DEL", configuration, id: "c1", netns: pods[0].path).isSuccess)
        let second = try node.run(plugin.rawValue, "ADD", configuration, id: "c2", netns: pods[1].path)
        #expect(second.hosts == ["10.88.0.2"])
        #expect(try !flows().contains("10.88.0.2") && flows().contains("src=192.0.2.9"))
    }

    @Test(arguments: Attaching.allCases)
    func `the MTU follows the default route's link`(plugin: Attaching) throws {
        let node = try Node()
        let host = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try host.addVeth(
            NewLink(name("uplink"), mtu: 8000, isUp: true), peer: NewLink(name("far"), mtu: 8000, isUp: true))
        let uplink = try #require(try host.link(named: name("uplink")))
        try host.add(InterfaceAddress(IPPrefix("198.51.100.1/24")!, link: uplink.index))
        try host.add(Route(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("198.51.100.2"), link: uplink.index))
        var expected = ["": 8000, "1400": 1400]
        if plugin == .fairlead { expected["vxlan"] = 7950 }
        for (key, mtu) in expected {
            let pod = try node.pod()
            var keys = plugin.keys
            if key == "vxlan" { keys["overlay"] = "vxlan" }
            if key == "1400" { keys["mtu"] = 1400 }
            let added = try node.run(plugin.rawValue, "ADD", node.configuration(keys), id: "m\(key)", netns: pod.path)
            #expect(added.isSuccess, "\(added.outcome.output)")
            #expect(try pod.links().first { $0.name == name("eth0") }?.mtu == mtu)
        }
    }

    @Test func `the bridge has the gateways and the pod's routes lead there`() throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(Attaching.bridge.keys, ipam: ["routes": [["dst": "10.0.0.0/8"]]])
        let added = try node.run("bridge", "ADD", configuration, netns: pod.path)
        let remains = try node.remains()
        #expect(remains.contains("address 10.88.0.1/24") && remains.contains("address fd00:88::1/64"))
        #expect(added.json["interfaces"]?.array?.map { $0.object?["sandbox"]?.string } == [nil, nil, pod.path])
        let host = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let bridge = try #require(try host.link(named: name("br0")))
        #expect(added.json["interfaces"]?.array?.first?.object?["mac"]?.string == bridge.mac?.description)
        let routes = try pod.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }.routes()
        let ways = routes.filter { $0.gateway != nil }.map { "\($0.destination) \($0.gateway!)" }.sorted()
        #expect(ways == ["0.0.0.0/0 10.88.0.1", "10.0.0.0/8 10.88.0.1", "::/0 fd00:88::1"])
    }

    @Test func `a plain layer 2 attachment has no addresses and needs none`() throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(["bridge": "br0", "ipam": [:]])
        let added = try node.run("bridge", "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess && added.json["ips"] == nil)
        #expect(try pod.links().first { $0.name == name("eth0") }?.isUp == true)
        let previous = configuration.with("prevResult", .object(added.json))
        #expect(try node.run("bridge", "CHECK", previous, netns: pod.path).outcome == Outcome())
        let old = node.configuration(version: "0.2.0", ["bridge": "br0", "ipam": [:]])
        let second = try node.pod()
        let refused = try node.run("bridge", "ADD", old, id: "c2", netns: second.path)
        #expect(refused.message == "cannot convert: no valid IP addresses")
        #expect(try second.links().count == 1)
    }

    @Test func `a bridge with another address is in the way or gives way`() throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod()]
        let first = node.configuration(ranges: ["10.88.0.0/24"], Attaching.bridge.keys)
        #expect(try node.run("bridge", "ADD", first, id: "c1", netns: pods[0].path).isSuccess)
        let before = try node.remains()
        let second = node.configuration(ranges: ["10.99.0.0/24"], Attaching.bridge.keys)
        let refused = try node.run("bridge", "ADD", second, id: "c2", netns: pods[1].path)
        #expect(refused.message.contains(#""br0" already has an IP address different from 10.99.0.1/24"#))
        #expect(try node.remains() == before)
        let forced = try node.run("bridge", "ADD", second.with("forceAddress", true), id: "c2", netns: pods[1].path)
        #expect(forced.isSuccess, "\(forced.outcome.output)")
        #expect(try node.remains().filter { $0.hasPrefix("address") } == ["address 10.99.0.1/24"])
    }

    /// By a router advertisement a pod could draw what the node sends over IPv6 to itself, also where its network is of
    /// IPv4 only (CVE-2020-10749).
    @Test(arguments: Attaching.allCases) func `a pod cannot become the node's router`(plugin: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(ranges: ["10.88.0.0/24"], plugin.keys)
        let added = try node.run(plugin.rawValue, "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        let routes = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        for link in try routes.links() where link.kind != .loopback {
            let (acceptance, isOff) = try node.namespace.withEntered { () throws(KernelError) in
                let settings = ["net", "ipv6", "conf", link.name.description]
                return (try KernelSetting.read(settings + ["accept_ra"]), try KernelSetting.read(settings + ["disable_ipv6"]))
            }
            #expect(acceptance == "0" || isOff == "1", "\(link.name)")
        }
        let shown = try node.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("nsenter", ["--net=\(pod.path)", "ip", "-4", "address", "show", "dev", "eth0"]).text
        }
        #expect(shown.contains("brd 10.88.0.255") == (plugin != .fairlead), "\(shown)")
    }

    @Test func `ports are hairpin, isolated or promiscuous as the keys say`() throws {
        let node = try Node()
        let output = { (program: String, arguments: [String]) in
            try node.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture(program, arguments, timeout: .seconds(20)).text
            }
        }
        let cases: [(id: String, keys: JSONObject, hairpin: String, isolated: String)] = [
            ("a", ["hairpinMode": true], "on", "off"), ("b", ["portIsolation": true], "off", "on"),
            ("c", ["promiscMode": true], "off", "off"),
        ]
        for (id, keys, hairpin, isolated) in cases {
            let pod = try node.pod()
            let configuration = node.configuration(keys).with("bridge", "br0")
            let added = try node.run("bridge", "ADD", configuration, id: id, netns: pod.path)
            let port = try #require(added.json["interfaces"]?.array?[1].object?["name"]?.string)
            let details = try output("bridge", ["-d", "link", "show", "dev", port])
            #expect(details.contains("hairpin \(hairpin)") && details.contains("isolated \(isolated)"), "\(details)")
        }
        #expect(try output("ip", ["link", "show", "br0"]).contains("PROMISC"))
    }

    @Test func `the fairlead plugin is the first of its list`() throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration().with("prevResult", ["cniVersion": "1.1.0", "ips": []])
        let refused = try node.run("fairlead", "ADD", configuration, netns: pod.path)
        #expect(refused.code == 7 && refused.message.hasPrefix("prevResult: "))
        #expect(try node.remains() == [])
    }
}
