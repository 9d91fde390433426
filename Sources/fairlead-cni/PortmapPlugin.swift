import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment

/// Ports of the node for a pod that the plugins before it in the list have attached.
struct PortmapPlugin: Plugin {
    let name = "portmap"

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try HostPortConfiguration(request.configuration)
        guard let previous = try request.configuration.previousResult() else {
            throw CNIError(.invalidConfiguration, "must be called as chained plugin", details: "prevResult is missing")
        }
        let addresses = previous.firstAddresses(of: request.attachment.interface)
        do throws(CNIError) { try HostPorts.map(configuration, to: addresses, for: request.tag) } catch {
            // The kernel may have done it and only the answer was lost.
            try? HostPorts.remove(request, in: PacketFilter())
            throw error
        }
        return previous
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        try HostPorts.remove(request, in: PacketFilter())
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let configuration = try HostPortConfiguration(request.configuration)
        let previous = try request.configuration.requiredPreviousResult()
        try HostPorts.check(
            configuration, to: previous.firstAddresses(of: request.attachment.interface), for: request.tag)
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        try HostPorts.collectGarbage(
            of: request.configuration.name, except: request.configuration.validAttachments(), in: PacketFilter())
    }

    /// Fails where the kernel has no packet filter to map ports with.
    func status(_ request: NetworkRequest) throws(CNIError) {
        _ = try HostPortConfiguration(request.configuration)
        do throws(KernelError) {
            _ = try NftablesSocket.open().tables()
        } catch {
            throw CNIError(.notAvailable, "host ports need nftables: \(error)")
        }
    }
}
