import CNIProtocol
import NetworkAddresses
import Testing

/// A request as `run` hands it to a plugin.
func request(
    _ configuration: String, id: String = "c1", arguments: String = "", version: String = "1.1.0"
) throws -> AttachmentRequest {
    let catcher = Catcher()
    let outcome = run(
        catcher,
        environment: [
            "CNI_COMMAND": "CHECK", "CNI_CONTAINERID": id, "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/pod",
            "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": arguments,
        ],
        input: {
            Array(
                #"{"name":"pods","cniVersion":"\#(version)"\#(configuration.isEmpty ? "" : ",")\#(configuration)}"#.utf8
            )
        },
        isOwnNamespace: { _ in false })
    return try #require(catcher.request, "\(outcome.output)")
}

/// A plugin that keeps the request it is given.
private final class Catcher: Plugin, @unchecked Sendable {
    // Used by one test on one thread.
    var request: AttachmentRequest?

    let name = "catcher"
    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult { AttachmentResult() }
    func delete(_ request: AttachmentRequest) throws(CNIError) {}
    func check(_ request: AttachmentRequest) throws(CNIError) { self.request = request }
    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {}
    func status(_ request: NetworkRequest) throws(CNIError) {}
}

let attachment = AttachmentID(containerID: "c1", interface: InterfaceName("eth0")!)

/// What an IPAM plugin gives a pod: `address` or `address gateway`.
func leased(_ addresses: String..., routes: [AttachmentResult.Route] = []) -> AttachmentResult {
    AttachmentResult(
        addresses: addresses.map { text in
            let words = text.split(separator: " ").map(String.init)
            return .init(IPPrefix(words[0])!, gateway: words.count > 1 ? IPAddress(words[1]) : nil)
        }, routes: routes)
}
