import Foundation
import Glibc
import KernelInterface
import Lab
import NetworkAddresses
import RouteNetlink
import Testing

/// What an agent does for the CNI plugins of its node: their configuration, their garbage, their packet filter.
@Suite(.needsRoot, .serialized) struct NodeUpkeepTests {
    /// A node of a lab whose agent is started again with other arguments, and the plugin called by hand.
    private struct Bed {
        let lab: LabUnderTest
        let node: LabNode
        let folder: String
        var configurations: String { "\(folder)/net.d" }
        var programs: String { "\(folder)/bin" }

        init() throws {
            let lab = LabUnderTest()
            let up = try lab.lab("up", "--nodes", "1")
            try #require(up.status.isSuccess, "\(up.errorText)")
            let nodes = try lab.state().nodes
            node = try #require(nodes.first)
            self.lab = lab
            folder = "/run/fairlead/labs/\(lab.name)/upkeep"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }

        func agent() throws -> Int32? {
            try lab.processes().first { pid in
                let words = (try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8)) ?? ""
                return words.contains("fairlead-agent\0")
            }
        }

        func restartAgent() throws {
            let pid = try #require(try agent())
            kill(pid, SIGKILL)
            try eventually("the agent's end") { try agent() == nil }
            let arguments = [
                "--manifests", try lab.state().manifestsPath, "--node-name", node.name, "--state-dir",
                node.stateDirectory, "--write-cni-conf", "--cni-conf-dir", configurations, "--cni-bin-dir", programs,
                "--cni-data-dir", "\(folder)/leases", "--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48",
                "--garbage-grace", "1",
            ]
            let log = "\(folder)/agent.log"
            try node.inside { () throws(KernelError) in
                _ = try ChildProcess.spawn(
                    executable: "\(LabUnderTest.binaries)/fairlead-agent", arguments: arguments,
                    standardOutput: .file(log), standardError: .file(log), newSession: true)
            }
        }

        var log: String { (try? String(contentsOfFile: "\(folder)/agent.log", encoding: .utf8)) ?? "" }

        func installPlugin() throws {
            try FileManager.default.createDirectory(atPath: programs, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(
                atPath: "\(programs)/fairlead", withDestinationPath: "\(LabUnderTest.binaries)/fairlead-cni")
        }

        var list: String? { try? String(contentsOfFile: "\(configurations)/10-fairlead.conflist", encoding: .utf8) }

        /// What the list says to the plugin.
        func configuration() throws -> [String: Any] {
            let document = try JSONSerialization.jsonObject(with: Data((self.list ?? "").utf8))
            let list = try #require(document as? [String: Any])
            var plugin = try #require((list["plugins"] as? [[String: Any]])?.first)
            plugin["name"] = list["name"]
            plugin["cniVersion"] = list["cniVersion"]
            return plugin
        }

        /// Calls the plugin as a runtime does, with the agent's own configuration.
        func call(_ command: String, _ id: String, hostPort: Int) throws -> ChildProcess.Captured {
            var configuration = try configuration()
            configuration["runtimeConfig"] = ["portMappings": [["hostPort": hostPort, "containerPort": 80, "protocol": "tcp"]]]
            let input = Array(try JSONSerialization.data(withJSONObject: configuration))
            return try node.inside { () throws(KernelError) in
                try ChildProcess.capture(
                    "\(programs)/fairlead", [],
                    environment: [
                        "CNI_COMMAND": command, "CNI_CONTAINERID": "\(lab.name)-\(id)",
                        "CNI_NETNS": NetworkNamespace.path(named: namespace(id)), "CNI_IFNAME": "eth0",
                        "CNI_PATH": programs,
                    ], input: input, timeout: .seconds(30))
            }
        }

        /// Removes the lab, and the pods that it knows nothing of.
        func end() {
            for name in (try? lab.namespaces()) ?? [] where name.contains("-pod-") {
                _ = try? NetworkNamespace.remove(named: name)
            }
            lab.down()
        }

        func namespace(_ id: String) -> String { "fairlead-\(lab.name)-pod-\(id)" }

        func attach(_ id: String, hostPort: Int) throws {
            _ = try NetworkNamespace.create(named: namespace(id))
            let outcome = try call("ADD", id, hostPort: hostPort)
            try #require(outcome.status.isSuccess, "\(outcome.text)")
        }

        func nft(_ words: String...) throws -> String {
            try node.inside { () throws(KernelError) in
                try ChildProcess.capture("nft", words, timeout: .seconds(30))
            }.text
        }

        func leases() -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/leases/fairlead")) ?? [])
                .filter { IPAddress($0) != nil }.sorted()
        }

        func records() -> Int {
            ((try? FileManager.default.contentsOfDirectory(atPath: "\(node.stateDirectory)/attachments")) ?? []).count
        }

        func eventually(_ what: String, _ isSo: () throws -> Bool) throws {
            let deadline = ContinuousClock.now + .seconds(90)
            while try !isSo() {
                guard ContinuousClock.now < deadline else {
                    Issue.record("\(what) has not come to be; the agent says\n\(log)")
                    return
                }
                usleep(10_000)
            }
        }
    }

    @Test func `an agent configures the runtime, removes garbage and mends the packet filter`() throws {
        let bed = try Bed()
        defer { bed.end() }
        try FileManager.default.createDirectory(atPath: bed.configurations, withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: URL(filePath: "\(bed.configurations)/05-other.conf"))
        try bed.restartAgent()
        // Not before the plugin is there.
        try bed.eventually("the reason") { bed.log.contains("there is no program \(bed.programs)/fairlead yet") }
        #expect(bed.list == nil)
        try bed.installPlugin()
        try bed.eventually("the configuration") { bed.list != nil }
        #expect(bed.log.contains("05-other.conf"))
        let mode = try FileManager.default.attributesOfItem(atPath: "\(bed.configurations)/10-fairlead.conflist")[.posixPermissions]
        #expect(mode as? Int == 0o600)
        let plugin = try bed.configuration()
        #expect(plugin["mtu"] as? Int == 1450 && plugin["cniVersion"] as? String == "1.0.0")
        #expect(plugin["clusterCIDRs"] as? [String] == ["10.244.0.0/16", "fd00:10:244::/48"])

        // A pod that ends without a word, and one that stays.
        try bed.attach("gone", hostPort: 8081)
        try bed.attach("here", hostPort: 8082)
        #expect(bed.leases().count == 4 && bed.records() == 2)
        let here = try bed.nft("list", "table", "inet", "fairlead-hostports")
        #expect(here.contains("8081") && here.contains("8082"))

        _ = try bed.nft("flush", "ruleset")
        try bed.eventually("both ports") {
            let table = try bed.nft("list", "table", "inet", "fairlead-hostports")
            return table.contains("8081") && table.contains("8082")
        }
        try bed.eventually("the masquerading") {
            try bed.nft("list", "table", "inet", "fairlead-masquerade").contains("-here/eth0")
        }

        try NetworkNamespace.remove(named: bed.namespace("gone"))
        try bed.eventually("the end of what was left") { bed.leases().count == 2 && bed.records() == 1 }
        let left = try bed.nft("list", "ruleset")
        #expect(!left.contains("8081") && !left.contains("-gone/eth0") && left.contains("8082"))
        #expect(FileManager.default.fileExists(atPath: "\(bed.configurations)/05-other.conf"))

        // A DEL that was cut short and that nobody repeats leaves a withdrawn record.
        try bed.attach("cut", hostPort: 8083)
        let records = try StateDirectory.open("\(bed.node.stateDirectory)/attachments", create: false)
        try records.rename("\(bed.lab.name)-cut-eth0.json", to: "\(bed.lab.name)-cut-eth0.gone")
        try NetworkNamespace.remove(named: bed.namespace("cut"))
        try bed.eventually("the end of the other") { bed.leases().count == 2 && bed.records() == 1 }
        #expect(try !bed.nft("list", "ruleset").contains("8083"))

        // The node's pods get another network.
        let manifests = try StateDirectory.open(try bed.lab.state().manifestsPath, create: false)
        let name = "Node_\(bed.node.name).yaml"
        let object = String(decoding: try #require(try manifests.read(name, limit: 1 << 16)), as: UTF8.self)
        let cidr = try #require(bed.node.podCIDRs.first { $0.family == .ipv4 }).description
        try #require(object.contains(cidr) && bed.list?.contains(cidr) == true)
        try manifests.replace(name, Array(object.replacingOccurrences(of: cidr, with: "10.244.77.0/24").utf8))
        try bed.eventually("the other network") { bed.list?.contains("10.244.77.0/24") == true }
        #expect(bed.list?.contains(cidr) == false)

        // The underlay shrinks, and the configuration with it; a removed one is written again.
        let eth0 = try bed.node.inside { () throws(KernelError) in
            let routes = try RouteSocket.open()
            guard let link = try routes.link(named: InterfaceName("eth0")!) else { return false }
            try routes.change(link: link.index, LinkChange(mtu: 1400))
            return true
        }
        #expect(eth0)
        try bed.eventually("the smaller MTU") { bed.list?.contains("\"mtu\": 1350") == true }
        try FileManager.default.removeItem(atPath: "\(bed.configurations)/10-fairlead.conflist")
        try bed.eventually("the file") { bed.list != nil }
        // It stays without the agent.
        kill(try #require(try bed.agent()), SIGTERM)
        try bed.eventually("the agent's end") { try bed.agent() == nil }
        #expect(bed.list != nil)
    }

    @Test func `a port of a pod whose namespace is gone is another's without any agent`() throws {
        let bed = try Bed()
        defer { bed.end() }
        try bed.installPlugin()
        try bed.restartAgent()
        try bed.eventually("the configuration") { bed.list != nil }
        kill(try #require(try bed.agent()), SIGKILL)
        try bed.eventually("the agent's end") { try bed.agent() == nil }
        try bed.attach("gone", hostPort: 8081)
        _ = try NetworkNamespace.create(named: bed.namespace("next"))
        let refused = try bed.call("ADD", "next", hostPort: 8081)
        #expect(refused.status == .exited(1) && refused.text.contains("already mapped to container"), "\(refused.text)")
        try NetworkNamespace.remove(named: bed.namespace("gone"))
        // The kernel takes its time to end a namespace.
        try bed.eventually("the port") { try bed.call("ADD", "next", hostPort: 8081).status.isSuccess }
        let table = try bed.nft("list", "table", "inet", "fairlead-hostports")
        #expect(table.contains("-next/eth0") && !table.contains("-gone/eth0"))
    }
}
