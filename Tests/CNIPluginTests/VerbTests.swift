import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import Testing

@testable import fairlead_cni

@Suite(.needsRoot) struct CheckTests {
    /// Attaches a pod, lets `harm` happen and gives CHECK's words; nil where it finds no fault.
    private func fault(
        _ attaching: Attaching,
        _ harm: (_ node: Node, _ host: borrowing RouteSocket, _ pod: borrowing RouteSocket) throws -> Void
    ) throws -> String? {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(attaching.keys)
        let added = try node.run(attaching.rawValue, "ADD", configuration, netns: pod.path)
        let host = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let inside = try pod.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try harm(node, host, inside)
        let previous = configuration.with("prevResult", .object(added.json))
        let checked = try node.run(attaching.rawValue, "CHECK", previous, netns: pod.path)
        return checked.isSuccess ? nil : checked.message
    }

    @Test(arguments: Attaching.allCases) func `each piece that is gone is a fault`(attaching: Attaching) throws {
        let attachment = AttachmentID(containerID: "c1", interface: name("eth0"))
        let end = attaching == .fairlead ? attachment.routedHostInterface : attachment.bridgedHostInterface
        let length = attaching == .fairlead ? 32 : 24
        #expect(try fault(attaching) { _, _, _ in } == nil)
        #expect(
            try fault(attaching) { _, _, pod in
                let link = try #require(try pod.link(named: name("eth0")))
                try pod.remove(InterfaceAddress(IPPrefix("10.88.0.2/\(length)")!, link: link.index))
            } == "Failed to match addr 10.88.0.2/\(length) on interface eth0")
        #expect(
            try fault(attaching) { _, _, pod in
                for route in try pod.routes() where route.destination == IPPrefix("::/0") { try pod.remove(route) }
            }?.hasPrefix("Expected Route ::/0") == true)
        #expect(
            try fault(attaching) { _, host, _ in
                try host.change(link: try #require(try host.link(named: end)).index, LinkChange(isUp: false))
            } != nil)
        #expect(
            try fault(attaching) { _, host, _ in
                try host.deleteLink(index: try #require(try host.link(named: end)).index)
            } == "Interface name eth0 not found")
        #expect(
            try fault(attaching) { node, _, _ in
                try StateDirectory.open("\(node.folder)/leases/pods", create: false).remove("10.88.0.2")
            } == "host-local: 10.88.0.2 is not leased to container c1 (eth0)")
    }

    @Test func `what only a routed pod has is looked at as well`() throws {
        let end = AttachmentID(containerID: "c1", interface: name("eth0")).routedHostInterface
        #expect(
            try fault(.fairlead) { _, host, _ in
                for route in try host.routes(origin: .fairlead) where route.destination.family == .ipv6 {
                    try host.remove(route)
                }
            } == "Expected Route fd00:88::2 on \(end) not found in routing table")
        #expect(
            try fault(.fairlead) { _, host, _ in
                for neighbor in try host.neighbors() where neighbor.address == IPAddress("10.88.0.2") {
                    try host.remove(neighbor)
                }
            }?.hasPrefix("neighbour 10.88.0.2 on \(end)") == true)
        #expect(
            try fault(.fairlead) { node, _, _ in
                _ = try StateDirectory.open("\(node.folder)/state/attachments", create: false).remove("c1-eth0.json")
            } == "attachment record c1-eth0.json not found")
    }

    @Test func `what only a bridged pod has is looked at as well`() throws {
        #expect(
            try fault(.bridge) { _, host, _ in
                let end = AttachmentID(containerID: "c1", interface: name("eth0")).bridgedHostInterface
                let link = try #require(try host.link(named: end))
                try host.change(link: link.index, LinkChange(bridge: .some(nil)))
            } == "CNI veth created for bridge br0 was not found")
    }

    @Test(arguments: ["fairlead", "bridge"]) func `CHECK needs the result of ADD`(plugin: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(["bridge": "br0"])
        #expect(try node.run(plugin, "ADD", configuration, netns: pod.path).isSuccess)
        let checked = try node.run(plugin, "CHECK", configuration, netns: pod.path)
        #expect(checked.code == 7 && checked.message == "Required prevResult missing")
    }
}

@Suite(.needsRoot) struct GarbageTests {
    @Test(arguments: Attaching.allCases) func `GC frees what is not valid any more and nothing of other networks`(
        attaching: Attaching
    ) throws {
        let node = try Node()
        let configuration = node.configuration(ranges: ["10.88.0.0/24"], attaching.keys)
        let other = node.configuration(ranges: ["10.88.0.0/24"], attaching.keys).with("name", "other")
            .with("runtimeConfig", ["ips": ["10.88.0.77"]])
        let pods = try (0..<3).map { _ in try node.pod() }
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "a", netns: pods[0].path).isSuccess)
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "b", netns: pods[1].path).isSuccess)
        #expect(try node.run(attaching.rawValue, "ADD", other, id: "c", netns: pods[2].path).isSuccess)
        let collected = try node.run(
            attaching.rawValue, "GC",
            configuration.with("cni.dev/valid-attachments", [["containerID": "b", "ifname": "eth0"]]))
        #expect(collected.outcome == Outcome(), "\(collected.outcome.output)")
        let remains = try node.remains().filter { !$0.hasPrefix("link") && !$0.hasPrefix("address") }
        let records = attaching == .fairlead ? ["record b-eth0.json", "record c-eth0.json"] : []
        #expect(remains == ["lease 10.88.0.3", "owner b@eth0"] + records)
        if attaching == .fairlead { #expect(try pods.map { try $0.links().count } == [1, 2, 2]) }
        let refused = try node.run(attaching.rawValue, "GC", configuration.with("cni.dev/valid-attachments", "all"))
        #expect(refused.code == 7)
        #expect(try node.remains().filter { $0.hasPrefix("lease") } == ["lease 10.88.0.3"])
    }
}

@Suite(.needsRoot) struct LoopbackTests {
    @Test(arguments: ["0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    func `lo comes up, is checked and goes down`(version: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration: JSONObject = ["cniVersion": .string(version), "name": "lo-net"]
        if version >= "0.4.0" {
            #expect(
                try node.run("loopback", "CHECK", configuration, netns: pod.path).message
                    == "loopback interface is down")
        }
        let added = try node.run("loopback", "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        let reported = ["ip4", "ip6"].compactMap { added.json[$0]?.object?["ip"]?.string } + added.addresses
        #expect(reported == ["127.0.0.1/8", "::1/128"])
        if version >= "0.3.0" {
            #expect(
                added.json["interfaces"] == [["name": "lo", "mac": "00:00:00:00:00:00", "sandbox": .string(pod.path)]])
        }
        #expect(try pod.links().map(\.isUp) == [true])
        if version >= "0.4.0" {
            #expect(try node.run("loopback", "CHECK", configuration, netns: pod.path).outcome == Outcome())
        }
        #expect(try node.run("loopback", "DEL", configuration, netns: pod.path).outcome == Outcome())
        #expect(try pod.links().map(\.isUp) == [false])
        #expect(try node.run("loopback", "DEL", configuration, netns: "/run/netns/no-such").outcome == Outcome())
        #expect(try node.run("loopback", "DEL", configuration, netns: "").outcome == Outcome())
    }

    @Test func `the result of the plugin before goes through as it came`() throws {
        let node = try Node()
        let previous: JSONValue = [
            "cniVersion": "1.0.0", "interfaces": [["name": "x", "vendor": [1]]],
            "ips": [["interface": 0, "address": "10.1.1.1/24"]], "custom": ["a": "b"],
        ]
        let configuration: JSONObject = ["cniVersion": "1.0.0", "name": "n", "prevResult": previous]
        let answer = try node.run("loopback", "ADD", configuration, netns: node.pod().path)
        #expect(answer.outcome.output == previous.text + "\n")
    }

    @Test func `an address that is no loopback one is refused`() throws {
        let node = try Node()
        let pod = try node.pod()
        let inside = try pod.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let link = try #require(try inside.link(named: name("lo")))
        try inside.add(InterfaceAddress(IPPrefix("10.1.1.1/32")!, link: link.index))
        let answer = try node.run("loopback", "ADD", ["cniVersion": "1.0.0", "name": "n"], netns: pod.path)
        #expect(answer.message == #"loopback interface found with non-loopback address "10.1.1.1""#)
    }
}

@Suite(.needsRoot) struct StatusTests {
    private func report(_ synced: Bool, pid: Int32, errors: [String] = []) -> JSONObject {
        ["pid": .number(JSONNumber(Int(pid))), "synced": .bool(synced), "errors": .array(errors.map { .string($0) })]
    }

    @Test(arguments: [["overlay": "vxlan"], ["policyGate": "wait"]] as [JSONObject])
    func `STATUS knows whether the agent that pods need has the node in shape`(keys: JSONObject) throws {
        let node = try Node()
        let configuration = node.configuration(keys)
        let state = try StateDirectory.open("\(node.folder)/state", create: true)
        func status(_ text: String?) throws -> Answer {
            if let text { try state.replace("status.json", Array(text.utf8)) }
            return try node.run("fairlead", "STATUS", configuration)
        }
        let missing = try status(nil)
        #expect(missing.code == 50 && missing.message == "no node agent has reported")
        #expect(try status("{").message == "no node agent has reported")
        let ended = try status(JSONValue.object(report(true, pid: 1 << 30)).text)
        #expect(ended.code == 50 && ended.message == "the node agent has ended")
        let early = try status(JSONValue.object(report(false, pid: getpid(), errors: ["no route"])).text)
        #expect(early.code == 50 && early.message == "the node agent has not programmed this node yet")
        #expect(early.details == "no route")
        var overlay = report(true, pid: getpid())
        overlay["overlay"] = ["mode": "vxlan", "ready": false, "reason": "no address of this node is known"]
        let alone = try status(JSONValue.object(overlay).text)
        #expect(alone.code == 50 && alone.message == "the overlay is not ready")
        #expect(alone.details == "no address of this node is known")
        overlay["overlay"] = ["mode": "vxlan", "ready": true, "reason": ""]
        #expect(try status(JSONValue.object(overlay).text).outcome == Outcome())
        #expect(try status(JSONValue.object(report(true, pid: getpid())).text).outcome == Outcome())
    }

    @Test func `STATUS without an overlay needs no agent`() throws {
        let node = try Node()
        #expect(try node.run("fairlead", "STATUS", node.configuration()).outcome == Outcome())
    }
}

@Suite(.needsRoot) struct StepTimesTests {
    @Test func `the times of an ADD's steps go to standard error when they are asked for`() throws {
        let node = try Node()
        let pod = try node.pod()
        let plain = try node.run("bridge", "ADD", node.configuration(), netns: pod.path)
        #expect(plain.isSuccess && plain.outcome.diagnostics == "")
        #expect(try node.run("bridge", "DEL", node.configuration(), netns: pod.path).isSuccess)
        let timed = try node.run(
            "bridge", "ADD", node.configuration(), netns: pod.path, environment: ["FAIRLEAD_CNI_TIMES": "1"])
        let lines = timed.outcome.diagnostics.split(separator: "\n")
        #expect(timed.isSuccess && lines.count > 15)
        #expect(lines.allSatisfy { Int($0.split(separator: " ")[0]) != nil && $0.contains(" us  ") })
        #expect(lines.contains { $0.hasSuffix(" us  reserve addresses") })
    }
}
