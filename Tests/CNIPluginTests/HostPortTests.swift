import CNIProtocol
import KernelInterface
import NetworkAddresses
import Nftables
import PodAttachment
import RouteNetlink
import SystemPackage
import Testing

@testable import fairlead_cni

extension Attaching {
    /// The plugin that maps ports: the house's own does it itself, the others have it chained behind them.
    var portPlugin: String { self == .fairlead ? "fairlead" : "portmap" }

    /// Attaches a pod with host ports, as a runtime goes through the list.
    func add(
        _ node: Node, _ pod: Pod, id: String = "c1", ranges: [String] = ["10.88.0.0/24", "fd00:88::/64"],
        _ mappings: [JSONValue], _ keys: JSONObject = [:]
    ) throws -> Answer {
        let configuration = withPorts(node, ranges: ranges, mappings, keys)
        let first = try node.run(rawValue, "ADD", configuration, id: id, netns: pod.path)
        guard portPlugin != rawValue, first.isSuccess else { return first }
        let second = configuration.with("prevResult", .object(first.json))
        return try node.run(portPlugin, "ADD", second, id: id, netns: pod.path)
    }

    func withPorts(
        _ node: Node, ranges: [String] = ["10.88.0.0/24", "fd00:88::/64"], _ mappings: [JSONValue],
        _ keys: JSONObject = [:]
    ) -> JSONObject {
        var all = self.keys
        for member in keys.members { all[member.key] = member.value }
        all["runtimeConfig"] = ["portMappings": .array(mappings)]
        return node.configuration(ranges: ranges, all)
    }

    /// Detaches as a runtime does that has lost all but the names: no namespace, no previous result, no ports.
    func delete(_ node: Node, id: String = "c1") throws {
        for plugin in Set([portPlugin, rawValue]) {
            let deleted = try node.run(plugin, "DEL", node.configuration(keys), id: id)
            #expect(deleted.outcome == Outcome(), "\(deleted.outcome.output)")
        }
    }
}

extension Node {
    /// The elements of a table of the node, by what they are for; empty where there is no such table.
    func elements(of table: String, family: TableFamily = .inet) throws -> [String] {
        let ruleset = try namespace.withEntered { () throws(KernelError) in
            try NftablesSocket.open().observe(TableName(family, table))
        }
        return (ruleset?.sets ?? [:]).flatMap { name, set in
            set.elements.values.map { "\(name) \(set.definition.text(of: $0))" }
        }.sorted()
    }
}

private func mapping(_ host: Int, _ pod: Int, _ transport: String = "tcp", at address: String = "") -> JSONValue {
    // The notation of containerd, whose structures carry no JSON names.
    [
        "HostPort": .number(JSONNumber(host)), "ContainerPort": .number(JSONNumber(pod)),
        "Protocol": .string(transport), "HostIP": .string(address),
    ]
}

@Suite(.needsRoot) struct HostPortTests {
    @Test(arguments: Attaching.allCases)
    func `a port of the node leads to the pod, from everywhere`(attaching: Attaching) throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let (pod, other) = (try node.pod(), try node.pod())
        let added = try attaching.add(
            node, pod, [mapping(8080, 80), mapping(5353, 53, "udp"), mapping(9000, 80, at: "198.51.100.1")])
        #expect(added.isSuccess, "\(added.outcome.output)")
        #expect(try attaching.add(node, other, id: "c2", []).isSuccess)
        let server = try Server("web", tcp: [80], udp: [53], in: pod.namespace)
        defer { _ = server }
        let host4 = "198.51.100.1"
        let host6 = "fd00:51::1"
        for address in [host4, host6] {
            #expect(try ask(.tcp, address, 8080, from: outside.namespace) == "web")
            #expect(try ask(.tcp, address, 8080, from: node.namespace) == "web")
            #expect(try ask(.tcp, address, 8080, from: other.namespace) == "web")
            #expect(try ask(.tcp, address, 8080, from: pod.namespace) == "web", "a pod that reaches itself")
            // A client from outside is seen as it is.
            let seen = try ask(.udp, address, 5353, from: outside.namespace) ?? ""
            #expect(seen.hasPrefix(address == host4 ? "web 198.51.100.2:" : "web [fd00:51::2]:"), "\(seen)")
        }
        #expect(try ask(.tcp, "127.0.0.1", 8080, from: node.namespace) == "web")
        // Masqueraded: the pod could not answer 127.0.0.1.
        let seen = try ask(.udp, "127.0.0.1", 5353, from: node.namespace) ?? ""
        #expect(seen.hasPrefix(attaching == .fairlead ? "web 198.51.100.1:" : "web 10.88.0.1:"), "\(seen)")
        // Only the address that the mapping names.
        #expect(try ask(.tcp, host4, 9000, from: outside.namespace) == "web")
        #expect(try ask(.tcp, host6, 9000, from: outside.namespace) == nil)
        #expect(try ask(.tcp, "127.0.0.1", 9000, from: node.namespace) == nil)

        try attaching.delete(node)
        #expect(try node.elements(of: "fairlead-hostports") == [])
        #expect(try ask(.tcp, host4, 8080, from: outside.namespace) == nil)
    }

    @Test func `the node's own loopback services stay the node's`() throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pod = try node.pod()
        #expect(try Attaching.fairlead.add(node, pod, [mapping(8080, 80)]).isSuccess)
        let server = try Server("secret", tcp: [7777], in: node.namespace)
        defer { _ = server }
        #expect(try ask(.tcp, "127.0.0.1", 7777, from: node.namespace) == "secret")
        // route_localnet is on at the pod's interface: without the guard this would get in.
        let interface = AttachmentID(containerID: "c1", interface: name("eth0")).routedHostInterface
        let setting = ["net", "ipv4", "conf", interface.description, "route_localnet"]
        #expect(try node.namespace.withEntered { () throws(KernelError) in try KernelSetting.read(setting) } == "1")
        let inside = try pod.namespace.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "conf", "all", "route_localnet"], "1")
            return try RouteSocket.open()
        }
        let link = try #require(try inside.link(named: name("eth0")))
        try inside.add(
            Route(to: IPPrefix("127.0.0.1/32")!, via: IPAddress("169.254.1.1"), link: link.index, onLink: true))
        #expect(try ask(.tcp, "127.0.0.1", 7777, from: pod.namespace, source: "10.88.0.2") == nil)
        // It is the guard, and not that the packet never came.
        _ = try node.namespace.output(of: "nft", "flush", "chain", "inet", "fairlead-hostports", "guard")
        #expect(try ask(.tcp, "127.0.0.1", 7777, from: pod.namespace, source: "10.88.0.2") != nil)
        _ = outside
    }

    @Test(arguments: Attaching.allCases)
    func `a second claim on a port is refused, and takes nothing`(attaching: Attaching) throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod(), try node.pod()]
        #expect(try attaching.add(node, pods[0], [mapping(8080, 80)]).isSuccess)
        let before = try node.elements(of: "fairlead-hostports")
        let refused = try attaching.add(node, pods[1], id: "c2", [mapping(8081, 80), mapping(8080, 81)])
        #expect(refused.code == 101)
        #expect(refused.message == "host port 8080/tcp is already mapped to container c1 (eth0)")
        #expect(try node.elements(of: "fairlead-hostports") == before)
        if attaching == .fairlead {
            #expect(try node.remains().filter { $0.hasPrefix("lease") } == ["lease 10.88.0.2", "lease fd00:88::2"])
        }
        try attaching.delete(node, id: "c2")
        #expect(try node.elements(of: "fairlead-hostports") == before)
        // Another protocol or one address is another port; and with its holder the port is free.
        #expect(try attaching.add(node, pods[1], id: "c2", [mapping(8080, 80, "udp")]).isSuccess)
        try attaching.delete(node)
        #expect(try attaching.add(node, pods[2], id: "c3", [mapping(8080, 80)]).isSuccess)
    }

    @Test func `an address that was another's takes the other's ports with it`() throws {
        let node = try Node()
        let (old, new) = (try node.pod(), try node.pod())
        let add = { (id: String, pod: Pod, mappings: [JSONValue]) in
            let configuration = Attaching.fairlead.withPorts(node, ranges: ["10.88.0.0/30"], mappings)
            return try node.run("fairlead", "ADD", configuration, id: id, netns: pod.path)
        }
        #expect(try add("old", old, [mapping(8080, 80), mapping(8081, 81)]).isSuccess)
        // Its namespace ends and its lease goes, as on a node whose lease folder was wiped; DEL never comes.
        let inside = try old.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try inside.deleteLink(index: try #require(try inside.link(named: name("eth0"))).index)
        _ = try StateDirectory.open(node.folder, create: false).removeSubdirectory("leases")
        let added = try add("new", new, [mapping(8080, 82)])
        #expect(added.hosts == ["10.88.0.2"], "\(added.outcome.output)")
        let elements = try node.elements(of: "fairlead-hostports")
        #expect(
            elements.filter { $0.hasPrefix("ports4") } == [
                #"ports4 tcp . 8080 comment "pods/new/eth0" : 10.88.0.2 . 82"#
            ], "\(added.outcome.output)")
    }

    @Test(arguments: Attaching.allCases)
    func `CHECK misses a mapping, a chain and the table`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        let mappings = [mapping(8080, 80), mapping(9000, 80, at: "192.0.2.1")]
        let added = try attaching.add(node, pod, mappings)
        let previous = attaching.withPorts(node, mappings).with("prevResult", .object(added.json))
        let check = { try node.run(attaching.portPlugin, "CHECK", previous, netns: pod.path) }
        #expect(try check().message == "")
        let nft = { (command: String) in _ = try node.namespace.output(of: "nft", command) }
        try nft("delete element inet fairlead-hostports ports4 { tcp . 8080 }")
        #expect(try check().message.contains("does not hold tcp . 8080"))
        try nft(#"add element inet fairlead-hostports ports4 { tcp . 8080 comment "pods/c1/eth0" : 10.88.0.2 . 80 }"#)
        #expect(try check().isSuccess)
        try nft("flush chain inet fairlead-hostports output")
        #expect(try check().message == "chain output of table inet fairlead-hostports is missing or was changed")
        try nft("delete table inet fairlead-hostports")
        #expect(try check().message == "table inet fairlead-hostports not found")
        // The next ADD makes it whole.
        let other = try node.pod()
        #expect(try attaching.add(node, other, id: "c2", [mapping(8081, 80)]).isSuccess)
        let listing = try node.namespace.output(of: "nft", "list", "table", "inet", "fairlead-hostports")
        #expect(listing.contains("chain output") && listing.contains("8081"))
    }

    @Test(arguments: Attaching.allCases)
    func `GC removes the ports of this network's attachments that are not listed`(attaching: Attaching) throws {
        let node = try Node()
        for (index, id) in ["c1", "c2"].enumerated() {
            let pod = try node.pod()
            #expect(try attaching.add(node, pod, id: id, [mapping(8080 + index, 80)]).isSuccess)
        }
        let other = node.configuration(ranges: ["10.99.0.0/24"]).with("name", "others")
            .with("runtimeConfig", ["portMappings": [mapping(9090, 80)]])
        let pod = try node.pod()
        #expect(try node.run("fairlead", "ADD", other, id: "c9", netns: pod.path).isSuccess)
        let collect = { (valid: JSONValue) in
            try node.run(
                attaching.portPlugin, "GC", node.configuration(attaching.keys).with("cni.dev/valid-attachments", valid))
        }
        #expect(try collect([["containerID": "c2", "ifname": "eth0"]]).outcome == Outcome())
        let left = try node.elements(of: "fairlead-hostports").filter { $0.hasPrefix("ports4") }
            .map { $0.split(separator: " ")[3] }
        #expect(left == ["8081", "9090"])
        #expect(try collect([]).outcome == Outcome())
        #expect(try node.elements(of: "fairlead-hostports").allSatisfy { $0.contains("others/c9/eth0") })
    }

    @Test func `UDP conversations are forgotten when a port changes hands`() throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let flows = { try node.namespace.output(of: "conntrack", "-L", "-p", "udp", "--orig-port-dst", "5353") }
        // Before the mapping, the datagrams are the node's own.
        #expect(try ask(.udp, "198.51.100.1", 5353, from: outside.namespace, source: "198.51.100.2") == nil)
        let pod = try node.pod()
        #expect(try Attaching.fairlead.add(node, pod, [mapping(5353, 53, "udp")]).isSuccess)
        #expect(try flows() == "")
        let server = try Server("dns", udp: [53], in: pod.namespace)
        defer { _ = server }
        #expect(try ask(.udp, "198.51.100.1", 5353, from: outside.namespace) != nil)
        #expect(try flows().contains("src=10.88.0.2"))
        try Attaching.fairlead.delete(node)
        #expect(try flows() == "")
    }

    @Test func `nft lists the table and reads its own listing back`() throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod()]
        let first = [mapping(8080, 80), mapping(53, 53, "udp", at: "::")]
        #expect(try Attaching.bridge.add(node, pods[0], first, ["masqAll": true]).isSuccess)
        #expect(try Attaching.fairlead.add(node, pods[1], id: "c2", [mapping(8081, 80, at: "192.0.2.1")]).isSuccess)
        let listing = try node.namespace.output(of: "nft", "list", "ruleset")
        for text in [
            #"tcp . 8080 comment "pods/c1/eth0" : 10.88.0.2 . 80"#,
            #"192.0.2.1 . tcp . 8081 comment "pods/c2/eth0" : 10.88.0.3 . 80"#,
            #"ip6 saddr fd00:88::/64 masquerade"#, "dnat ip to meta l4proto . th dport map @ports4",
            "jump from-10.88.0.0/24",
        ] { #expect(listing.contains(text), "\(text) is not in\n\(listing)") }
        _ = try node.namespace.output(of: "nft", "flush", "ruleset")
        _ = try node.namespace.output(of: "nft", "-f", "-", input: listing)
        #expect(try node.namespace.output(of: "nft", "list", "ruleset") == listing)
    }

    @Test(arguments: [
        (#"[{"hostPort":0,"containerPort":80}]"#, "Invalid host port number: 0"),
        (#"[{"hostPort":70000,"containerPort":80}]"#, "Invalid host port number: 70000"),
        (#"[{"hostPort":80}]"#, "Invalid container port number: 0"),
        (#"[{"hostPort":80,"containerPort":-1}]"#, "Invalid container port number: -1"),
        (#"[{"hostPort":"80","containerPort":80}]"#, "expected a whole number"),
        (#"[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]"#, "protocol of tcp, udp and sctp"),
        (#"[{"hostPort":80,"containerPort":80,"hostIP":"nowhere"}]"#, "is no IP address"),
        (#"[{"hostPort":80,"containerPort":80,"hostIP":"::1"}]"#, "::1 cannot be mapped"),
        (#"[{"hostPort":80,"containerPort":80,"hostIP":"224.0.0.1"}]"#, "is no address of a node"),
        (
            #"[{"hostPort":80,"containerPort":80},{"hostPort":80,"containerPort":81,"hostIP":"0.0.0.0"}]"#,
            "is mapped twice"
        ),
        (#"[80]"#, "expected an object"), (#"{"hostPort":80}"#, "expected an array"),
    ])
    func `a mapping that is none is named`(mappings: String, message: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let list = try JSONValue(parsing: Array(mappings.utf8))
        for plugin in ["fairlead", "portmap"] {
            let configuration = node.configuration(["runtimeConfig": ["portMappings": list]])
                .with("prevResult", plugin == "portmap" ? ["cniVersion": "1.1.0"] : .null)
            let refused = try node.run(plugin, "ADD", configuration, netns: pod.path)
            #expect(refused.code == 7 && refused.message.contains(message), "\(refused.outcome.output)")
            #expect(refused.message.hasPrefix("runtimeConfig.portMappings"))
            // And is no reason to refuse a DEL.
            #expect(try node.run(plugin, "DEL", configuration, netns: pod.path).outcome == Outcome())
        }
        #expect(try node.remains() == [])
    }

    @Test(arguments: Attaching.allCases)
    func `a port is there for packets that meet the conditions`(attaching: Attaching) throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pod = try node.pod()
        let keys: JSONObject = [
            "conditionsV4": ["!", "-s", "198.51.100.2"], "conditionsV6": ["ip6", "saddr", "fd00:51::/64"],
        ]
        let added = try attaching.add(node, pod, [mapping(8080, 80), mapping(9000, 80, at: "198.51.100.1")], keys)
        #expect(added.isSuccess, "\(added.outcome.output)")
        let server = try Server("web", tcp: [80], in: pod.namespace)
        defer { _ = server }
        for port in [8080, 9000] {
            #expect(try ask(.tcp, "198.51.100.1", port, from: outside.namespace) == nil)
            #expect(try ask(.tcp, "198.51.100.1", port, from: node.namespace) == "web")
        }
        #expect(try ask(.tcp, "fd00:51::1", 8080, from: outside.namespace) == "web")
        let previous = attaching.withPorts(node, [mapping(8080, 80), mapping(9000, 80, at: "198.51.100.1")], keys)
            .with("prevResult", .object(added.json))
        let check = { try node.run(attaching.portPlugin, "CHECK", previous, netns: pod.path).message }
        #expect(try check() == "")
        let listing = try node.namespace.output(of: "nft", "list", "table", "inet", "fairlead-hostports")
        _ = try node.namespace.output(of: "nft", "flush map inet fairlead-hostports port-conditions4")
        #expect(try check().contains("port-conditions4 of table inet fairlead-hostports does not hold"))
        _ = try node.namespace.output(of: "nft", "flush", "ruleset")
        _ = try node.namespace.output(of: "nft", "-f", "-", input: listing)
        #expect(try node.namespace.output(of: "nft", "list", "table", "inet", "fairlead-hostports") == listing)
        try attaching.delete(node)
        #expect(try node.elements(of: "fairlead-hostports") == [])
        #expect(try !node.namespace.output(of: "nft", "list", "table", "inet", "fairlead-hostports").contains("only-"))
    }

    @Test func `a table of an older make is brought up to date by the next ADD, and its mappings stay`() throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pods = [try node.pod(), try node.pod()]
        #expect(try Attaching.fairlead.add(node, pods[0], [mapping(8080, 80)]).isSuccess)
        let whole = try node.namespace.withEntered { () throws(KernelError) in
            try NftablesSocket.open().observe(HostPortTable.name)?.chains
        }
        // The table as it was before there were conditions.
        for chain in ["prerouting", "output"] {
            _ = try node.namespace.output(of: "nft", "flush chain inet fairlead-hostports \(chain)")
            _ = try node.namespace.output(
                of: "nft",
                "add rule inet fairlead-hostports \(chain) meta nfproto ipv4 fib daddr type local "
                    + "dnat ip to meta l4proto . th dport map @ports4")
        }
        for map in ["port-conditions4", "port-conditions6", "bound-conditions4", "bound-conditions6"] {
            _ = try node.namespace.output(of: "nft", "delete map inet fairlead-hostports \(map)")
        }
        #expect(try Attaching.fairlead.add(node, pods[1], id: "c2", [mapping(8081, 80)]).isSuccess)
        let chains = try node.namespace.withEntered { () throws(KernelError) in
            try NftablesSocket.open().observe(HostPortTable.name)?.chains
        }
        #expect(chains?.mapValues(\.rules) == whole?.mapValues(\.rules))
        let servers = [
            try Server("old", tcp: [80], in: pods[0].namespace), try Server("new", tcp: [80], in: pods[1].namespace),
        ]
        defer { _ = servers }
        #expect(try ask(.tcp, "198.51.100.1", 8080, from: outside.namespace) == "old")
        #expect(try ask(.tcp, "198.51.100.1", 8081, from: outside.namespace) == "new")
    }

    @Test func `portmap is chained, passes its result on and knows its keys`() throws {
        let node = try Node()
        let pod = try node.pod()
        let alone = try node.run("portmap", "ADD", node.configuration(), netns: pod.path)
        #expect(alone.code == 7 && alone.message == "must be called as chained plugin")
        let previous: JSONValue = [
            "cniVersion": "1.1.0", "interfaces": [["name": "eth0", "sandbox": .string(pod.path)]],
            "ips": [["interface": 0, "address": "10.1.0.5/24", "vendor": "kept"]],
        ]
        let configuration = node.configuration().with("prevResult", previous)
        #expect(try JSONValue.object(node.run("portmap", "ADD", configuration, netns: pod.path).json) == previous)
        #expect(try node.elements(of: "fairlead-hostports") == [])
        let refused = try node.run("portmap", "ADD", configuration.with("conditionsV4", ["-m", "x"]), netns: pod.path)
        #expect(refused.code == 2 && refused.message.hasPrefix("conditionsV4: "))
        // Chains of iptables are how the reference plugin does it, and no reason to refuse a pod.
        let marking = configuration.with("externalSetMarkChain", "KUBE-MARK-MASQ")
        #expect(try node.run("portmap", "ADD", marking, netns: pod.path).isSuccess)
        #expect(try node.run("portmap", "STATUS", configuration).outcome == Outcome())
    }
}
