import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment

/// The pods whose connections leave under the node's address, in the kernel.
enum Masquerade: NodeState {
    static func add(_ sources: [MasqueradeTable.Source], for tag: AttachmentTag) throws(CNIError) {
        guard !sources.isEmpty else { return }
        try AttachmentTable(MasqueradeTable.frame)
            .add(MasqueradeTable.contribution(of: sources, for: tag), for: tag)
    }

    /// Lets those leave again under the node's address that have lost it.
    static func restore(_ attachments: () throws(CNIError) -> [RecordedParts]) throws(CNIError) {
        _ = try AttachmentTable(MasqueradeTable.frame).restore(attachments)
    }

    static func remove(_ request: AttachmentRequest, in filter: PacketFilter) throws(CNIError) {
        try AttachmentTable(MasqueradeTable.frame, in: filter).remove(where: request.tag.isSameAttachment)
        ReferenceChains.emptyMasquerading(of: request, in: filter)
    }

    static func collectGarbage(
        of network: String, except valid: Set<AttachmentID>, in filter: PacketFilter
    ) throws(CNIError) {
        try AttachmentTable(MasqueradeTable.frame, in: filter)
            .remove(where: AttachmentTag.garbage(of: network, except: valid))
    }

    static func check(_ sources: [MasqueradeTable.Source], for tag: AttachmentTag) throws(CNIError) {
        guard !sources.isEmpty else { return }
        try AttachmentTable(MasqueradeTable.frame)
            .check(MasqueradeTable.contribution(of: sources, for: tag), of: tag)
    }
}
