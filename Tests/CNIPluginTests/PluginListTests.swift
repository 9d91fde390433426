import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Testing

@testable import fairlead_cni

/// Lists of ours and the reference's plugins, in the hands of a runtime.
@Suite(.needsRoot) struct PluginListTests {
    private static let mappings: JSONObject = [
        "portMappings": [["HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""]],
        "bandwidth": ["IngressRate": 8_000_000, "IngressBurst": 8_000_000, "EgressRate": 8_000_000, "EgressBurst": 8_000_000],
    ]

    private func entry(_ maker: Maker, _ type: String, _ node: Node, _ keys: JSONObject = [:]) -> PluginList.Entry {
        let main = ["bridge", "ptp", "fairlead", "macvlan"].contains(type)
        var all = main ? node.configuration(keys) : keys
        all["type"] = .string(type)
        if type == "tuning" { all["dataDir"] = .string("\(node.folder)/tuning") }
        return PluginList.Entry(maker, all)
    }

    /// What the reference plugins keep in iptables.
    private func chains(_ node: Node) throws -> [String] {
        try ["iptables-save", "ip6tables-save"].flatMap { program in
            try node.namespace.output(of: program).split(separator: "\n").map(String.init).filter {
                $0.hasPrefix(":CNI-DN-") || $0.contains("10.88.0.") || $0.contains("fd00:88::")
            }
        }
    }

    @Test(arguments: ["fairlead", "bridge", "ptp"])
    func `the reference's chained plugins behind our attachments`(main: String) throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pod = try node.pod()
        let keys: JSONObject = main == "bridge" ? ["bridge": "br0", "isDefaultGateway": true, "hairpinMode": true] : [:]
        let routed: JSONObject = main == "ptp" ? ["ipam": ["routes": [["dst": "0.0.0.0/0"], ["dst": "::/0"]]]] : keys
        let list = PluginList(
            node,
            [
                entry(.house, main, node, routed),
                entry(.reference, "tuning", node, ["sysctl": ["net.ipv4.conf.eth0.arp_filter": "1"], "mtu": 1300]),
                entry(.reference, "portmap", node, ["backend": "iptables", "snat": true]),
                entry(.reference, "bandwidth", node),
                entry(.reference, "firewall", node, ["backend": "iptables"]),
            ])
        // The house's own plugin would take ports and limits for its own: nobody chains others for them behind it.
        let runtime = main == "fairlead" ? [:] : Self.mappings
        let added = try list.add(pod, runtime: runtime)
        #expect(added.isSuccess && added.hosts == ["10.88.0.2", "fd00:88::2"], "\(added.outcome.output)")
        #expect(try pod.links().last?.mtu == 1300)
        let server = try Server("web", tcp: [80], in: pod.namespace)
        defer { _ = server }
        if main != "fairlead" {
            #expect(try ask(.tcp, "198.51.100.1", 8080, from: outside.namespace) == "web")
            #expect(try node.namespace.output(of: "tc", "qdisc").contains("rate 8Mbit"))
        }
        // Debian's portmap looks for its IPv4 rules in IPv6 as well, and its bandwidth dies without limits.
        let entries = list.entries
        list.entries = entries.filter { !["portmap", "bandwidth"].contains($0.keys["type"]?.string) }
        let checked = try list.visit("CHECK", netns: pod.path, runtime: runtime)
        #expect(checked.isSuccess, "\(checked.outcome.output)")
        list.entries = entries
        // The pod's namespace is gone, as after a reboot of its runtime.
        let deleted = try list.visit("DEL", netns: "", runtime: runtime)
        #expect(deleted.isSuccess, "\(deleted.outcome.output)")
        #expect(try chains(node) == [])
        let left = try node.remains().filter { !$0.hasPrefix("address") && !["link br0", "link uplink"].contains($0) }
        #expect(left == [])
    }

    @Test func `our chained plugins behind the reference's bridge`() throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pod = try node.pod()
        let list = PluginList(
            node,
            [
                entry(.reference, "bridge", node, ["bridge": "br0", "isDefaultGateway": true, "hairpinMode": true]),
                entry(.house, "portmap", node), entry(.house, "bandwidth", node),
            ])
        let added = try list.add(pod, runtime: Self.mappings)
        #expect(added.isSuccess && added.hosts == ["10.88.0.2", "fd00:88::2"], "\(added.outcome.output)")
        let server = try Server("web", tcp: [80], in: pod.namespace)
        defer { _ = server }
        for address in ["198.51.100.1", "fd00:51::1"] {
            // The reference's bridge asks for two seconds whether its own IPv6 address is somebody else's.
            var answer: String?
            for _ in 0..<20 where answer == nil {
                answer = try ask(.tcp, address, 8080, from: outside.namespace)
                if answer == nil { usleep(500_000) }
            }
            #expect(answer == "web", "\(address)")
        }
        #expect(try node.namespace.output(of: "tc", "qdisc").contains("rate 8Mbit"))
        let checked = try list.visit("CHECK", netns: pod.path, runtime: Self.mappings)
        #expect(checked.isSuccess, "\(checked.outcome.output)")
        #expect(try list.visit("DEL", netns: pod.path).isSuccess)
        #expect(try list.visit("DEL", netns: "").isSuccess)
        #expect(try ask(.tcp, "198.51.100.1", 8080, from: outside.namespace) == nil)
        #expect(try node.elements(of: "fairlead-hostports") == [])
        #expect(try !node.namespace.output(of: "tc", "qdisc").contains("8Mbit"))
    }

    @Test(arguments: ["bridge", "ptp", "macvlan"], ["host-local", "static"])
    func `our addresses under the reference's attachments`(main: String, ipam: String) throws {
        let node = try Node()
        let pod = try node.pod()
        try node.install(ipam, of: .house)
        var keys = node.configuration(version: "1.0.0", ["bridge": "br0", "master": "under"])
        if ipam == "static" { keys["ipam"] = ["type": "static", "addresses": [["address": "10.88.0.2/24", "gateway": "10.88.0.1"]]] }
        if main == "macvlan" {
            _ = try node.namespace.output(of: "ip", "link", "add", "under", "type", "veth", "peer", "name", "under1")
        }
        let path = "\(node.folder)/plugins"
        let run = { (verb: String, keys: JSONObject, netns: String) in
            try node.runReference(main, verb, keys, netns: netns, path: path)
        }
        let added = try run("ADD", keys, pod.path)
        #expect(added.isSuccess && added.hosts.first == "10.88.0.2", "\(added.outcome.output)")
        #expect(try pod.addresses().contains("10.88.0.2/24"))
        let checked = try run("CHECK", keys.with("prevResult", .object(added.json)), pod.path)
        #expect(checked.isSuccess, "\(checked.outcome.output)")
        // It does not look whether the name is free before it asks for addresses, and gives them back.
        let again = try run("ADD", keys, pod.path)
        #expect(!again.isSuccess && !again.message.isEmpty, "\(again.outcome.output)")
        for netns in [pod.path, pod.path] { #expect(try run("DEL", keys, netns).isSuccess) }
        #expect(try node.remains().filter { $0.hasPrefix("lease") || $0.hasPrefix("owner") } == [])
    }

    @Test(arguments: ["fairlead", "bridge", "ptp"], ["host-local", "static", "dhcp"])
    func `the reference's addresses under our attachments`(main: String, ipam: String) throws {
        let node = try Node()
        let pod = try node.pod()
        // By a name that is not ours, so that it is a program that is asked.
        try node.install(ipam, of: .reference, as: "theirs")
        var keys = node.configuration(version: "1.0.0", ["bridge": "br0"], ipam: ["type": "theirs"])
        if ipam == "static" { keys["ipam"] = ["type": "theirs", "addresses": [["address": "10.88.0.2/24", "gateway": "10.88.0.1"]]] }
        if ipam == "dhcp" { keys["ipam"] = ["type": "theirs", "daemonSocketPath": .string("\(node.folder)/none")] }
        let added = try node.run(main, "ADD", keys, netns: pod.path)
        if ipam == "dhcp" {
            #expect(!added.isSuccess && added.message.contains("error dialing DHCP daemon"), "\(added.outcome.output)")
            #expect(try node.remains() == [] && pod.links().count == 1)
            return
        }
        #expect(added.isSuccess && added.hosts.first == "10.88.0.2", "\(added.outcome.output)")
        let checked = try node.run(main, "CHECK", keys.with("prevResult", .object(added.json)), netns: pod.path)
        if main == "fairlead", ipam == "static" {
            // The gateway of a routed pod is the host, and not the one that static's configuration asks to see again.
            #expect(checked.message == "static: Failed to match addr 10.88.0.2 on interface eth0")
        } else {
            #expect(checked.isSuccess, "\(checked.outcome.output)")
        }
        #expect(try node.run(main, "DEL", keys).isSuccess)
        #expect(try node.run(main, "DEL", keys).isSuccess)
        let left = try node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") }
        #expect(left == [])
    }

    @Test(arguments: ["fairlead", "bridge"])
    func `two networks share a folder of leases and a bridge, and neither collects the other's`(main: String) throws {
        let node = try Node()
        let keys: JSONObject = main == "bridge" ? ["bridge": "br0", "ipMasq": true] : ["policyGate": "open"]
        var lists: [PluginList] = []
        for (name, range) in [("pods", "10.88.0.0/24"), ("others", "10.89.0.0/24")] {
            var configuration = node.configuration(ranges: [range], keys)
            configuration["type"] = .string(main)
            let more = main == "bridge" ? ["portmap", "bandwidth"].map { entry(.house, $0, node) } : []
            lists.append(PluginList(node, version: "1.1.0", name: name, [PluginList.Entry(.house, configuration)] + more))
        }
        var pods: [String: Pod] = [:]
        for (index, list) in lists.enumerated() {
            for id in ["keep", "drop"] {
                let pod = try node.pod()
                pods["\(list.name)-\(id)"] = pod
                let port: JSONValue = .number(JSONNumber(8000 + 10 * index + (id == "keep" ? 0 : 1)))
                let added = try list.add(
                    pod, id: "\(list.name)-\(id)",
                    runtime: ["portMappings": [["hostPort": port, "containerPort": 80, "protocol": "tcp"]]])
                #expect(added.isSuccess, "\(added.outcome.output)")
            }
            #expect(try list.ask("STATUS").outcome == Outcome())
        }
        let before = try node.remains()
        let kept: JSONValue = [["containerID": "pods-keep", "ifname": "eth0"]]
        // What is no list changes nothing.
        for malformed: JSONValue in ["none", [7], [["ifname": "eth0"]], 1, ["containerID": "pods-keep"]] {
            let answer = try lists[0].ask("GC", ["cni.dev/valid-attachments": malformed])
            #expect(answer.code == 7 || answer.code == 6, "\(answer.outcome.output)")
        }
        #expect(try node.remains() == before)
        #expect(try lists[0].ask("GC", ["cni.dev/valid-attachments": kept, "cni.dev/attachments": kept]).isSuccess)
        func hasLink(_ id: String) throws -> Bool { try pods[id]!.links().count == 2 }
        #expect(try hasLink("pods-keep") && !hasLink("pods-drop") && hasLink("others-keep") && hasLink("others-drop"))
        // The list's older name.
        let legacy: JSONValue = [["containerID": "others-keep", "ifname": "eth0"]]
        #expect(try lists[1].ask("GC", ["cni.dev/attachments": legacy]).isSuccess)
        #expect(try hasLink("pods-keep") && hasLink("others-keep") && !hasLink("others-drop"))
        // No key and an empty list both say that nothing is valid.
        #expect(try lists[0].ask("GC").isSuccess)
        #expect(try !hasLink("pods-keep") && hasLink("others-keep"))
        #expect(try lists[1].ask("GC", ["cni.dev/valid-attachments": []]).isSuccess)
        // DEL of what GC has taken succeeds from the last plugin to the first.
        for list in lists {
            for id in ["keep", "drop"] { #expect(try list.visit("DEL", id: "\(list.name)-\(id)").isSuccess) }
        }
        let left = try node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") }
        #expect(left == [])
    }

    @Test func `an ADD that fails in the last plugin is undone by DEL through the whole list`() throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod()]
        let list = PluginList(
            node, version: "1.1.0",
            [
                entry(.house, "bridge", node, ["bridge": "br0", "isGateway": true, "ipMasq": true]),
                entry(.house, "bandwidth", node), entry(.house, "portmap", node),
            ])
        #expect(try list.add(pods[0], id: "first", runtime: Self.mappings).isSuccess)
        let before = try node.remains()
        for _ in 0..<2 {
            // The root cause both times, where the runtime has called DEL in between.
            let refused = try list.add(pods[1], id: "second", runtime: Self.mappings)
            #expect(refused.code == 101 && refused.message.contains("already mapped"), "\(refused.outcome.output)")
            #expect(try list.visit("DEL", id: "second", netns: pods[1].path).isSuccess)
            #expect(try node.remains() == before)
            #expect(try pods[1].links().count == 1)
        }
    }
}
