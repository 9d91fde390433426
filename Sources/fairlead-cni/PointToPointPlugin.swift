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

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try PointToPointConfiguration(request.configuration, arguments: request.arguments())
        var executor = try AttachmentExecutor.open(namespacePath: request.namespacePath, interruption: interruption)
        try executor.requireFree(request.attachment.interface, peer: request.attachment.bridgedHostInterface)
        let underlay = configuration.mtu == nil ? try executor.underlay() : nil
        let delegate = AddressDelegate(configuration.addressPlugin)
        try interruption("reserve addresses")
        let leased = try delegate.add(request)
        do throws(CNIError) {
            let plan = try PointToPointAttachment(
                request.attachment, leased: leased, configuration: configuration, underlay: underlay)
            forgetFlows(of: plan.addresses.map(\.prefix.address))
            try executor.run(plan.steps)
            do throws(CNIError) {
                return try finish(plan, request, configuration)
            } catch {
                throw executor.takingBack(after: error)
            }
        } catch {
            throw delegate.releasing(request, after: error)
        }
    }

    private func finish(
        _ plan: PointToPointAttachment, _ request: AttachmentRequest, _ configuration: PointToPointConfiguration
    ) throws(CNIError) -> AttachmentResult {
        let result = plan.result(sandbox: request.namespacePath)
        // A result that cannot be said in the configuration's version is a failure while it can be taken back.
        _ = try result.json(as: request.configuration.version)
        if configuration.masquerades {
            try interruption("masquerade the pod's addresses")
            try Masquerade.add(
                plan.addresses.map(\.prefix),
                for: AttachmentTag(network: request.configuration.name, request.attachment))
        }
        return result
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        var cleanup = Cleanup()
        cleanup.run { () throws(CNIError) in
            try Masquerade.remove(AttachmentTag(network: request.configuration.name, request.attachment))
        }
        // The interfaces before the addresses: one must not be given to another while somebody can still use it.
        try removeInterfaces(of: request, hostInterface: request.attachment.bridgedHostInterface)
        cleanup.run { () throws(CNIError) in
            if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).delete(request) }
        }
        try cleanup.finish()
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let pod = try PodNamespace.open(request.namespacePath)
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).check(request) }
        let previous = try request.configuration.requiredPreviousResult()
        var observed = ObservedAttachment()
        try observed.observePod(request.attachment.interface, in: pod)
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
        let valid = try request.configuration.validAttachments()
        var cleanup = Cleanup()
        cleanup.run { () throws(CNIError) in
            try Masquerade.collectGarbage(of: request.configuration.name, except: valid)
        }
        cleanup.run { () throws(CNIError) in try collectInterfaces(of: request.configuration.name, except: valid) }
        cleanup.run { () throws(CNIError) in
            if let type = try request.configuration.addressPlugin() {
                try AddressDelegate(type).collectGarbage(request)
            }
        }
        try cleanup.finish()
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        let configuration = try PointToPointConfiguration(request.configuration, arguments: CNIArguments())
        try AddressDelegate(configuration.addressPlugin).status(request)
    }
}
