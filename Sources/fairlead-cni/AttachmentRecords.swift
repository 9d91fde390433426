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
            // What a DEL that was cut short left of the attachment before is this one's now.
            if let withdrawn = AttachmentRecord.withdrawn(name) { try records.remove(withdrawn) }
        } catch {
            throw CNIError(.inputOutput, "attachment record: \(error)")
        }
    }

    /// The record of an attachment; nil where there is none.
    func read(_ attachment: AttachmentID) throws(CNIError) -> AttachmentRecord? {
        guard let records = try existing() else { return nil }
        return try read(AttachmentRecord.fileName(of: attachment), in: records)
    }

    /// Notes that the attachment is about to be removed: to the node agent it is gone at once, and if this process does
    /// not get to `remove` the record still tells what there may be left.
    func withdraw(_ attachment: AttachmentID) throws(CNIError) {
        let name = AttachmentRecord.fileName(of: attachment)
        guard let records = try existing(), let withdrawn = AttachmentRecord.withdrawn(name) else { return }
        do throws(KernelError) {
            try records.rename(name, to: withdrawn)
        } catch where error.errno == .noSuchFileOrDirectory {
            return
        } catch {
            throw CNIError(.inputOutput, "attachment record: \(error)")
        }
    }

    /// Removes what there is of an attachment's record; nothing is no error.
    func remove(_ attachment: AttachmentID) throws(CNIError) {
        guard let records = try existing() else { return }
        let name = AttachmentRecord.fileName(of: attachment)
        do throws(KernelError) {
            try records.remove(name)
            if let withdrawn = AttachmentRecord.withdrawn(name) { try records.remove(withdrawn) }
        } catch {
            throw CNIError(.inputOutput, "attachment record: \(error)")
        }
    }

    /// The records of a network, withdrawn ones as well; files that are none are left out.
    func all(of network: String) throws(CNIError) -> [AttachmentRecord] {
        try all { _ in true }.map(\.record).filter { $0.network == network }
    }

    /// The records of living attachments, with their files' names.
    func living() throws(CNIError) -> [(name: String, record: AttachmentRecord)] {
        try all(where: AttachmentRecord.isLiving)
    }

    /// Whether the attachment that a comment in the packet filter names is recorded, and its namespace provably gone.
    func isOfDeadNamespace(_ comment: String) -> Bool {
        guard let links = try? RouteSocket.open() else { return false }
        return ((try? all { _ in true }) ?? []).contains { _, record in
            AttachmentTag(network: record.network, record.attachment).isSameAttachment(as: comment)
                && (try? NamespaceEnd.isProven(
                    path: record.namespacePath, inode: record.namespaceInode, hostInterface: record.hostInterface,
                    links: links)) == true
        }
    }

    /// The names of all files there are.
    func names() throws(CNIError) -> [String] {
        guard let records = try existing() else { return [] }
        return try kernel { () throws(KernelError) in try records.entries() }
    }

    private func all(where isWanted: (String) -> Bool) throws(CNIError) -> [(name: String, record: AttachmentRecord)] {
        guard let records = try existing() else { return [] }
        return try names().filter(isWanted).compactMap { name in
            // One that cannot be read is as good as none.
            (try? read(name, in: records)).flatMap { $0 }.map { (name, $0) }
        }
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
        } catch where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
            return nil
        } catch {
            throw CNIError(.inputOutput, error.description)
        }
    }
}
