import CNIProtocol
import KernelInterface
import NetworkAddresses
import RouteNetlink

/// Sets a pod's `lo` up. Runtimes run it for every pod.
struct LoopbackPlugin: Plugin {
    let name = "loopback"

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let previous = try request.configuration.previousResult()
        let pod = try PodNamespace.open(request.namespacePath)
        let loopback = try loopback(of: pod)
        let addresses = try kernel { () throws(KernelError) in
            try pod.socket.change(link: loopback.index, LinkChange(isUp: true))
            return try pod.socket.addresses(of: loopback.index).map(\.prefix)
        }
        if let foreign = addresses.first(where: { !$0.address.isLoopback }) {
            throw CNIError(
                .internal, "loopback interface found with non-loopback address \"\(foreign.address)\"")
        }
        if let previous { return previous }
        let first = AddressFamily.allCases.compactMap { family in addresses.first { $0.family == family } }
        return AttachmentResult(
            interfaces: [.init(name: "lo", mac: "00:00:00:00:00:00", sandbox: request.namespacePath)],
            addresses: first.map { .init($0, interface: 0) })
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        guard let pod = try PodNamespace.openIfPresent(request.namespacePath) else { return }
        let loopback = try loopback(of: pod)
        try kernel { () throws(KernelError) in
            try pod.socket.change(link: loopback.index, LinkChange(isUp: false))
        }
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let pod = try PodNamespace.open(request.namespacePath)
        guard try loopback(of: pod).isUp else { throw CNIError(.internal, "loopback interface is down") }
    }

    /// Nothing of it is outside the pods.
    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {}

    /// There is nothing that could be missing.
    func status(_ request: NetworkRequest) throws(CNIError) {}

    private func loopback(of pod: borrowing PodNamespace) throws(CNIError) -> Link {
        let link = try kernel { () throws(KernelError) in
            try InterfaceName("lo").flatMap { name throws(KernelError) in try pod.socket.link(named: name) }
        }
        guard let link else { throw CNIError(.internal, "interface lo not found") }
        return link
    }
}
