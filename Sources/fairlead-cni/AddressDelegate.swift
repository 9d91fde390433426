import CNIProtocol

/// The IPAM plugin of a network, as the plugin above it sees it: our own in this process, another one as a program.
struct AddressDelegate {
    private let own: (any Plugin)?
    private let foreign: ForeignPlugin

    init(_ type: String) {
        // A start of the same binary again would double the time of an ADD.
        let plugins: [any Plugin] = [HostLocalPlugin(), StaticPlugin()]
        own = plugins.first { $0.name == type }
        foreign = ForeignPlugin(type: type)
    }

    /// Gets addresses, or fails and holds none.
    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        if let own { return try own.add(request) }
        do throws(CNIError) {
            let output = try foreign.run("ADD", request.network)
            return try AttachmentResult(
                printedBy: foreign.type, output: output, for: request.configuration.version)
        } catch {
            // As the specification asks: a plugin that failed half way is told to clean up.
            _ = try? foreign.run("DEL", request.network)
            throw error
        }
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        if let own { try own.delete(request) } else { try foreign.run("DEL", request.network) }
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        if let own { try own.check(request) } else { try foreign.run("CHECK", request.network) }
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        if let own { try own.collectGarbage(request) } else { try foreign.run("GC", request) }
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        if let own { try own.status(request) } else { try foreign.run("STATUS", request) }
    }
}
