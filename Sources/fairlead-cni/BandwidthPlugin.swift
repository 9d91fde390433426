import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink

/// Limits of the traffic of a pod that the plugins before it in the list have attached.
struct BandwidthPlugin: Plugin {
    let name = "bandwidth"

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try BandwidthConfiguration(request.configuration)
        guard let previous = try request.configuration.previousResult() else {
            throw CNIError(.invalidConfiguration, "must be called as chained plugin", details: "prevResult is missing")
        }
        guard !configuration.isEmpty else { return previous }
        let block = try Bandwidth.limit(
            configuration, on: try hostInterface(of: request, previous), request.attachment, for: request.tag)
        var result = previous
        if let block {
            result.interfaces.append(.init(name: block.name.description, mac: block.mac?.description ?? ""))
        }
        return result
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) { try Bandwidth.remove(request) }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let configuration = try BandwidthConfiguration(request.configuration)
        let previous = try request.configuration.requiredPreviousResult()
        guard !configuration.isEmpty else { return }
        try Bandwidth.check(configuration, on: try hostInterface(of: request, previous), request.attachment)
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        try Bandwidth.collectGarbage(
            of: request.configuration.name, except: request.configuration.validAttachments())
    }

    func status(_ request: NetworkRequest) throws(CNIError) { _ = try BandwidthConfiguration(request.configuration) }

    /// The other end of the pod's interface: the one of the host's interfaces in the result that it is.
    private func hostInterface(
        of request: AttachmentRequest, _ previous: AttachmentResult
    ) throws(CNIError) -> InterfaceName {
        let pod = try PodNamespace.open(request.namespacePath)
        let found = try kernel { () throws(KernelError) -> InterfaceName? in
            guard let inside = try pod.socket.link(named: request.attachment.interface) else { return nil }
            let host = try RouteSocket.open()
            for name in previous.interfaces.filter(\.sandbox.isEmpty).compactMap({ InterfaceName($0.name) }) {
                guard let link = try host.link(named: name), link.kind == .veth, link.index == inside.peerIndex,
                    link.peerIndex == inside.index
                else { continue }
                return name
            }
            return nil
        }
        guard let found else {
            throw CNIError(
                .internal, "no veth peer of container interface found in host ns",
                details:
                    "prevResult has no interface of the host that is the other end of \(request.attachment.interface)")
        }
        return found
    }
}
