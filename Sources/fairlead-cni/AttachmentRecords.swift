import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import SystemPackage

/// The folder of records that tells the node agent of attachments.
struct AttachmentRecords {
    let folder: StateFolder

    func write(_ record: AttachmentRecord) throws(CNIError) {
        do throws(KernelError) {
            // No wait for the disk: a record is worth nothing after a reboot.
            let records = try StateDirectory.open(folder.attachments, create: true)
            let name = AttachmentRecord.fileName(of: record.attachment)
            // Not replaced: a process that is killed meanwhile would leave a file that nobody knows.
            try records.remove(name)
            try records.create(name, Array(record.json.utf8), synchronized: false)
        } catch {
            throw CNIError(.inputOutput, "attachment record: \(error)")
        }
    }

    /// The record of an attachment; nil where there is none.
    func read(_ attachment: AttachmentID) throws(CNIError) -> AttachmentRecord? {
        guard let records = try existing() else { return nil }
        return try read(AttachmentRecord.fileName(of: attachment), in: records)
    }

    /// Removes a record; one that is not there is no error.
    func remove(_ attachment: AttachmentID) throws(CNIError) {
        guard let records = try existing() else { return }
        do throws(KernelError) {
            try records.remove(AttachmentRecord.fileName(of: attachment))
        } catch {
            throw CNIError(.inputOutput, "attachment record: \(error)")
        }
    }

    /// The records of a network; files that are none are left out.
    func all(of network: String) throws(CNIError) -> [AttachmentRecord] {
        try all().filter { $0.network == network }
    }

    /// Whether the attachment that a comment in the packet filter names is recorded, and its namespace provably gone.
    func isOfDeadNamespace(_ comment: String) -> Bool {
        guard let links = try? RouteSocket.open() else { return false }
        return ((try? all()) ?? []).contains { record in
            AttachmentTag(network: record.network, record.attachment).isSameAttachment(as: comment)
                && (try? NamespaceEnd.isProven(
                    path: record.namespacePath, inode: record.namespaceInode, hostInterface: record.hostInterface,
                    links: links)) == true
        }
    }

    /// All records; files that are none are left out.
    func all() throws(CNIError) -> [AttachmentRecord] {
        guard let records = try existing() else { return [] }
        var found: [AttachmentRecord] = []
        for name in try kernel({ () throws(KernelError) in try records.entries() }) {
            if let record = try? read(name, in: records) { found.append(record) }
        }
        return found
    }

    private func read(
        _ name: String, in records: borrowing StateDirectory
    ) throws(CNIError) -> AttachmentRecord? {
        guard let bytes = try kernel({ () throws(KernelError) in try records.read(name, limit: 1 << 16) }) else {
            return nil
        }
        return try AttachmentRecord(json: String(decoding: bytes, as: UTF8.self))
    }

    private func existing() throws(CNIError) -> StateDirectory? {
        do throws(KernelError) {
            return try StateDirectory.open(folder.attachments, create: false)
        } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
            return nil
        } catch {
            throw CNIError(.inputOutput, error.description)
        }
    }
}
