import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink

/// Pods behind a veth each, with the reference plugin's keys and results.
struct PointToPointPlugin: Plugin {
    let name = "ptp"
    /// Asked before each step of ADD; a test makes any of them fail.
    var interruption: AttachmentExecutor.Interruption = { _ throws(CNIError) in }

    /// What the node holds for a pod behind a veth.
    private static var states: [any NodeState.Type] { [Masquerade.self] }

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try PointToPointConfiguration(request.configuration, arguments: request.arguments())
        var executor = try AttachmentExecutor.open(namespacePath: request.namespacePath, interruption: interruption)
        try executor.requireFree(request.attachment.interface, peer: request.attachment.bridgedHostInterface)
        let underlay = configuration.mtu == nil ? try executor.underlay() : nil
        return try executor.attempt { executor throws(CNIError) in
            let leased = try executor.lease(AddressDelegate(configuration.addressPlugin), request)
            let plan = try PointToPointAttachment(
                request.attachment, leased: leased, configuration: configuration, underlay: underlay)
            forgetFlows(of: plan.addresses.map(\.prefix.address))
            try executor.run(plan.steps)
            if configuration.masquerades {
                try executor.masquerade(plan.addresses.map { .init($0.prefix) }, of: request)
            }
            return try executor.finish(plan.result(sandbox: request.namespacePath), request)
        }
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        try detach(request, from: request.attachment.bridgedHostInterface, Self.states)
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let pod = try PodNamespace.open(request.namespacePath)
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).check(request) }
        let previous = try request.configuration.requiredPreviousResult()
        var observed = ObservedAttachment()
        try observed.observePod(request.attachment.interface, tables: previous.tables, in: pod)
        let name = ObservedAttachment.port(of: request.attachment, in: previous)
        try kernel { () throws(KernelError) in
            let host = try RouteSocket.open()
            guard let link = try host.link(named: name) else { return }
            observed.hostInterface = link
            observed.hostRoutes = try host.routes().filter { $0.link == link.index }
        }
        try observed.checkPod(of: request, against: previous)
        try observed.checkPointToPoint(request.attachment, host: name, against: previous)
        try checkMasquerade(of: request, against: previous)
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        try detachUnlisted(request, Self.states) { valid throws(CNIError) in
            try collectInterfaces(of: request.configuration.name, except: valid)
        }
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        let configuration = try PointToPointConfiguration(request.configuration, arguments: CNIArguments())
        try AddressDelegate(configuration.addressPlugin).status(request)
    }
}
