import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import SystemPackage
import Testing

@testable import fairlead_cni

extension Attaching {
    /// The plugin that limits: the house's own does it itself, the others have it chained behind them.
    fileprivate var limitPlugin: String { self == .fairlead ? "fairlead" : "bandwidth" }

    fileprivate func limited(_ node: Node, _ limits: JSONObject) -> JSONObject {
        node.configuration(keys).with("runtimeConfig", ["bandWidth": .object(limits)])
    }

    fileprivate func addLimited(_ node: Node, _ pod: Pod, id: String = "c1", _ limits: JSONObject) throws -> Answer {
        let configuration = limited(node, limits)
        let first = try node.run(rawValue, "ADD", configuration, id: id, netns: pod.path)
        guard limitPlugin != rawValue, first.isSuccess else { return first }
        let second = configuration.with("prevResult", .object(first.json))
        return try node.run(limitPlugin, "ADD", second, id: id, netns: pod.path)
    }
}

/// 8 Mbit/s into the pod and 4 Mbit/s out of it, as kubelet's annotations come from containerd.
private let limits: JSONObject = [
    "IngressRate": 8_000_000, "IngressBurst": 800_000, "EgressRate": 4_000_000, "EgressBurst": 800_000,
]

@Suite(.needsRoot) struct BandwidthTests {
    private let attachment = AttachmentID(containerID: "c1", interface: name("eth0"))

    private func end(_ attaching: Attaching) -> InterfaceName {
        attaching == .fairlead ? attachment.routedHostInterface : attachment.bridgedHostInterface
    }

    @Test(arguments: Attaching.allCases)
    func `tc shows both limits, CHECK misses each, DEL and GC remove the device`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        let added = try attaching.addLimited(node, pod, limits)
        #expect(added.isSuccess, "\(added.outcome.output)")
        let block = attachment.intermediateBlock.description
        // As the reference plugin, which tells of the device it made.
        let names = added.json["interfaces"]?.array?.compactMap { $0.object?["name"]?.string } ?? []
        #expect(names.contains(block) == (attaching != .fairlead))
        let tc = { (arguments: String...) in
            try node.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("tc", arguments, timeout: .seconds(20)).text
            }
        }
        let ingress = try tc("qdisc", "show", "dev", end(attaching).description)
        #expect(
            ingress.contains("qdisc tbf 1: root") && ingress.contains("rate 8Mbit burst 100000b lat 25ms"), "\(ingress)"
        )
        #expect(try tc("qdisc", "show", "dev", block).contains("rate 4Mbit burst 100000b lat 25ms"))
        let filter = try tc("filter", "show", "dev", end(attaching).description, "parent", "ffff:")
        #expect(filter.contains("mirred (Egress Redirect to device \(block)) stolen"), "\(filter)")

        let previous = attaching.limited(node, limits).with("prevResult", .object(added.json))
        let check = { try node.run(attaching.limitPlugin, "CHECK", previous, netns: pod.path).message }
        #expect(try check() == "")
        _ = try tc(
            "qdisc", "replace", "dev", block, "root", "handle", "1:", "tbf", "rate", "5mbit", "burst", "100000",
            "latency", "25ms")
        #expect(try check() == "Rate doesn't match on \(block)")
        _ = try tc("qdisc", "del", "dev", block, "root")
        #expect(try check() == "Failed to find qdisc tbf on \(block)")
        _ = try tc("qdisc", "del", "dev", end(attaching).description, "root")
        #expect(try check() == "Failed to find qdisc tbf on \(end(attaching))")

        let others = try node.pod()
        #expect(try attaching.addLimited(node, others, id: "c2", limits).isSuccess)
        let collected = try node.run(
            attaching.limitPlugin, "GC",
            attaching.limited(node, [:]).with(
                "cni.dev/valid-attachments", [["containerID": "c2", "ifname": "eth0"]]))
        #expect(collected.outcome == Outcome())
        let blocks = { try node.remains().filter { $0.hasPrefix("link bwp") } }
        #expect(try blocks().count == 1 && !blocks().contains("link \(block)"))
        // DEL with nothing but the names.
        for plugin in Set([attaching.limitPlugin, attaching.rawValue]) {
            #expect(try node.run(plugin, "DEL", node.configuration(attaching.keys), id: "c2").outcome == Outcome())
        }
        #expect(try blocks() == [])
    }

    @Test func `a pod is really held back, both ways`() throws {
        let node = try Node()
        let outside = try Outside(beside: node)
        let pod = try node.pod()
        let slow: JSONObject = [
            "ingressRate": 800_000, "ingressBurst": 80_000, "egressRate": 400_000, "egressBurst": 80_000,
        ]
        #expect(try Attaching.fairlead.addLimited(node, pod, slow).isSuccess)
        // Pings of 1,400 bytes: beyond what the bucket holds at once they go at the rate.
        let pings = { (address: String, namespace: borrowing NetworkNamespace) in
            let text = try namespace.output(
                of: "ping", "-q", "-i", "0.002", "-c", "100", "-s", "1372", "-W", "1", address)
            return text.split(separator: ",").compactMap { part in
                part.contains("received") ? Int(part.split(separator: " ")[0]) : nil
            }.first
        }
        let route = try outside.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let link = try #require(try route.link(named: name("eth0")))
        try route.add(Route(to: IPPrefix("10.88.0.2/32")!, via: IPAddress("198.51.100.1"), link: link.index))
        // 100 pings in 0.2 s are 140,000 bytes; the slower way takes the bucket's 10,000, as many in its queue, and as
        // many again in the time. A busy machine takes longer, and more of them get through.
        let received = try #require(try pings("10.88.0.2", outside.namespace))
        #expect(received > 5 && received < 80, "\(received) of 100")
        let free = try node.pod()
        #expect(
            try node.run("fairlead", "ADD", node.configuration(), id: "c2", netns: free.path).hosts.first == "10.88.0.3"
        )
        try route.add(Route(to: IPPrefix("10.88.0.3/32")!, via: IPAddress("198.51.100.1"), link: link.index))
        #expect(try pings("10.88.0.3", outside.namespace) == 100)
    }

    @Test(arguments: [
        (#"{"ingressRate":1000}"#, "if rate is set, burst must also be set"),
        (#"{"egressBurst":1000}"#, "if burst is set, rate must also be set"),
        (#"{"ingressRate":1000,"ingressBurst":40000000000}"#, "burst cannot be more than 4GB"),
        (#"{"ingressRate":-1,"ingressBurst":1000}"#, "-1 is less than a byte a second"),
        (#"{"ingressRate":"1M","ingressBurst":1000}"#, "expected a whole number"), ("[]", "expected an object"),
    ])
    func `a limit that is none is named`(limits: String, message: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let value = try JSONValue(parsing: Array(limits.utf8))
        for plugin in ["fairlead", "bandwidth"] {
            let configuration = node.configuration(["runtimeConfig": ["bandwidth": value]])
                .with("prevResult", plugin == "bandwidth" ? ["cniVersion": "1.1.0"] : .null)
            let refused = try node.run(plugin, "ADD", configuration, netns: pod.path)
            #expect(refused.code == 7 && refused.message.hasPrefix("runtimeConfig.bandwidth"))
            #expect(refused.message.contains(message), "\(refused.message)")
            #expect(try node.run(plugin, "DEL", configuration, netns: pod.path).outcome == Outcome())
        }
        #expect(try node.remains() == [])
    }

    @Test func `the configuration's own limits count before the runtime's, and none is none`() throws {
        let node = try Node()
        let pod = try node.pod()
        let alone = try node.run("bandwidth", "ADD", node.configuration(), netns: pod.path)
        #expect(alone.code == 7 && alone.message == "must be called as chained plugin")
        let attached = try node.run("ptp", "ADD", node.configuration(), netns: pod.path)
        let bare = node.configuration().with("prevResult", .object(attached.json))
        let unlimited = try node.run("bandwidth", "ADD", bare, netns: pod.path)
        #expect(unlimited.json == attached.json)
        let both = bare.with("runtimeConfig", ["bandwidth": .object(limits)]).with("ingressRate", 16_000_000)
            .with("ingressBurst", 1_600_000)
        #expect(try node.run("bandwidth", "ADD", both, netns: pod.path).isSuccess)
        let shown = try node.namespace.output(of: "tc", "qdisc", "show", "dev", end(.ptp).description)
        #expect(shown.contains("rate 16Mbit burst 200000b"), "\(shown)")
        // Kubernetes' burst is 256 Mbit, and a rate may be more than 32 bits hold.
        let large: JSONObject = ["ingressRate": 80_000_000_000, "ingressBurst": 268_435_456]
        let again = bare.with("runtimeConfig", ["bandwidth": .object(large)])
        #expect(try node.run("bandwidth", "ADD", again, netns: pod.path).isSuccess)
        #expect(try node.run("bandwidth", "CHECK", again, netns: pod.path).message == "")
        #expect(
            try node.namespace.output(of: "tc", "qdisc", "show", "dev", end(.ptp).description).contains("rate 80Gbit"))
        let foreign = bare.with("prevResult", ["cniVersion": "1.1.0", "interfaces": [["name": "lo"]]])
            .with("runtimeConfig", ["bandwidth": .object(limits)])
        #expect(
            try node.run("bandwidth", "ADD", foreign, netns: pod.path).message
                == "no veth peer of container interface found in host ns")
    }
}
