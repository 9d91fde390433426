import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Testing

@testable import fairlead_cni

/// The built binary, as a container runtime starts it.
@Suite(.needsRoot) struct BinaryTests {
    /// Makes links to the binary under the plugins' names, as an installation does.
    private func install(on node: Node) throws {
        _ = try StateDirectory.open("\(node.folder)/plugins", create: true)
        for plugin in Invocation.plugins {
            #expect(symlink(binary, "\(node.folder)/plugins/\(plugin.name)") == 0)
        }
    }

    private func start(
        _ node: Node, _ plugin: String, _ environment: [String: String], _ input: String
    ) throws -> (answer: Answer, diagnostics: String) {
        let captured = try node.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "\(node.folder)/plugins/\(plugin)", [], environment: environment, input: Array(input.utf8),
                timeout: .seconds(60))
        }
        guard case .exited(let status) = captured.status else { throw CNIError(.internal, "\(captured.status)") }
        return (try Answer(Outcome(output: captured.text, status: status)), captured.errorText)
    }

    @Test(arguments: Attaching.allCases) func `ADD, CHECK and DEL by the link's name`(attaching: Attaching) throws {
        let node = try Node()
        try install(on: node)
        let pod = try node.pod()
        let configuration = node.configuration(attaching.keys)
        let run = { (verb: String, configuration: JSONObject) in
            try start(
                node, attaching.rawValue, node.environment(verb, id: "c1", interface: "eth0", netns: pod.path),
                JSONValue.object(configuration).text
            ).answer
        }
        let added = try run("ADD", configuration)
        #expect(added.isSuccess && added.hosts == ["10.88.0.2", "fd00:88::2"], "\(added.outcome.output)")
        #expect(try pod.addresses() == added.addresses)
        #expect(try run("CHECK", configuration.with("prevResult", .object(added.json))).outcome == Outcome())
        #expect(try run("DEL", configuration).outcome == Outcome())
        #expect(try node.remains().filter { $0.hasPrefix("lease") || $0.hasPrefix("record") } == [])
    }

    @Test func `a person is told what this is`() throws {
        let node = try Node()
        try install(on: node)
        #expect(symlink(binary, "\(node.folder)/plugins/fairlead-cni") == 0)
        for plugin in Invocation.plugins.map(\.name) + ["fairlead-cni"] {
            let (answer, diagnostics) = try start(node, plugin, [:], "")
            #expect(answer.outcome == Outcome() && diagnostics.contains(plugin) && diagnostics.contains("0.1.0, 0.2.0"))
            let version = try start(node, plugin, ["CNI_COMMAND": "VERSION"], "").answer
            if plugin == "fairlead-cni" {
                #expect(version.code == 4 && version.message.contains("fairlead, bridge, ptp, host-local, static"))
            } else {
                #expect(version.json["supportedVersions"]?.array?.count == 7)
            }
        }
        for (argument, words) in [("--version", "fairlead-cni 0.1.0"), ("--help", "by the name of a plugin")] {
            let captured = try ChildProcess.capture(binary, [argument], environment: [:])
            #expect(captured.status.isSuccess && captured.text.contains(argument == "--help" ? "PLUGIN" : words))
        }
    }

    @Test(arguments: [
        "../../../tmp/evil", "a/b", "a\nb", "-", String(repeating: "a/", count: 5000), "\u{202e}x", "a;rm",
    ])
    func `a hostile container id or interface name changes nothing`(text: String) throws {
        let node = try Node()
        try install(on: node)
        let pod = try node.pod()
        for variable in ["CNI_CONTAINERID", "CNI_IFNAME"] {
            // An interface may be called many things; only what the kernel refuses is hostile.
            if variable == "CNI_IFNAME", InterfaceName(text) != nil { continue }
            for (plugin, verb) in [("fairlead", "ADD"), ("bridge", "ADD"), ("host-local", "ADD"), ("fairlead", "DEL")] {
                var environment = node.environment(verb, id: "c1", interface: "eth0", netns: pod.path)
                environment[variable] = text
                let configuration = JSONValue.object(node.configuration(["bridge": "br0"])).text
                let (answer, _) = try start(node, plugin, environment, configuration)
                #expect(answer.code == 4, "\(answer.outcome.output)")
            }
        }
        #expect(try node.remains() == [])
        #expect(try pod.links().count == 1)
        #expect(try StateDirectory.open(node.folder, create: false).entries() == ["plugins"])
    }

    @Test func `a container id too long for a file's name is refused and its DEL is not`() throws {
        let node = try Node()
        try install(on: node)
        let pod = try node.pod()
        let configuration = JSONValue.object(node.configuration()).text
        let id = String(repeating: "x", count: 10_000)
        let added = try start(
            node, "fairlead", node.environment("ADD", id: id, interface: "eth0", netns: pod.path), configuration)
        #expect(added.answer.code == 4 && added.answer.message == "CNI_CONTAINERID: longer than 200 bytes")
        let deleted = try start(
            node, "fairlead", node.environment("DEL", id: id, interface: "eth0", netns: pod.path), configuration)
        #expect(deleted.answer.outcome == Outcome())
        #expect(try node.remains() == [])
    }

    @Test(arguments: [
        "", "[", "{}", #"{"name":"n","cniVersion":"1.1.0","ipam":7}"#, #"{"name":"n","cniVersion":"1.1.0","mtu":"x"}"#,
        #"{"name":"n","cniVersion":"1.1.0","ipam":{"type":"host-local","ranges":[[[]]]}}"#,
        #"{"name":"n","cniVersion":"1.1.0","prevResult":[]}"#, String(repeating: "[", count: 1_000_000), "\u{0}",
        #"{"name":"n","cniVersion":"1.1.0","ipam":{"type":"host-local","subnet":"10.1.0.0/33"}}"#,
    ])
    func `a malformed configuration is an error object and nothing else`(input: String) throws {
        let node = try Node()
        try install(on: node)
        let pod = try node.pod()
        for plugin in ["fairlead", "host-local", "bridge"] {
            if plugin == "bridge", input.contains("prevResult") { continue }
            let environment = node.environment("ADD", id: "c1", interface: "eth0", netns: pod.path)
            let (answer, diagnostics) = try start(node, plugin, environment, input)
            #expect([6, 7].contains(answer.code), "\(plugin): \(answer.outcome.output)")
            #expect(diagnostics.isEmpty)
        }
        #expect(try node.remains() == [])
    }
}

/// Many processes at once, and processes that are killed.
@Suite(.needsRoot, .serialized) struct StormTests {
    private struct Running {
        var process: ChildProcess
        var id: String
        var output: String
    }

    /// Starts a plugin without waiting for it; its output goes to a file.
    private func start(
        _ node: Node, _ plugin: String, _ verb: String, id: String, netns: String, _ configuration: [UInt8]
    ) throws -> Running {
        let output = "\(node.folder)/output-\(verb)-\(id)"
        let environment = node.environment(verb, id: id, interface: "eth0", netns: netns)
        let process = try node.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: binary, arguments: [plugin], environment: environment, standardInput: .bytes(configuration),
                standardOutput: .file(output), standardError: .null)
        }
        return Running(process: process, id: id, output: output)
    }

    private func answer(_ running: Running, _ node: Node) throws -> Answer {
        let status = try running.process.wait()
        let name = running.output.split(separator: "/").last.map(String.init) ?? ""
        let text = try StateDirectory.open(node.folder, create: false).read(name, limit: 1 << 20) ?? []
        return try Answer(
            Outcome(output: String(decoding: text, as: UTF8.self), status: status.isSuccess ? 0 : 1))
    }

    @Test(arguments: Attaching.allCases) func `16 pods at a time get addresses of their own`(attaching: Attaching)
        throws
    {
        let node = try Node()
        let configuration = Array(JSONValue.object(node.configuration(attaching.keys)).text.utf8)
        let pods = try (0..<16).map { _ in try node.pod() }
        let running = try pods.enumerated().map { index, pod in
            try start(node, attaching.rawValue, "ADD", id: "c\(index)", netns: pod.path, configuration)
        }
        let answers = try running.map { try answer($0, node) }
        let failures = answers.filter { !$0.isSuccess }.map(\.message)
        #expect(failures == [])
        #expect(Set(answers.flatMap(\.hosts)).count == 32)
        for (pod, answer) in zip(pods, answers) {
            let addresses = try pod.addresses()
            #expect(addresses == answer.addresses)
        }
        let deleting = try pods.enumerated().map { index, pod in
            try start(node, attaching.rawValue, "DEL", id: "c\(index)", netns: pod.path, configuration)
        }
        for process in deleting {
            let deleted = try answer(process, node)
            #expect(deleted.outcome == Outcome())
        }
        #expect(try node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") } == [])
    }

    @Test func `a process killed at any moment leaves a whole lease or none`() throws {
        let node = try Node()
        let configuration = Array(
            JSONValue.object(node.configuration(ranges: ["10.88.0.0/22", "fd00:88::/64"])).text.utf8)
        let leases = try StateDirectory.open("\(node.folder)/leases/pods", create: true)
        var killed = 0
        var rounds = 0
        // How many die half way depends on the machine; the storm goes on until it was one.
        while rounds < 25 || (killed <= 20 && rounds < 250) {
            let round = rounds
            rounds += 1
            let running = try (0..<8).map { number in
                try start(node, "host-local", "ADD", id: "r\(round)-\(number)", netns: "/none", configuration)
            }
            // Some before they begin, some half way, some after their end.
            for process in running {
                usleep(.random(in: 0...3000))
                _ = try process.process.signal(.kill)
            }
            for process in running where try !process.process.wait().isSuccess { killed += 1 }
            for name in try leases.entries() where IPAddress(name) != nil {
                let content = String(decoding: try leases.read(name, limit: 1000) ?? [], as: UTF8.self)
                #expect(content.hasPrefix("r") && content.hasSuffix("\r\neth0"), "\(name): \(content.debugDescription)")
            }
        }
        #expect(killed > 20, "the storm was none")
        for round in 0..<rounds {
            for number in 0..<8 {
                let deleted = try node.run(
                    "host-local", "DEL", node.configuration(), id: "r\(round)-\(number)")
                #expect(deleted.outcome == Outcome(), "\(deleted.outcome.output)")
            }
        }
        #expect(try node.remains() == [])
        #expect(try leases.entries().sorted() == [".fairlead", "last_reserved_ip.0", "last_reserved_ip.1", "lock"])
    }
}
