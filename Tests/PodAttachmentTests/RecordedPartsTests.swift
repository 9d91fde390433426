import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment
import Testing

/// A pod at `10.1.2.NUMBER` with a port of the node and masquerading.
private func parts(_ number: Int, hostPort: Int? = nil) throws -> RecordedParts {
    let configuration: JSONObject = [
        "cniVersion": "1.1.0", "name": "pods", "clusterCIDRs": ["10.1.0.0/16"],
        "runtimeConfig": [
            "portMappings": [["hostPort": .number(JSONNumber(hostPort ?? 8000 + number)), "containerPort": 80]]
        ],
    ]
    return try RecordedParts(
        AttachmentRecord(
            attachment: AttachmentID(containerID: "c\(number)", interface: InterfaceName("eth0")!), network: "pods",
            namespacePath: "/run/netns/c\(number)", addresses: [IPAddress("10.1.2.\(number)")!],
            hostInterface: InterfaceName("fl\(number)")!, hostMAC: MACAddress("02:00:00:00:00:01")!,
            podMAC: MACAddress("02:00:00:00:00:02")!, configuration: configuration))
}

extension Ruleset {
    fileprivate func after(_ changes: [Change]) -> Ruleset {
        var table = self
        for change in changes { table.apply(change) }
        return table
    }
}

@Suite struct RecordedPartsTests {
    @Test func `one batch puts back all that is lost, and nothing else`() throws {
        let attachments = try (1...3).map { try parts($0) }
        for frame in RecordedParts.frames {
            let all = frame.loss(of: attachments, in: nil)
            #expect(all.parts.count == 3 && all.claims.isEmpty)
            let table = Ruleset(frame.table).after(all.changes)
            #expect(frame.loss(of: attachments, in: table) == TableLoss())
            // Of one pod one element, of another nothing.
            var robbed = table
            let set = try #require(all.parts.first?.members.first?.set)
            let victim = try #require(robbed.sets[set]?.elements.values.first)
            robbed.sets[set]?.elements[victim.key] = nil
            let loss = frame.loss(of: attachments, in: robbed)
            #expect(loss.changes == [.addElements([victim], set: set)] && loss.parts.count == 1)
            // A base chain of the frame, for all.
            robbed = table
            robbed.chains["postrouting"]?.rules = []
            #expect(robbed.after(frame.loss(of: attachments, in: robbed).changes) == table)
        }
    }

    @Test func `a port that is another's by now stays it, and the others are put back`() throws {
        let frame = HostPortTable.frame
        let holder = try parts(9, hostPort: 8001)
        let table = Ruleset(frame.table).after(frame.loss(of: [holder], in: nil).changes)
        let loss = frame.loss(of: try (1...2).map { try parts($0) } + [holder], in: table)
        #expect(loss.claims.map(\.holder.comment) == ["pods/c9/eth0"])
        #expect(loss.parts.count == 1)
        let elements = table.after(loss.changes).sets["ports4"]?.elements.values.compactMap(\.comment).sorted()
        #expect(elements == ["pods/c2/eth0", "pods/c9/eth0"])
    }

    @Test func `a record of an older plugin asks for nothing`() throws {
        var record = AttachmentRecord(
            attachment: attachment, network: "pods", namespacePath: "/run/netns/pod", addresses: [],
            hostInterface: InterfaceName("fl1")!, hostMAC: MACAddress("02:00:00:00:00:01")!,
            podMAC: MACAddress("02:00:00:00:00:02")!)
        #expect(try RecordedParts.frames.allSatisfy { try RecordedParts(record)[$0.table] == nil })
        record.configuration = [
            "cniVersion": "1.1.0", "name": "pods", "runtimeConfig": ["portMappings": [["hostPort": 0]]],
        ]
        #expect(throws: CNIError.self) { try RecordedParts(record) }
    }
}
