import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment

/// The pods whose connections leave under the node's address, in the kernel.
enum Masquerade {
    /// - Parameter addresses: with the length of the network that each is on.
    static func add(_ addresses: [IPPrefix], for tag: AttachmentTag) throws(CNIError) {
        let part = MasqueradeTable.contribution(of: addresses, for: tag)
        let table = try AttachmentTable.open(MasqueradeTable.frame)
        try table.change { () throws(CNIError) in
            let observed = try table.observe(keysOf: part)
            do throws(ClaimedElement) {
                return try table.frame.adding(part, of: tag, to: observed)
            } catch {
                throw CNIError(error)
            }
        }
    }

    static func remove(_ tag: AttachmentTag) throws(CNIError) {
        try AttachmentTable.open(MasqueradeTable.frame).remove(where: tag.isSameAttachment)
    }

    static func collectGarbage(of network: String, except valid: Set<AttachmentID>) throws(CNIError) {
        try AttachmentTable.open(MasqueradeTable.frame)
            .remove(where: AttachmentTag.garbage(of: network, except: valid))
    }

    static func check(_ addresses: [IPPrefix], for tag: AttachmentTag) throws(CNIError) {
        try AttachmentTable.open(MasqueradeTable.frame)
            .check(MasqueradeTable.contribution(of: addresses, for: tag))
    }
}
