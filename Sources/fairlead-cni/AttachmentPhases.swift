import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment

/// Something that a node holds for attachments besides their interfaces, and finds again by their names alone.
protocol NodeState {
    /// Removes what there is of an attachment; there need be nothing.
    static func remove(_ request: AttachmentRequest, in filter: PacketFilter) throws(CNIError)
    /// Removes what there is of the network's attachments that are not in `valid`.
    static func collectGarbage(
        of network: String, except valid: Set<AttachmentID>, in filter: PacketFilter) throws(CNIError)
}

extension AttachmentRequest {
    /// How the attachment is named in what the node holds for it.
    var tag: AttachmentTag { AttachmentTag(network: configuration.name, attachment) }
}

// MARK: - ADD

/// The phases of an ADD that all attaching plugins have, each with what takes it back.
extension AttachmentExecutor {
    /// Gets the pod's addresses.
    mutating func lease(_ delegate: AddressDelegate, _ request: AttachmentRequest) throws(CNIError) -> AttachmentResult
    {
        try run("reserve addresses", isWhole: true) { () throws(CNIError) in
            try delegate.add(request)
        } undo: { () throws(CNIError) in
            try delegate.delete(request)
        }
    }

    /// Lets what the pod sends out of its networks leave under the node's address.
    mutating func masquerade(
        _ sources: [MasqueradeTable.Source], of request: AttachmentRequest
    ) throws(CNIError) {
        guard !sources.isEmpty else { return }
        try run("masquerade the pod's addresses") { () throws(CNIError) in
            try Masquerade.add(sources, for: request.tag)
        } undo: { () throws(CNIError) in
            try Masquerade.remove(request, in: PacketFilter())
        }
    }

    /// The result, where it can be said in the configuration's version: if not, that is a failure of ADD while it can
    /// still be taken back.
    func finish(_ result: AttachmentResult, _ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        _ = try result.json(as: request.configuration.version)
        return result
    }
}

// MARK: - DEL and GC

/// Removes all of an attachment that there is: what the node holds for it, its interfaces, then its addresses.
///
/// - Parameters:
///   - states: what is removed before the interfaces.
///   - last: what is removed behind them.
func detach(
    _ request: AttachmentRequest, from hostInterface: InterfaceName, _ states: [any NodeState.Type],
    last: () throws(CNIError) -> Void = {}
) throws(CNIError) {
    var cleanup = Cleanup()
    let filter = PacketFilter()
    for state in states { cleanup.run { () throws(CNIError) in try state.remove(request, in: filter) } }
    // The interfaces before the addresses: one must not be given to another while somebody can still use it.
    try withExtendedLifetime(filter) { () throws(CNIError) in
        try removeInterfaces(of: request, hostInterface: hostInterface)
    }
    cleanup.run(last)
    cleanup.run { () throws(CNIError) in
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).delete(request) }
    }
    try cleanup.finish()
}

/// Removes all of the network's attachments that the request does not list, whatever of it fails.
///
/// - Parameter interfaces: removes the interfaces of those that are not in the set it is given.
func detachUnlisted(
    _ request: NetworkRequest, _ states: [any NodeState.Type],
    interfaces: (Set<AttachmentID>) throws(CNIError) -> Void
) throws(CNIError) {
    // The list must make sense, whatever the IPAM plugin is.
    let valid = try request.configuration.validAttachments()
    let network = request.configuration.name
    var cleanup = Cleanup()
    let filter = PacketFilter()
    for state in states {
        cleanup.run { () throws(CNIError) in try state.collectGarbage(of: network, except: valid, in: filter) }
    }
    cleanup.run { () throws(CNIError) in try interfaces(valid) }
    cleanup.run { () throws(CNIError) in
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).collectGarbage(request) }
    }
    try cleanup.finish()
}
