import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment

/// The ports of bridges that take in packets of one Ethernet address only, in the kernel.
enum SpoofCheck: NodeState {
    static func add(_ port: InterfaceName, _ mac: MACAddress, for tag: AttachmentTag) throws(CNIError) {
        try AttachmentTable(SpoofCheckTable.frame)
            .add(SpoofCheckTable.contribution(of: port, mac: mac, for: tag), for: tag)
    }

    static func remove(_ request: AttachmentRequest, in filter: PacketFilter) throws(CNIError) {
        try AttachmentTable(SpoofCheckTable.frame, in: filter).remove(where: request.tag.isSameAttachment)
    }

    static func collectGarbage(
        of network: String, except valid: Set<AttachmentID>, in filter: PacketFilter
    ) throws(CNIError) {
        try AttachmentTable(SpoofCheckTable.frame, in: filter)
            .remove(where: AttachmentTag.garbage(of: network, except: valid))
    }

    static func check(_ port: InterfaceName, _ mac: MACAddress, for tag: AttachmentTag) throws(CNIError) {
        try AttachmentTable(SpoofCheckTable.frame)
            .check(SpoofCheckTable.contribution(of: port, mac: mac, for: tag), of: tag)
    }
}
