import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import Nftables
import PodAttachment
import RouteNetlink
import Testing

@testable import fairlead_cni

@Suite(.needsRoot) struct BridgeKeyTests {
    private func add(_ node: Node, _ pod: Pod, id: String, _ keys: JSONObject) throws -> (JSONObject, Answer) {
        var all = Attaching.bridge.keys
        for member in keys.members { all[member.key] = member.value }
        let configuration = node.configuration(ranges: ["10.88.0.0/24"], all)
        return (configuration, try node.run("bridge", "ADD", configuration, id: id, netns: pod.path))
    }

    private func setMAC(_ mac: String, of pod: Pod) throws {
        let inside = try pod.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let link = try #require(try inside.link(named: name("eth0")))
        try inside.change(link: link.index, LinkChange(mac: MACAddress(mac)))
    }

    @Test func `a pod sends under its own Ethernet address only, where macspoofchk says so`() throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod()]
        let (configuration, added) = try add(node, pods[0], id: "c0", ["macspoofchk": true])
        #expect(added.isSuccess, "\(added.outcome.output)")
        #expect(try add(node, pods[1], id: "c1", [:]).1.isSuccess)
        let attachment = AttachmentID(containerID: "c0", interface: name("eth0"))
        let check = {
            try node.run(
                "bridge", "CHECK", configuration.with("prevResult", .object(added.json)), id: "c0",
                netns: pods[0].path)
        }
        #expect(try check().outcome == Outcome())
        #expect(try pods[0].pings("10.88.0.1") && pods[0].pings("10.88.0.3"))
        try setMAC("02:00:00:00:00:99", of: pods[0])
        #expect(try !pods[0].pings("10.88.0.1") && !pods[0].pings("10.88.0.3"))
        try setMAC(attachment.podMAC.description, of: pods[0])
        #expect(try pods[0].pings("10.88.0.3"))
        // The other pod did not ask for it.
        try setMAC("02:00:00:00:00:98", of: pods[1])
        #expect(try pods[1].pings("10.88.0.1"))

        let elements = { try node.elements(of: "fairlead-spoofcheck", family: .bridge) }
        #expect(try elements().count == 2)
        let listing = try node.namespace.output(of: "nft", "list", "ruleset")
        #expect(listing.contains("iifname @ports iifname . ether saddr != @addresses drop"), "\(listing)")
        _ = try node.namespace.output(of: "nft", "flush set bridge fairlead-spoofcheck addresses")
        #expect(try check().message.contains("addresses of table bridge fairlead-spoofcheck does not hold"))
        _ = try node.namespace.output(of: "nft", "flush", "ruleset")
        _ = try node.namespace.output(of: "nft", "-f", "-", input: listing)
        #expect(try node.namespace.output(of: "nft", "list", "ruleset") == listing)
        #expect(try check().outcome == Outcome())

        // GC keeps what is listed and takes the rest; DEL comes with nothing but the names.
        let valid: JSONValue = [["containerID": "c0", "ifname": "eth0"]]
        #expect(
            try node.run("bridge", "GC", configuration.with("cni.dev/valid-attachments", valid)).outcome == Outcome())
        #expect(try elements().count == 2)
        #expect(try node.run("bridge", "DEL", node.configuration(), id: "c0").outcome == Outcome())
        #expect(try elements() == [])
        #expect(try add(node, node.pod(), id: "c2", ["macspoofchk": true]).1.isSuccess && elements().count == 2)
        #expect(try node.run("bridge", "GC", configuration).outcome == Outcome())
        #expect(try elements() == [])
    }

    @Test func `an address that somebody has is found out with enabledad, and the ADD fails`() throws {
        let node = try Node()
        let pods = [try node.pod(), try node.pod()]
        let configuration = { (address: String) in
            node.configuration(["bridge": "br0", "enabledad": true])
                .with("ipam", ["type": "static", "addresses": [["address": .string(address)]]])
        }
        let first = try node.run("bridge", "ADD", configuration("fd00:88::5/64"), id: "c0", netns: pods[0].path)
        #expect(first.isSuccess, "\(first.outcome.output)")
        let inside = {
            try pods[0].namespace.output(of: "ip", "-6", "address", "show", "dev", "eth0", "scope", "global")
        }
        #expect(
            try inside().contains("fd00:88::5/64") && !inside().contains("tentative") && !inside().contains("nodad"))
        let twin = try node.run("bridge", "ADD", configuration("fd00:88::5/64"), id: "c1", netns: pods[1].path)
        #expect(twin.message == "the pod has address fd00:88::5/64 in DADFAILED state", "\(twin.outcome.output)")
        #expect(try pods[1].links().count == 1)
    }

    @Test func `a pod comes to a bridge that is in place beside others in progress`() throws {
        let node = try Node()
        let (configuration, _) = try add(node, node.pod(), id: "c0", [:])
        let state = try StateDirectory.open(#require(configuration["stateDir"]?.string), create: false)
        // As another ADD in progress holds it.
        let other = try state.lock("bridge-br0.lock", shared: true, timeout: .zero)
        let start = ContinuousClock.now
        let answer = try add(node, node.pod(), id: "c1", [:]).1
        // Who needs to be alone waits for 20 seconds, and fails then.
        #expect(answer.isSuccess && ContinuousClock.now - start < .seconds(15), "\(answer.outcome.output)")
        _ = consume other
    }

    @Test(arguments: [("hairpinMode", "hairpin"), ("portIsolation", "isolated")])
    func `CHECK misses what the port should be`(key: String, word: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let (configuration, added) = try add(
            node, pod, id: "c0", (["hairpinMode": false] as JSONObject).with(key, true))
        let port = try #require(added.json["interfaces"]?.array?[1].object?["name"]?.string)
        let check = {
            try node.run(
                "bridge", "CHECK", configuration.with("prevResult", .object(added.json)), id: "c0", netns: pod.path
            ).message
        }
        #expect(try check() == "")
        _ = try node.namespace.output(of: "bridge", "link", "set", "dev", port, word, "off")
        #expect(try check() == "port \(port) is not \(word)")
    }

    @Test(arguments: [["vlan": 100], ["vlanTrunk": [["minID": 5, "maxID": 7]]]] as [JSONObject])
    func `a VLAN is set, or it is said that the kernel has none`(keys: JSONObject) throws {
        let node = try Node()
        let pod = try node.pod()
        let (configuration, added) = try add(node, pod, id: "c0", keys)
        guard added.isSuccess else {
            #expect(
                added.code == 2
                    && added.message
                        == "vlan, vlanTrunk: the kernel cannot keep VLANs apart on bridge br0; use a bridge for each VLAN"
            )
            #expect(added.details.contains("CONFIG_BRIDGE_VLAN_FILTERING"))
            #expect(try node.remains() == [])
            return
        }
        let port = try #require(added.json["interfaces"]?.array?[1].object?["name"]?.string)
        let shown = try node.namespace.output(of: "bridge", "vlan", "show", "dev", port)
        #expect(shown.contains(keys["vlan"] == nil ? "5" : "100 PVID Egress Untagged"), "\(shown)")
        #expect(try pod.pings("10.88.0.1"))
        #expect(
            try node.run(
                "bridge", "CHECK", configuration.with("prevResult", .object(added.json)), id: "c0", netns: pod.path
            ).outcome == Outcome())
    }
}
