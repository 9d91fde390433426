import CNIProtocol
import KernelInterface
import Testing

@testable import fairlead_cni

/// Requests that a careless or hostile caller makes.
@Suite(.needsRoot) struct HostileRequestTests {
    static let plugins = ["fairlead", "bridge", "ptp", "host-local", "static", "loopback", "portmap", "bandwidth"]
    private let texts = [
        "", " ", "/", ".", "..", "../../etc/passwd", "a/b", "/etc", "a\nb", "a\r\neth0", "\u{7f}", "é", "a;b", "-x", "%s%n",
        "\"", "{}", "@", "a@b", ":", "\u{202e}", String(repeating: "x", count: 10_000),
        String(repeating: "../", count: 3000),
    ]

    private func configuration(of plugin: String, on node: Node) -> JSONObject {
        var configuration = node.configuration(Attaching(rawValue: plugin)?.keys ?? [:])
        if plugin == "static" { configuration["ipam"] = ["type": "static", "addresses": [["address": "10.88.0.9/24"]]] }
        if ["portmap", "bandwidth"].contains(plugin) {
            configuration["ipam"] = nil
            configuration["prevResult"] = [
                "cniVersion": "1.1.0", "interfaces": [["name": "veth0"], ["name": "eth0", "sandbox": "/x"]],
                "ips": [["address": "10.88.0.9/24", "interface": 1]],
            ]
            configuration["runtimeConfig"] = ["portMappings": [["hostPort": 8080, "containerPort": 80]]]
        }
        return configuration
    }

    /// One document or none, an error with a code, and no more than the node had.
    private func expectRefusal(_ answer: Answer, _ place: String) {
        #expect(answer.code != nil && !answer.message.isEmpty, "\(place): \(answer.outcome.output.prefix(300))")
        #expect(answer.outcome.output.utf8.count < 50_000, "\(place)")
    }

    @Test(arguments: plugins) func `no variable of the environment leads anywhere else`(plugin: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = configuration(of: plugin, on: node)
        for text in texts {
            for variable in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "CNI_ARGS"] {
                for verb in ["ADD", "DEL", "CHECK"] where variable != "CNI_COMMAND" || verb == "ADD" {
                    let place = "\(plugin) \(verb) with \(variable)=\(text.prefix(40).debugDescription)"
                    let answer = try node.run(
                        plugin, verb, configuration, netns: pod.path, environment: [variable: text])
                    if answer.isSuccess {
                        // What is no harm is taken, and its DEL takes it back.
                        #expect(answer.code == nil, "\(place)")
                    } else {
                        expectRefusal(answer, place)
                    }
                    if verb == "ADD", variable != "CNI_COMMAND" {
                        _ = try node.run(plugin, "DEL", configuration, netns: pod.path, environment: [variable: text])
                        _ = try node.run(plugin, "DEL", configuration, netns: pod.path)
                    }
                }
            }
        }
        #expect(try node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") } == [])
        #expect(try pod.links().count == 1)
    }

    @Test(arguments: plugins) func `no name in the configuration leads anywhere else`(plugin: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let before = try StateDirectory.open(node.folder, create: false).entries().sorted()
        for text in texts where !text.isEmpty {
            for key in ["name", "bridge", "cniVersion", "type", "overlay", "policyGate", "mtu", "stateDir"] {
                // A relative folder would be made where the test runs.
                if key == "stateDir", text.hasPrefix("/") { continue }
                let configuration = configuration(of: plugin, on: node).with(key, .string(text))
                for verb in ["ADD", "DEL", "GC", "STATUS"] {
                    let answer = try node.run(plugin, verb, configuration, netns: pod.path)
                    if !answer.isSuccess { expectRefusal(answer, "\(plugin) \(verb) with \(key)=\(text.prefix(40))") }
                }
            }
            guard var ipam = configuration(of: plugin, on: node)["ipam"]?.object else { continue }
            ipam["type"] = .string(text)
            for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] where plugin != "host-local" && plugin != "static" {
                let configuration = configuration(of: plugin, on: node).with("ipam", .object(ipam))
                let answer = try node.run(plugin, verb, configuration, netns: pod.path)
                if !answer.isSuccess { expectRefusal(answer, "\(plugin) \(verb) with ipam.type=\(text.prefix(40))") }
            }
        }
        #expect(try pod.links().count == 1)
        // A bridge of any name is a node's, and stays.
        let bridges = Set((texts + ["br0"]).map { "link \($0)" })
        let remains = try node.remains().filter { !bridges.contains($0) && !$0.hasPrefix("address") }
        #expect(remains == [])
        let after = try StateDirectory.open(node.folder, create: false).entries().sorted()
        #expect(Set(after).subtracting(before).isSubset(of: ["leases", "state"]))
    }
}
