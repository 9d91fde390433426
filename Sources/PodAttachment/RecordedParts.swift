public import CNIProtocol
internal import NetworkAddresses
public import Nftables

/// What the packet filter is to hold for an attachment, as its record alone tells.
///
/// The tables belong to no process, because the plugins' processes end, so another program may empty them at any time.
public struct RecordedParts: Hashable, Sendable {
    public var tag: AttachmentTag
    /// By table; none for a table that has nothing for the attachment.
    private var contributions: [TableName: Contribution] = [:]

    /// Nothing where the record does not say with which configuration the pod was attached.
    public init(_ record: AttachmentRecord) throws(CNIError) {
        tag = AttachmentTag(network: record.network, record.attachment)
        guard let configuration = record.networkConfiguration else { return }
        let addresses = AddressFamily.allCases.compactMap { family in
            record.addresses.first { $0.family == family }?.hostPrefix
        }
        contributions[HostPortTable.name] = HostPortTable.contribution(
            of: try HostPortConfiguration(configuration), to: addresses, for: tag)
        contributions[MasqueradeTable.name] = MasqueradeTable.contribution(
            of: try Masquerading(configuration.reader).sources(of: record.addresses), for: tag)
        contributions = contributions.filter { !$0.value.isEmpty }
    }

    /// The tables without any attachment.
    public static let frames = [HostPortTable.frame, MasqueradeTable.frame]

    /// What the attachment adds to a table.
    public subscript(table: TableName) -> Contribution? { contributions[table] }
}

/// What a table lacks of living attachments.
public struct TableLoss: Hashable, Sendable {
    /// The edits that put all of it back.
    public var changes: [Change] = []
    /// What attachments have lost.
    public var parts: [Contribution] = []
    /// Ports that are another's by now, and stay it.
    public var claims: [ClaimedElement] = []

    public init() {}
}

extension Ruleset {
    /// What the table as it was observed lacks of these attachments' parts; `self` is the frame.
    public func loss(of attachments: [RecordedParts], in observed: Ruleset?) -> TableLoss {
        let isFramed = observed.map { flaw(of: chains, in: $0) == nil } ?? false
        var (loss, table) = (TableLoss(), observed)
        for attachment in attachments {
            guard let part = attachment[self.table] else { continue }
            if isFramed, let observed, flaw(of: part, of: attachment.tag, in: observed) == nil { continue }
            do throws(ClaimedElement) {
                let edits = try adding(part, of: attachment.tag, to: table)
                var mended = table ?? Ruleset(self.table)
                for edit in edits { mended.apply(edit) }
                table = mended
                loss.changes += edits
                loss.parts.append(part)
            } catch {
                loss.claims.append(error)
            }
        }
        return loss
    }

    /// What is wrong with chains that the table as observed should have; nil where nothing is.
    public func flaw(of chains: [String: Chain], in observed: Ruleset) -> String? {
        for (name, chain) in chains {
            guard observed.chains[name]?.rules == chain.rules, observed.chains[name]?.hook == chain.hook else {
                return "chain \(name) of table \(table) is missing or was changed"
            }
        }
        return nil
    }

    /// What is wrong with an attachment's part of the table as observed; nil where nothing is.
    public func flaw(of part: Contribution, of tag: AttachmentTag, in observed: Ruleset) -> String? {
        if let flaw = flaw(of: part.chains, in: observed) { return flaw }
        for member in part.members {
            let present = observed.sets[member.set]?.elements[member.element.key]
            guard let present, member.isHeld(by: present, for: tag) else {
                let text = sets[member.set]?.definition.text(of: member.element) ?? "\(member.element.key.bytes)"
                return "\(member.set) of table \(table) does not hold \(text)"
            }
        }
        return nil
    }
}
