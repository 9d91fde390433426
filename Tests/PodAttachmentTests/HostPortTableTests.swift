import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment
import Testing

private let tag = AttachmentTag(network: "pods", attachment)
private let web = PortMapping(Port(8080)!, to: Port(80)!, .tcp)

private func prefixes(_ texts: String...) -> [IPPrefix] { texts.compactMap { IPPrefix($0) } }

extension Contribution {
    /// The elements as nft writes them, behind their sets.
    fileprivate var text: [String] {
        members.map { "\($0.set): \(HostPortTable.frame.sets[$0.set]!.definition.text(of: $0.element))" }
    }
}

@Suite struct HostPortTableTests {
    @Test func `a mapping is one element of each family, and one for the way back`() {
        let part = HostPortTable.contribution(
            of: .init([web]), to: prefixes("10.1.2.3/32", "fd00::3/128"), for: tag)
        #expect(
            part.text == [
                #"ports4: tcp . 8080 comment "pods/c1/eth0" : 10.1.2.3 . 80"#,
                #"hairpin4: 10.1.2.3 . 10.1.2.3 comment "pods/c1/eth0""#,
                #"ports6: tcp . 8080 comment "pods/c1/eth0" : fd00::3 . 80"#,
                #"hairpin6: fd00::3 . fd00::3 comment "pods/c1/eth0""#,
            ])
        #expect(part.chains.isEmpty)
    }

    @Test func `a pod that shares a network is masqueraded for all of it`() {
        let part = HostPortTable.contribution(of: .init([web]), to: prefixes("fd00::3/64"), for: tag)
        // nft reads no colons in a chain's name.
        #expect(part.text.last == #"neighbors6: fd00::3 comment "pods/c1/eth0" : jump from-fd00__/64"#)
        #expect(part.chains.values.map { $0.rules.map(\.text) } == [["ip6 saddr fd00::/64 masquerade fully-random"]])
    }

    @Test func `a host address makes it that address's, and an unspecified one that family's`() {
        var bound = web
        bound.hostAddress = IPAddress("192.0.2.1")
        var all = web
        all.hostAddress = IPAddress("::")
        let part = HostPortTable.contribution(
            of: .init([bound, all], masquerades: false), to: prefixes("10.1.2.3/24", "fd00::3/64"), for: tag)
        #expect(
            part.text == [
                #"bound4: 192.0.2.1 . tcp . 8080 comment "pods/c1/eth0" : 10.1.2.3 . 80"#,
                #"ports6: tcp . 8080 comment "pods/c1/eth0" : fd00::3 . 80"#,
            ])
    }

    @Test func `edits make a table, add to it, and take away by the comment`() throws {
        let frame = HostPortTable.frame
        let part = HostPortTable.contribution(of: .init([web]), to: prefixes("10.1.2.3/24"), for: tag)
        var table = Ruleset(frame.table)
        for change in try frame.adding(part, of: tag, to: nil) { table.apply(change) }
        #expect(table.chains.keys.contains("from-10.1.2.0/24"))
        // The same again changes nothing; a shared chain that is gone or not as it should be is made anew.
        #expect(try frame.adding(part, of: tag, to: table).isEmpty)
        var changed = table
        changed.chains["from-10.1.2.0/24"] = Chain([])
        #expect(
            try frame.adding(part, of: tag, to: changed).map(\.summary) == [
                "chain from-10.1.2.0/24", "rules of chain from-10.1.2.0/24",
            ])
        let other = AttachmentTag(network: "pods", AttachmentID(containerID: "c2", interface: attachment.interface))
        let rival = HostPortTable.contribution(of: .init([web]), to: prefixes("10.1.2.4/24"), for: other)
        #expect(throws: ClaimedElement.self) { try frame.adding(rival, of: other, to: table) }
        for change in table.removing(where: tag.isSameAttachment) { table.apply(change) }
        #expect(table.sets == frame.sets)
        #expect(table.unusedChains(frame: frame) == ["from-10.1.2.0/24"])
        #expect(try !frame.adding(rival, of: other, to: table).isEmpty)
    }

    @Test func `names too long for a comment are told apart by their fingerprints`() {
        let long = String(repeating: "x", count: 200)
        let tags = [long, long + "y"].map { id in
            AttachmentTag(network: long, AttachmentID(containerID: id, interface: attachment.interface))
        }
        #expect(tags[0] != tags[1] && tags.allSatisfy { $0.description.utf8.count <= longestComment })
        #expect(tags[0].isSameAttachment(as: tags[0].description) && !tags[0].isSameAttachment(as: tags[1].description))
        let isGone = AttachmentTag.garbage(of: long, except: [])
        #expect(isGone(tags[0].description) && !isGone(tag.description) && !isGone(nil))
    }
}
