import CNIProtocol
import KernelInterface
import NetworkAddresses
import Testing

@testable import fairlead_cni

/// The keys of `host-local`, by itself and under the plugins that call it.
@Suite(.needsRoot) struct AddressKeyTests {
    private func add(
        _ node: Node, _ ipam: JSONObject, _ keys: JSONObject = [:], id: String = "c1", version: String = "1.1.0",
        arguments: String = ""
    ) throws -> Answer {
        let configuration = node.configuration(version: version, ranges: ["10.88.0.0/24"], keys, ipam: ipam)
        return try node.run(
            "host-local", "ADD", configuration, id: id, netns: "/none", environment: ["CNI_ARGS": arguments])
    }

    @Test func `name servers come from the file that resolvConf names`() throws {
        let node = try Node()
        try StateDirectory.open(node.folder, create: false).replace(
            "resolv.conf",
            Array(
                "# mine\nnameserver 192.0.2.53\nnameserver fd00::53\ndomain a.example\nsearch b c\noptions ndots:2\n"
                    .utf8))
        let added = try add(node, ["resolvConf": .string("\(node.folder)/resolv.conf")])
        #expect(
            added.json["dns"] == [
                "nameservers": ["192.0.2.53", "fd00::53"], "domain": "a.example", "search": ["b", "c"],
                "options": ["ndots:2"],
            ])
        let missing = try add(node, ["resolvConf": "/nonexistent/resolv.conf"], id: "c2")
        #expect(missing.code == 5 && missing.message.hasPrefix("ipam.resolvConf: "), "\(missing.outcome.output)")
        #expect(try node.remains().filter { $0.hasPrefix("lease") } == ["lease 10.88.0.2"])
    }

    @Test func `an address is asked for by name, and given once`() throws {
        let node = try Node()
        #expect(try add(node, [:], arguments: "IP=10.88.0.7").addresses == ["10.88.0.7/24"])
        let taken = try add(node, [:], ["args": ["cni": ["ips": ["10.88.0.7"]]]], id: "c2")
        #expect(taken.message.contains("requested IP address 10.88.0.7 is not available in range set"))
        let gateway = try add(node, [:], ["runtimeConfig": ["ips": ["10.88.0.1"]]], id: "c2")
        #expect(gateway.message.contains("requested ip 10.88.0.1 is subnet's gateway"))
        let elsewhere = try add(node, [:], ["runtimeConfig": ["ips": ["10.99.0.1"]]], id: "c2")
        #expect(elsewhere.message == "failed to allocate all requested IPs: 10.99.0.1")
        let twice = try add(node, [:])
        #expect(twice.message.contains("duplicate allocation is not allowed"))
        #expect(try node.remains().filter { $0.hasPrefix("lease") } == ["lease 10.88.0.7"])
    }

    @Test func `the runtime's ranges come before the configuration's`() throws {
        let node = try Node()
        let ranges: JSONValue = [[["subnet": "10.77.0.0/24", "rangeStart": "10.77.0.50", "gateway": "10.77.0.254"]]]
        let added = try add(node, [:], ["runtimeConfig": ["IPRanges": ranges]])
        #expect(added.addresses == ["10.77.0.50/24", "10.88.0.2/24"])
        #expect(added.json["ips"]?.array?.first?.object?["gateway"]?.string == "10.77.0.254")
        let old = try add(node, [:], ["runtimeConfig": ["ipRanges": ranges]], id: "c2", version: "0.2.0")
        #expect(old.message == "CNI version 0.2.0 does not support more than 1 address per family")
    }
}
