import CNIProtocol
import PodAttachment

/// Puts back what other programs removed of the living attachments' part of the packet filter.
///
/// The tables belong to no process, because the plugins' processes end; so `nft flush ruleset` takes them away, and the
/// node agent calls this: `fairlead restore STATE-FOLDER`.
struct Restoration {
    let records: AttachmentRecords

    func run() throws(CNIError) {
        var cleanup = Cleanup()
        var attachments: [(name: String, parts: RecordedParts)] = []
        for (name, record) in try records.living() {
            cleanup.run { () throws(CNIError) in attachments.append((name, try RecordedParts(record))) }
        }
        // Asked in our turn at the table: a DEL withdraws the record before it waits for its turn, so that what is put
        // back here is either not of its attachment or removed by it afterwards.
        func recorded() throws(CNIError) -> [RecordedParts] {
            let names = Set(try records.names())
            return attachments.filter { names.contains($0.name) }.map(\.parts)
        }
        cleanup.run { () throws(CNIError) in try HostPorts.restore(recorded) }
        cleanup.run { () throws(CNIError) in try Masquerade.restore(recorded) }
        try cleanup.finish()
    }
}
