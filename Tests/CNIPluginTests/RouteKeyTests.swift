import CNIProtocol
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Testing

@testable import fairlead_cni

@Suite(.needsRoot) struct RouteKeyTests {
    private static let routes: JSONValue = [
        ["dst": "0.0.0.0/0", "priority": 50, "mtu": 1300], ["dst": "10.9.0.0/16", "advmss": 1200],
        ["dst": "0.0.0.0/0", "table": 100], ["dst": "fd09::/64", "priority": 7], ["dst": "::/0"],
    ]

    @Test(arguments: Attaching.allCases)
    func `routes have their numbers, in the pod, in the result and for CHECK`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        var keys = attaching.keys
        keys["ipam"] = nil
        if attaching == .bridge { keys["isDefaultGateway"] = nil }
        if attaching == .bridge { keys["isGateway"] = true }
        let configuration = node.configuration(keys, ipam: ["routes": Self.routes])
        let added = try node.run(attaching.rawValue, "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        let shown = { (arguments: String...) in
            try pod.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("ip", arguments, timeout: .seconds(20)).text
            }.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        }
        let gateway = attaching == .fairlead ? "169.254.1.1" : "10.88.0.1"
        let main = try shown("-4", "route")
        #expect(
            main.contains {
                $0.hasPrefix("default via \(gateway)") && $0.contains("metric 50") && $0.contains("mtu 1300")
            })
        #expect(main.contains { $0.hasPrefix("10.9.0.0/16 via \(gateway)") && $0.contains("advmss 1200") }, "\(main)")
        #expect(try shown("-4", "route", "show", "table", "100").first?.hasPrefix("default via \(gateway)") == true)
        #expect(try shown("-6", "route").contains { $0.hasPrefix("fd09::/64 via") && $0.contains("metric 7") })

        let routes = added.json["routes"]?.array?.compactMap(\.object) ?? []
        let find = { (destination: String, key: String) in
            routes.first { $0["dst"]?.string == destination && $0[key] != nil }?[key]?.integer
        }
        #expect(find("0.0.0.0/0", "priority") == 50 && find("0.0.0.0/0", "mtu") == 1300)
        #expect(find("0.0.0.0/0", "table") == 100 && find("10.9.0.0/16", "advmss") == 1200)

        let previous = configuration.with("prevResult", .object(added.json))
        let check = { try node.run(attaching.rawValue, "CHECK", previous, netns: pod.path).message }
        #expect(try check() == "")
        _ = try pod.namespace.output(of: "ip", "route", "del", "default", "table", "100")
        #expect(try check().hasPrefix("Expected Route 0.0.0.0/0"))
    }

    @Test func `a route on the link has no gateway, and one of a host's scope is that`() throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(
            ranges: ["10.88.0.0/24"], Attaching.bridge.keys,
            ipam: ["routes": [["dst": "10.7.0.0/16", "scope": 253], ["dst": "10.8.0.0/16", "scope": 0]]])
        let added = try node.run("bridge", "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        let shown = try pod.namespace.output(of: "ip", "-4", "route")
        #expect(shown.contains("10.7.0.0/16 dev eth0 scope link"), "\(shown)")
        #expect(shown.contains("10.8.0.0/16 via 10.88.0.1 dev eth0"))
    }

    @Test(arguments: ["0.2.0", "0.4.0", "1.0.0"]) func `older results have the routes they can say`(
        version: String
    ) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(
            version: version, ipam: ["routes": [["dst": "10.9.0.0/16", "mtu": 1300]]])
        let added = try node.run("fairlead", "ADD", configuration, netns: pod.path)
        let old = added.json["ip4"]?.object?["routes"]?.array ?? []
        let new = added.json["routes"]?.array ?? []
        let routes = (version == "0.2.0" ? old : new).compactMap(\.object).filter { $0["dst"]?.string == "10.9.0.0/16" }
        #expect(routes.count == 1 && routes[0]["gw"]?.string == "169.254.1.1")
        #expect(routes[0]["mtu"]?.integer == (version == "0.2.0" ? nil : 1300))
    }
}
