import CNIProtocol
import KernelInterface
import NetworkAddresses
import Testing

@testable import fairlead_cni

/// An IPAM plugin of somebody else's: a script that writes down how it was called.
private struct ForeignIPAM {
    let folder: String

    init(on node: Node, _ body: String) throws {
        folder = node.folder
        let plugins = try StateDirectory.open("\(folder)/plugins", create: true)
        let script = """
            #!/bin/sh
            env | grep '^CNI_\\|^TRACE' | sort > \(folder)/$CNI_COMMAND.environment
            cat > \(folder)/$CNI_COMMAND.input
            echo $CNI_COMMAND >> \(folder)/calls
            \(body)
            """
        try plugins.create("elsewhere", Array(script.utf8), mode: 0o755)
    }

    func text(_ name: String) throws -> String {
        let bytes = try StateDirectory.open(folder, create: false).read(name, limit: 1 << 20)
        return String(decoding: bytes ?? [], as: UTF8.self)
    }

    var calls: [String] { get throws { try text("calls").split(separator: "\n").map(String.init) } }
}

private let lease =
    #"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.99.0.5/24","gateway":"10.99.0.1"}],"dns":{"domain":"x.example"}}"#

@Suite(.needsRoot) struct ForeignPluginTests {
    @Test(arguments: Attaching.allCases) func `a foreign IPAM plugin serves every verb`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        let ipam = try ForeignIPAM(on: node, "case $CNI_COMMAND in ADD) echo '\(lease)';; esac")
        let configuration = node.configuration(attaching.keys, ipam: ["type": "elsewhere", "option": [1, "x"]])
        let run = { (verb: String, configuration: JSONObject) in
            try node.run(
                attaching.rawValue, verb, configuration, netns: pod.path,
                environment: ["CNI_ARGS": "IgnoreUnknown=1;X=y", "TRACEPARENT": "00-1"])
        }
        let added = try run("ADD", configuration)
        #expect(added.isSuccess, "\(added.outcome.output)")
        #expect(added.hosts == ["10.99.0.5"] && added.json["dns"] == ["domain": "x.example"])
        #expect(try pod.addresses() == [attaching == .fairlead ? "10.99.0.5/32" : "10.99.0.5/24"])
        #expect(try run("CHECK", configuration.with("prevResult", .object(added.json))).outcome == Outcome())
        #expect(try run("STATUS", configuration).outcome == Outcome())
        #expect(try run("GC", configuration).outcome == Outcome())
        #expect(try run("DEL", configuration).outcome == Outcome())
        #expect(try ipam.calls == ["ADD", "CHECK", "STATUS", "GC", "DEL"])

        // The whole of what we got, byte by byte, and the whole environment.
        #expect(try ipam.text("ADD.input") == JSONValue.object(configuration).text)
        #expect(
            try ipam.text("ADD.environment").split(separator: "\n").map(String.init) == [
                "CNI_ARGS=IgnoreUnknown=1;X=y", "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0",
                "CNI_NETNS=\(pod.path)", "CNI_PATH=\(node.folder)/plugins:/nowhere", "TRACEPARENT=00-1",
            ])
    }

    @Test(arguments: [
        (#"echo '{"code":103,"msg":"no pool","details":"d"}'; exit 1"#, 103, "no pool"),
        ("echo oops; exit 3", 999, "plugin elsewhere failed with status 3 and printed no error object"),
        ("echo broken >&2; exit 3", 999, "plugin elsewhere failed with status 3 and no message"),
        ("kill -9 $$", 999, "plugin elsewhere was ended by signal 9"),
        ("echo no json", 6, "result of plugin elsewhere: "),
        ("echo '{}'", 999, "IPAM plugin returned missing IP config"),
        (#"echo '{"cniVersion":"9.0.0"}'"#, 7, "result of plugin elsewhere.cniVersion"),
    ])
    func `a foreign IPAM plugin that fails is told to clean up, and nothing else is left`(
        body: String, code: Int, message: String
    ) throws {
        let node = try Node()
        let pod = try node.pod()
        let ipam = try ForeignIPAM(on: node, "[ $CNI_COMMAND = DEL ] && exit 0\n\(body)")
        for attaching in Attaching.allCases {
            let configuration = node.configuration(attaching.keys, ipam: ["type": "elsewhere"])
            let answer = try node.run(attaching.rawValue, "ADD", configuration, netns: pod.path)
            #expect(answer.code == code && answer.message.hasPrefix(message), "\(answer.outcome.output)")
        }
        #expect(try ipam.calls == Attaching.allCases.flatMap { _ in ["ADD", "DEL"] })
        #expect(try node.remains() == [])
        #expect(try pod.links().count == 1)
    }

    @Test func `what the plugin cannot release is said beside the root cause`() throws {
        let node = try Node()
        let pod = try node.pod()
        _ = try ForeignIPAM(
            on: node, #"[ $CNI_COMMAND = DEL ] && { echo '{"code":5,"msg":"disk full"}'; exit 1; }; echo '{"ips":[]}'"#)
        let configuration = node.configuration(ipam: ["type": "elsewhere"])
        let answer = try node.run("fairlead", "ADD", configuration, netns: pod.path)
        #expect(answer.message == "IPAM plugin returned missing IP config")
        #expect(answer.details == "and not taken back: disk full")
        #expect(try node.run("fairlead", "DEL", configuration, netns: pod.path).message == "disk full")
    }

    @Test func `a plugin that is not to be found is named with the path`() throws {
        let node = try Node()
        let pod = try node.pod()
        // A folder of the name is no plugin.
        _ = try StateDirectory.open("\(node.folder)/plugins/elsewhere", create: true)
        let plugins = try StateDirectory.open("\(node.folder)/more", create: true)
        let path = ["CNI_PATH": "\(node.folder)/none:\(node.folder)/more"]
        let configuration = node.configuration(ipam: ["type": "elsewhere"])
        let missing = try node.run("bridge", "ADD", configuration, netns: pod.path, environment: path)
        #expect(
            missing.message == "failed to find plugin \"elsewhere\" in path [\(node.folder)/none \(node.folder)/more]")
        try plugins.create("elsewhere", Array("#!/bin/sh\necho '\(lease)'".utf8), mode: 0o755)
        let found = ["CNI_PATH": "\(node.folder)/none:\(node.folder)/plugins:\(node.folder)/more"]
        #expect(try node.run("bridge", "ADD", configuration, netns: pod.path, environment: found).isSuccess)
        let elsewhere = node.configuration(ipam: ["type": "../more/elsewhere"])
        #expect(
            try node.run("bridge", "STATUS", elsewhere).message == "ipam.type: invalid plugin name: ../more/elsewhere")
    }
}
