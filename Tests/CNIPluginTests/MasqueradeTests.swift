import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import SystemPackage
import Testing

@testable import fairlead_cni

/// The ranges of all pods of a cluster that the tests' nodes could be of.
let clusterRanges: JSONValue = ["10.88.0.0/16", "fd00:88::/48"]

extension Attaching {
    /// The network within which a pod keeps its address.
    fileprivate var inside: String { self == .fairlead ? "10.88.0.0/16" : "10.88.0.0/24" }
}

@Suite(.needsRoot) struct MasqueradeTests {
    @Test(arguments: Attaching.allCases, [true, false])
    func `what leaves the pods' network has the node's address, if it is asked for`(
        attaching: Attaching, masquerades: Bool
    ) throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pods = [try node.pod(), try node.pod()]
        var configuration = node.configuration(attaching.keys).with("ipMasq", .bool(masquerades))
        if attaching == .fairlead {
            // Nobody has to ask for it where the ranges are known.
            configuration = configuration.with("clusterCIDRs", clusterRanges)
            if masquerades { configuration["ipMasq"] = nil }
        }
        for (index, pod) in pods.enumerated() {
            let added = try node.run(attaching.rawValue, "ADD", configuration, id: "c\(index)", netns: pod.path)
            #expect(added.isSuccess, "\(added.outcome.output)")
        }
        let servers = [
            try Server("outside", udp: [53], in: outside.namespace),
            try Server("pod", udp: [53], in: pods[1].namespace),
        ]
        defer { _ = servers }
        let seen = { (address: String) in try ask(.udp, address, 53, from: pods[0].namespace) }
        // Without, the machine outside knows no way back to the pod.
        #expect(try seen("198.51.100.2")?.hasPrefix("outside 198.51.100.1:") ?? false == masquerades)
        #expect(try seen("fd00:51::2")?.hasPrefix("outside [fd00:51::1]:") ?? false == masquerades)
        #expect(try seen("10.88.0.3")?.hasPrefix("pod 10.88.0.2:") == true)
        #expect(try seen("fd00:88::3")?.hasPrefix("pod [fd00:88::2]:") == true)

        // DEL with nothing but the names.
        #expect(try node.elements(of: "fairlead-masquerade").count == (masquerades ? 4 : 0))
        #expect(try node.run(attaching.rawValue, "DEL", configuration, id: "c0").outcome == Outcome())
        #expect(try node.elements(of: "fairlead-masquerade").allSatisfy { $0.contains("pods/c1/eth0") })
        #expect(try node.run(attaching.rawValue, "DEL", configuration, id: "c1").outcome == Outcome())
        #expect(try node.elements(of: "fairlead-masquerade") == [])
        guard masquerades else { return }
        // The network's chain goes with its last pod.
        let listing = try node.namespace.output(of: "nft", "list", "table", "inet", "fairlead-masquerade")
        #expect(listing.contains("chain postrouting") && !listing.contains("outside-"))
    }

    @Test(arguments: Attaching.allCases) func `CHECK misses the element, and nft can read the table`(
        attaching: Attaching
    ) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(attaching.keys).with("ipMasq", true)
            .with("clusterCIDRs", clusterRanges)
        let added = try node.run(attaching.rawValue, "ADD", configuration, netns: pod.path)
        let previous = configuration.with("prevResult", .object(added.json))
        let check = { try node.run(attaching.rawValue, "CHECK", previous, netns: pod.path).message }
        #expect(try check() == "")
        let listing = try node.namespace.output(of: "nft", "list", "ruleset")
        #expect(
            listing.contains("ip daddr \(attaching.inside) return")
                && listing.contains(#"10.88.0.2 comment "pods/c1/eth0" : jump outside-\#(attaching.inside)"#),
            "\(listing)")
        _ = try node.namespace.output(of: "nft", "delete element inet fairlead-masquerade sources4 { 10.88.0.2 }")
        #expect(try check().contains("does not hold 10.88.0.2"))
        _ = try node.namespace.output(of: "nft", "flush", "ruleset")
        #expect(try check() == "table inet fairlead-masquerade not found")
        _ = try node.namespace.output(of: "nft", "-f", "-", input: listing)
        #expect(try node.namespace.output(of: "nft", "list", "ruleset") == listing)
    }

    @Test func `pods of other nodes see the pod's own address, and a network that is listed does`() throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pod = try node.pod()
        let configuration = node.configuration()
            .with("clusterCIDRs", ["10.88.0.0/16", "198.51.100.0/24", "fd00:88::/48", "fd00:88:0:1::/64"])
        #expect(try node.run("fairlead", "ADD", configuration, netns: pod.path).isSuccess)
        let there = try outside.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let link = try #require(try there.link(named: name("eth0")))
        for (destination, gateway) in [("10.88.0.0/24", "198.51.100.1"), ("fd00:88::/64", "fd00:51::1")] {
            try there.add(Route(to: IPPrefix(destination)!, via: IPAddress(gateway), link: link.index))
        }
        let server = try Server("other", udp: [53], in: outside.namespace)
        defer { _ = server }
        #expect(try ask(.udp, "198.51.100.2", 53, from: pod.namespace)?.hasPrefix("other 10.88.0.2:") == true)
        // In the other family the same machine is on no network of the cluster's.
        #expect(try ask(.udp, "fd00:51::2", 53, from: pod.namespace)?.hasPrefix("other [fd00:51::1]:") == true)
        #expect(
            try node.elements(of: "fairlead-masquerade") == [
                #"sources4 10.88.0.2 comment "pods/c1/eth0" : jump outside-10.88.0.0/16-198.51.100.0/24"#,
                #"sources6 fd00:88::2 comment "pods/c1/eth0" : jump outside-fd00_88__/48-fd00_88_0_1__/64"#,
            ])
        // GC knows another network's pods from this one's, and those that are listed.
        let others = configuration.with("name", "others")
            .with("ipam", ["type": "static", "addresses": [["address": "10.88.0.77/24"]]])
        #expect(try node.run("fairlead", "ADD", others, id: "c2", netns: node.pod().path).isSuccess)
        let valid: JSONValue = [["containerID": "c1", "ifname": "eth0"]]
        let collecting = configuration.with("cni.dev/valid-attachments", valid)
        #expect(try node.run("fairlead", "GC", collecting).outcome == Outcome())
        #expect(try node.elements(of: "fairlead-masquerade").count == 3)
        #expect(try node.run("fairlead", "GC", configuration).outcome == Outcome())
        #expect(
            try node.elements(of: "fairlead-masquerade") == [
                #"sources4 10.88.0.77 comment "others/c2/eth0" : jump outside-10.88.0.0/16-198.51.100.0/24"#
            ])
        #expect(try node.run("fairlead", "DEL", others, id: "c2").outcome == Outcome())
        #expect(try node.elements(of: "fairlead-masquerade") == [])
    }

    @Test(arguments: [Attaching.bridge, .ptp]) func `GC leaves the listed, other networks' and foreign interfaces`(
        attaching: Attaching
    ) throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod(), try node.pod()]
        let configuration = node.configuration(attaching.keys).with("ipMasq", true)
        for (id, pod) in zip(["c1", "c2"], pods) {
            #expect(try node.run(attaching.rawValue, "ADD", configuration, id: id, netns: pod.path).isSuccess)
        }
        let others = configuration.with("name", "others").with("bridge", "br0").with("forceAddress", true)
            .with("ipam", ["type": "static", "addresses": [["address": "10.88.0.77/24"]]])
        let third = try node.run(attaching.rawValue, "ADD", others, id: "c3", netns: pods[2].path)
        #expect(third.isSuccess, "\(third.outcome.output)")
        let valid: JSONValue = [["containerID": "c2", "ifname": "eth0"]]
        let collected = try node.run(
            attaching.rawValue, "GC", configuration.with("cni.dev/valid-attachments", valid))
        #expect(collected.outcome == Outcome(), "\(collected.outcome.output)")
        #expect(try pods.map { try $0.links().count } == [1, 2, 2])
        #expect(
            try node.remains().filter { $0.hasPrefix("sources4") || $0.hasPrefix("lease 10") } == [
                "lease 10.88.0.3",
                #"sources4 10.88.0.3 comment "pods/c2/eth0" : jump outside-10.88.0.0/24"#,
                #"sources4 10.88.0.77 comment "others/c3/eth0" : jump outside-10.88.0.0/24"#,
            ])
    }
}

@Suite(.needsRoot) struct PointToPointTests {
    @Test func `the result and the routes are those of the reference plugin`() throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(
            ranges: ["10.88.0.0/24"], ["mtu": 1400, "dns": ["nameservers": ["10.88.0.1"]]],
            ipam: ["routes": [["dst": "0.0.0.0/0"], ["dst": "10.0.0.0/8", "gw": "10.88.0.1", "mtu": 1300]]])
        let added = try node.run("ptp", "ADD", configuration, netns: pod.path)
        let interfaces = added.json["interfaces"]?.array?.compactMap(\.object) ?? []
        let host = AttachmentID(containerID: "c1", interface: name("eth0")).bridgedHostInterface
        #expect(interfaces.map { $0["name"]?.string } == [host.description, "eth0"])
        #expect(interfaces.map { $0["sandbox"]?.string } == [nil, pod.path])
        #expect(added.json["ips"]?.array?.first?.object?["interface"]?.integer == 1)
        #expect(added.json["ips"]?.array?.first?.object?["gateway"]?.string == "10.88.0.1")
        #expect(added.json["dns"]?.object?["nameservers"] == ["10.88.0.1"])
        let routes = try pod.namespace.output(of: "ip", "-4", "route").split(separator: "\n").map {
            $0.split(separator: " ").joined(separator: " ")
        }
        #expect(
            routes.sorted() == [
                "10.0.0.0/8 via 10.88.0.1 dev eth0 mtu 1300", "10.88.0.0/24 via 10.88.0.1 dev eth0 src 10.88.0.2",
                "10.88.0.1 dev eth0 scope link src 10.88.0.2", "default via 10.88.0.1 dev eth0",
            ])
        let outside = try node.namespace.output(of: "ip", "-4", "route", "show", "dev", host.description)
        #expect(outside.hasPrefix("10.88.0.2 "))
        let link = try node.namespace.output(of: "ip", "link", "show", "dev", host.description)
        #expect(link.contains("alias pods/c1/eth0") && link.contains("mtu 1400"))
    }

    @Test func `addresses are required`() throws {
        let node = try Node()
        let pod = try node.pod()
        let refused = try node.run("ptp", "ADD", node.configuration(["ipam": [:]]), netns: pod.path)
        #expect(refused.code == 7 && refused.message.hasPrefix("ipam.type: missing"))
        let none = node.configuration(["ipam": ["type": "static"]])
        #expect(
            try node.run("ptp", "ADD", none, netns: pod.path).message == "IPAM plugin returned missing IP config")
        #expect(try node.remains() == [])
    }
}

@Suite struct StaticTests {
    private func answer(
        _ ipam: JSONObject, _ keys: JSONObject = [:], arguments: String = "", version: String = "1.1.0",
        _ verb: String = "ADD"
    ) throws -> Answer {
        var configuration: JSONObject = ["name": "n", "cniVersion": .string(version), "ipam": .object(ipam)]
        for member in keys.members { configuration[member.key] = member.value }
        let bytes = Array(JSONValue.object(configuration).text.utf8)
        let environment = [
            "CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/none",
            "CNI_PATH": "/none", "CNI_ARGS": arguments,
        ]
        return try Answer(Invocation(arguments: ["static"], environment: environment).outcome { bytes })
    }

    private let two: JSONObject = [
        "addresses": [["address": "10.10.0.1/24", "gateway": "10.10.0.254"], ["address": "3ffe:ffff:0:1ff::1/64"]],
        "routes": [["dst": "0.0.0.0/0"], ["dst": "3ffe:ffff::/32", "gw": "3ffe:ffff:0::1"]],
        "dns": ["nameservers": ["8.8.8.8"], "domain": "example.com"],
    ]

    @Test func `the configuration's addresses, routes and name servers are the result`() throws {
        let added = try answer(two)
        #expect(added.addresses == ["10.10.0.1/24", "3ffe:ffff:0:1ff::1/64"])
        #expect(added.json["ips"]?.array?.map { $0.object?["gateway"]?.string } == ["10.10.0.254", nil])
        #expect(added.json["interfaces"] == nil && added.json["routes"]?.array?.count == 2)
        #expect(added.json["dns"]?.object?["domain"]?.string == "example.com")
        let previous: JSONObject = ["prevResult": .object(added.json)]
        #expect(try answer(two, previous, "CHECK").outcome == Outcome())
        let other: JSONObject = ["addresses": [["address": "10.10.0.2/24"]]]
        #expect(try answer(other, previous, "CHECK").message.contains("10.10.0.2/24"))
        #expect(try answer(two, "DEL").outcome == Outcome())
        #expect(try answer(two, "GC").outcome == Outcome() && answer(two, "STATUS").outcome == Outcome())
    }

    private func answer(_ ipam: JSONObject, _ verb: String) throws -> Answer { try answer(ipam, [:], verb) }

    @Test func `CNI_ARGS adds, args and the runtime replace`() throws {
        let arguments = "IP=10.20.0.5/24, fd00::5/64;GATEWAY=10.20.0.1,10.10.0.253"
        let added = try answer(two, arguments: arguments)
        #expect(added.addresses == ["10.10.0.1/24", "3ffe:ffff:0:1ff::1/64", "10.20.0.5/24", "fd00::5/64"])
        #expect(
            added.json["ips"]?.array?.map { $0.object?["gateway"]?.string }
                == ["10.10.0.253", nil, "10.20.0.1", nil])
        let args: JSONObject = ["args": ["cni": ["ips": ["10.30.0.1/16"]]]]
        #expect(try answer(two, args, arguments: arguments).addresses == ["10.30.0.1/16"])
        let runtime = args.with("runtimeConfig", ["IPs": ["10.40.0.1/16"]])
        #expect(try answer(two, runtime).addresses == ["10.40.0.1/16"])
    }

    @Test func `what is no address is named`() throws {
        let cases: [(JSONObject, JSONObject, String, Int, String)] = [
            (["addresses": [["address": "10.0.0.1"]]], [:], "", 7, "ipam.addresses[0].address: the 'address' field"),
            (["addresses": [["gateway": "10.0.0.1"]]], [:], "", 7, "ipam.addresses[0].address: the 'address' field"),
            (
                ["addresses": [["address": "10.0.0.1/8", "gateway": "fd00::1"]]], [:], "", 7,
                "ipam.addresses[0].gateway"
            ),
            (["addresses": 7], [:], "", 7, "ipam.addresses: expected an array"),
            (
                [:], ["runtimeConfig": ["ips": ["10.0.0.1"]]], "", 7,
                "runtimeConfig.ips: an entry in the 'ips' field is NOT"
            ),
            ([:], [:], "IP=10.0.0.1", 4, "CNI_ARGS: the 'ip' field is expected to be in CIDR notation"),
            ([:], [:], "GATEWAY=x", 4, "CNI_ARGS: invalid gateway address: x"),
        ]
        for (ipam, keys, arguments, code, message) in cases {
            let refused = try answer(ipam, keys, arguments: arguments)
            #expect(refused.code == code && refused.message.hasPrefix(message), "\(refused.outcome.output)")
        }
        let twice: JSONObject = ["addresses": [["address": "10.0.0.1/8"], ["address": "10.0.0.2/8"]]]
        #expect(try answer(twice, version: "0.2.0").message.contains("does not support more than 1 address per family"))
    }
}
