import AddressAllocation
import CNIProtocol
import NetworkAddresses

/// IPAM out of nothing but the configuration: every pod gets the addresses that it names.
struct StaticPlugin: Plugin {
    let name = "static"

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try StaticConfiguration(request.configuration, arguments: request.arguments())
        return AttachmentResult(
            addresses: configuration.addresses, routes: configuration.routes, nameService: configuration.nameService)
    }

    /// Nothing is kept of an attachment.
    func delete(_ request: AttachmentRequest) throws(CNIError) {}

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let configuration = try StaticConfiguration(request.configuration, arguments: request.arguments())
        let previous = try request.configuration.requiredPreviousResult()
        for address in configuration.addresses {
            guard let found = previous.addresses.first(where: { $0.prefix == address.prefix }) else {
                throw CNIError(.internal, "static: Failed to find address \(address.prefix) in prevResult")
            }
            guard address.gateway == nil || found.gateway == address.gateway else {
                throw CNIError(
                    .internal, "static: the gateway of \(address.prefix) in prevResult is not the configured one")
            }
        }
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        _ = try request.configuration.validAttachments()
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        _ = try StaticConfiguration(request.configuration, arguments: CNIArguments())
    }
}
