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

    static func remove(_ request: AttachmentRequest, in filter: PacketFilter) throws(CNIError) {
        try remove(request.tag, in: filter)
        ReferenceChains.emptyMasquerading(of: request, in: filter)
    }

    static func remove(_ tag: AttachmentTag, in filter: PacketFilter) throws(CNIError) {
        try AttachmentTable(MasqueradeTable.frame, in: filter).remove(where: tag.isSameAttachment)
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
