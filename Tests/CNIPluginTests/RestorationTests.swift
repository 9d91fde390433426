import CNIProtocol
import KernelInterface
import NetworkAddresses
import Nftables
import PodAttachment
import Testing

@testable import fairlead_cni

/// What the node agent has the plugin do: `fairlead restore STATE-FOLDER`.
@Suite(.needsRoot) struct RestorationTests {
    private struct Bed {
        let node: Node
        let configuration: JSONObject

        init() throws {
            node = try Node()
            configuration = node.configuration(["clusterCIDRs": clusterRanges])
        }

        func configuration(hostPort: Int) -> JSONObject {
            configuration.with(
                "runtimeConfig",
                ["portMappings": [["hostPort": .number(JSONNumber(hostPort)), "containerPort": 80, "protocol": "udp"]]])
        }

        func attach(_ id: String, hostPort: Int) throws {
            let answer = try node.run(
                "fairlead", "ADD", configuration(hostPort: hostPort), id: id, netns: node.pod().path)
            try #require(answer.isSuccess, "\(answer.outcome.output)")
        }

        func restore() throws -> Outcome {
            try node.namespace.withEntered { () throws(KernelError) in
                Invocation(arguments: ["fairlead-cni", "restore", "\(node.folder)/state"], environment: [:])
                    .outcome { [] }
            }
        }

        func tables() throws -> [Ruleset?] {
            let socket = try node.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
            return try RecordedParts.frames.map { frame in
                var table = try socket.observe(frame.table)
                for name in table?.chains.keys.sorted() ?? [] {
                    for index in table!.chains[name]!.rules.indices { table!.chains[name]!.rules[index].handle = nil }
                }
                return table
            }
        }

        func generation() throws -> UInt32 {
            try node.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open().generation() }
        }

        func nft(_ words: String...) throws {
            let outcome = try node.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("nft", words, timeout: .seconds(20))
            }
            try #require(outcome.status.isSuccess, "\(outcome.errorText)")
        }
    }

    @Test func `all pods get back what they lost, in one transaction for each table`() throws {
        let bed = try Bed()
        for number in 1...5 { try bed.attach("c\(number)", hostPort: 8000 + number) }
        let before = try bed.tables()
        let generation = try bed.generation()
        #expect(try bed.restore() == Outcome())
        #expect(try bed.generation() == generation, "nothing was lost")

        try bed.nft("flush", "ruleset")
        #expect(try bed.tables() == [nil, nil])
        let emptied = try bed.generation()
        #expect(try bed.restore() == Outcome())
        #expect(try bed.tables() == before)
        #expect(try bed.generation() == emptied + 2)

        try bed.nft("delete", "element", "inet", "fairlead-hostports", "ports4", "{ udp . 8003 }")
        try bed.nft("flush", "chain", "inet", "fairlead-masquerade", "postrouting")
        #expect(try bed.restore() == Outcome())
        #expect(try bed.tables() == before)
    }

    @Test func `a pod whose DEL was cut short gets nothing back, and its record tells of it until a DEL ends`() throws {
        let bed = try Bed()
        try bed.attach("c1", hostPort: 8001)
        try bed.attach("c2", hostPort: 8002)
        let records = AttachmentRecords(folder: StateFolder(path: "\(bed.node.folder)/state"))
        let first = AttachmentID(containerID: "c1", interface: name("eth0"))
        try records.withdraw(first)
        #expect(try records.read(first) == nil)
        try bed.nft("flush", "ruleset")
        #expect(try bed.restore() == Outcome())
        let comments = try bed.tables().flatMap { $0!.sets.values.flatMap(\.elements.values).compactMap(\.comment) }
        #expect(Set(comments) == ["pods/c2/eth0"])
        // GC goes by it as well.
        #expect(try records.all(of: "pods").map(\.attachment.containerID).sorted() == ["c1", "c2"])
        let deleted = try bed.node.run("fairlead", "DEL", bed.configuration(hostPort: 8001), id: "c1")
        #expect(deleted.outcome == Outcome())
        #expect(try records.names() == ["c2-eth0.json"])
        // An ADD of the same container is a new attachment.
        try records.withdraw(AttachmentID(containerID: "c2", interface: name("eth0")))
        #expect(try bed.node.run("fairlead", "DEL", bed.configuration(hostPort: 8002), id: "c2").isSuccess)
        try bed.attach("c2", hostPort: 8002)
        #expect(try records.names() == ["c2-eth0.json"])
    }
}
