import CNIProtocol
import NetworkAddresses
import PodAttachment

/// Puts back what other programs removed of the living attachments' part of the packet filter.
///
/// The tables belong to no process, because the plugins' processes end; so `nft flush ruleset` takes them away, and the
/// node agent calls this: `fairlead restore STATE-FOLDER`.
struct Restoration {
    let records: AttachmentRecords

    func run() throws(CNIError) {
        var cleanup = Cleanup()
        for record in try records.all() {
            guard let configuration = record.networkConfiguration else { continue }
            cleanup.run { () throws(CNIError) in try restore(record, configuration) }
        }
        try cleanup.finish()
    }

    private func restore(_ record: AttachmentRecord, _ configuration: NetworkConfiguration) throws(CNIError) {
        let tag = AttachmentTag(network: record.network, record.attachment)
        let ports = try HostPortConfiguration(configuration)
        let addresses = AddressFamily.allCases.compactMap { family in
            record.addresses.first { $0.family == family }?.hostPrefix
        }
        let sources = try Masquerading(configuration.reader).sources(of: record.addresses)
        do throws(CNIError) { try HostPorts.check(ports, to: addresses, for: tag) } catch {
            try HostPorts.map(ports, to: addresses, for: tag)
        }
        do throws(CNIError) { try Masquerade.check(sources, for: tag) } catch {
            try Masquerade.add(sources, for: tag)
        }
        // DEL removes the record first: if it came meanwhile, what was put back is nobody's.
        if try records.read(record.attachment) == nil {
            let filter = PacketFilter()
            try HostPorts.remove(tag, in: filter)
            try Masquerade.remove(tag, in: filter)
        }
    }
}
