import CNIProtocol
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Testing

@testable import fairlead_cni

/// One thing said in several places: `CNI_ARGS`, overruled by `args.cni`, overruled by the runtime's capability.
@Suite(.needsRoot) struct CapabilityTests {
    private let arguments = ["CNI_ARGS": "IgnoreUnknown=1;MAC=02:00:00:00:00:01;K8S_POD_NAME=p"]
    private let args: JSONValue = ["cni": ["mac": "02:00:00:00:00:02", "labels": [["key": "a", "value": "b"]]]]

    private func mac(of pod: Pod) throws -> String? {
        try pod.links().first { $0.name == name("eth0") }?.mac?.description
    }

    @Test(arguments: Attaching.allCases)
    func `the last word on the Ethernet address is the runtime's`(attaching: Attaching) throws {
        let node = try Node()
        let said = node.configuration(attaching.keys)
        let cases: [(JSONObject, String)] = [
            (said, "02:00:00:00:00:01"), (said.with("args", args), "02:00:00:00:00:02"),
            (said.with("args", args).with("runtimeConfig", ["Mac": "02:00:00:00:00:03"]), "02:00:00:00:00:03"),
        ]
        for (index, (configuration, expected)) in cases.enumerated() {
            let pod = try node.pod()
            let added = try node.run(
                attaching.rawValue, "ADD", configuration, id: "c\(index)", netns: pod.path, environment: arguments)
            #expect(added.isSuccess, "\(added.outcome.output)")
            #expect(try mac(of: pod) == expected)
            let interfaces = added.json["interfaces"]?.array?.compactMap(\.object) ?? []
            #expect(interfaces.first { $0["name"]?.string == "eth0" }?["mac"]?.string == expected)
        }
    }

    @Test(arguments: Attaching.allCases)
    func `addresses, ranges and name servers are the runtime's where it says so`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(ranges: ["10.88.0.0/24"], attaching.keys)
            .with("dns", ["nameservers": ["192.0.2.1"]])
            .with(
                "runtimeConfig",
                [
                    "ips": ["10.88.0.9/24"], "ipRanges": [[["subnet": "fd00:77::/64", "rangeStart": "fd00:77::5"]]],
                    "dns": ["Servers": ["192.0.2.2"], "Searches": ["x.example"], "Options": ["ndots:5"]],
                ])
        let added = try node.run(attaching.rawValue, "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        #expect(added.hosts == ["fd00:77::5", "10.88.0.9"])
        #expect(
            added.json["dns"] == [
                "nameservers": ["192.0.2.2"], "search": ["x.example"], "options": ["ndots:5"],
            ])
        #expect(try pod.addresses().count == 2)
    }

    @Test func `annotations limit a pod of fairlead's, and CHECK knows it`() throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration().with(
            "runtimeConfig",
            [
                "io.kubernetes.cri.pod-annotations": [
                    "kubernetes.io/ingress-bandwidth": "16M", "kubernetes.io/config.source": "api",
                ]
            ])
        let added = try node.run("fairlead", "ADD", configuration, netns: pod.path)
        let host = try #require(added.json["interfaces"]?.array?.first?.object?["name"]?.string)
        let shown = try node.namespace.output(of: "tc", "qdisc", "show", "dev", host)
        #expect(shown.contains("rate 16Mbit"), "\(shown)")
        let previous = configuration.with("prevResult", .object(added.json))
        #expect(try node.run("fairlead", "CHECK", previous, netns: pod.path).outcome == Outcome())
        _ = try node.namespace.output(of: "tc", "qdisc", "del", "dev", host, "root")
        #expect(
            try node.run("fairlead", "CHECK", previous, netns: pod.path).message.contains("Failed to find qdisc tbf"))
    }
}
