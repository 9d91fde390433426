import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import SystemPackage
import Testing

@testable import fairlead_cni

/// ADDs and DELs of whole attachments in many processes, killed at any instant.
///
/// `FAIRLEAD_STORM` is the number of operations; the default takes seconds.
@Suite(.needsRoot, .serialized) struct AttachmentStormTests {
    private let operations = getenv("FAIRLEAD_STORM").flatMap { Int(String(cString: $0)) } ?? 48
    private let width = 8

    private struct Running {
        var process: ChildProcess
        var verb: String
        var id: Int
        var output: String
    }

    private func start(
        _ node: Node, _ plugin: String, _ verb: String, _ id: Int, _ pod: Pod, _ configuration: JSONObject
    ) throws -> Running {
        let output = "output-\(verb)-\(id)"
        let environment = node.environment(verb, id: "s\(id)", interface: "eth0", netns: pod.path)
        let input = Array(
            JSONValue.object(
                configuration.with(
                    "runtimeConfig",
                    [
                        "portMappings": [["hostPort": .number(JSONNumber(20_000 + id)), "containerPort": 80]],
                        "bandwidth": ["egressRate": 8000, "egressBurst": 8000],
                    ])
            ).text.utf8)
        let process = try node.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: binary, arguments: [plugin], environment: environment, standardInput: .bytes(input),
                standardOutput: .file("\(node.folder)/\(output)"), standardError: .null)
        }
        return Running(process: process, verb: verb, id: id, output: output)
    }

    @Test(arguments: Attaching.allCases)
    func `after any number of kills no address is double, and DEL of every id leaves nothing`(
        attaching: Attaching
    ) throws {
        let node = try Node()
        let configuration = node.configuration(attaching.keys).with("ipMasq", true)
            .with("clusterCIDRs", clusterRanges).with("macspoofchk", true)
        let folder = try StateDirectory.open(node.folder, create: false)
        // The bridge itself stays, as a node's.
        let first = try node.pod()
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "first", netns: first.path).isSuccess)
        let before = try node.remains()
        let pods = try (0..<width).map { _ in try node.pod() }
        var (holders, killed, succeeded): ([String: Int], Int, Int) = ([:], 0, 0)
        var next = 0
        while next < operations {
            let ids = Array(next..<next + width)
            next += width
            let running = try zip(ids, pods).map { id, pod in
                try start(node, attaching.rawValue, "ADD", id, pod, configuration)
            }
            // Half of them, some before they begin, some half way, some after their end.
            for process in running where process.id % 2 == 0 {
                usleep(.random(in: 0...4000))
                _ = try process.process.signal(.kill)
            }
            for process in running {
                guard try process.process.wait().isSuccess else {
                    killed += 1
                    continue
                }
                let text = try folder.read(process.output, limit: 1 << 20) ?? []
                let answer = try Answer(Outcome(output: String(decoding: text, as: UTF8.self)))
                succeeded += 1
                for host in answer.hosts {
                    #expect(holders.updateValue(process.id, forKey: host) == nil, "\(host) is given out twice")
                }
            }
            // DEL in processes of their own, a third of which are killed as well; then DEL of all.
            let deleting = try zip(ids, pods).map { id, pod in
                try start(node, attaching.rawValue, "DEL", id, pod, configuration)
            }
            for process in deleting where process.id % 3 == 0 {
                usleep(.random(in: 0...4000))
                _ = try process.process.signal(.kill)
            }
            for process in deleting { _ = try process.process.wait() }
            for (id, pod) in zip(ids, pods) {
                let answer = try node.run(attaching.rawValue, "DEL", configuration, id: "s\(id)", netns: pod.path)
                #expect(answer.outcome == Outcome(), "\(answer.outcome.output)")
            }
            holders = [:]
        }
        #expect(killed > 0 && succeeded > 0, "\(killed) killed, \(succeeded) not: the storm was none")
        #expect(try node.remains() == before)
        #expect(try pods.allSatisfy { try $0.links().count == 1 })
    }
}
