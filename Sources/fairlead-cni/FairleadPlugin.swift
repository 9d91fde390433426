import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink

/// The house's own attachment of a pod: a veth that the node routes to, and a record for the node agent.
struct FairleadPlugin: Plugin {
    let name = "fairlead"
    /// Asked before each step of ADD; a test makes any of them fail.
    var interruption: AttachmentExecutor.Interruption = { _ throws(CNIError) in }

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let arguments = try request.arguments()
        let configuration = try FairleadConfiguration(request.configuration, arguments: arguments)
        guard try request.configuration.previousResult() == nil else {
            throw CNIError(
                .invalidConfiguration,
                "prevResult: the fairlead plugin makes the pod's interface and must be the first of its list")
        }
        let delegate = AddressDelegate(configuration.addressPlugin)
        var executor = try AttachmentExecutor.open(namespacePath: request.namespacePath, interruption: interruption)
        try executor.requireFree(request.attachment.interface, peer: request.attachment.routedHostInterface)
        let underlay = configuration.mtu == nil ? try executor.underlay() : nil
        try interruption("reserve addresses")
        let leased = try delegate.add(request)
        do throws(CNIError) {
            let plan = try RoutedAttachment(
                request.attachment, leased: leased, configuration: configuration, underlay: underlay)
            forgetFlows(of: plan.addresses)
            try executor.run(plan.steps)
            do throws(CNIError) {
                try limitBandwidth(of: request, configuration.bandwidth)
                return try mappingPorts(of: request, configuration.hostPorts, to: plan.addresses) {
                    () throws(CNIError) in
                    try announce(plan, request, configuration, arguments)
                }
            } catch {
                // The limits on the veth go with it.
                try? Bandwidth.remove(request.attachment)
                throw executor.takingBack(after: error)
            }
        } catch {
            throw delegate.releasing(request, after: error)
        }
    }

    private func limitBandwidth(
        of request: AttachmentRequest, _ configuration: BandwidthConfiguration
    ) throws(CNIError) {
        guard !configuration.isEmpty else { return }
        try interruption("limit the pod's bandwidth")
        try Bandwidth.limit(
            configuration, on: request.attachment.routedHostInterface, request.attachment,
            for: AttachmentTag(network: request.configuration.name, request.attachment))
    }

    /// Runs `body` with the pod's host ports mapped, and takes them back where it fails.
    private func mappingPorts<Result>(
        of request: AttachmentRequest, _ configuration: HostPortConfiguration, to addresses: [IPAddress],
        _ body: () throws(CNIError) -> Result
    ) throws(CNIError) -> Result {
        guard !configuration.mappings.isEmpty else { return try body() }
        let tag = AttachmentTag(network: request.configuration.name, request.attachment)
        let first = AddressFamily.allCases.compactMap { family in addresses.first { $0.family == family }?.hostPrefix }
        try interruption("map host ports")
        try HostPorts.map(configuration, to: first, for: tag)
        do throws(CNIError) { return try body() } catch {
            try? HostPorts.unmap(tag)
            throw error
        }
    }

    /// Tells the node agent of the pod, and waits for it where the configuration says so.
    private func announce(
        _ plan: RoutedAttachment, _ request: AttachmentRequest, _ configuration: FairleadConfiguration,
        _ arguments: CNIArguments
    ) throws(CNIError) -> AttachmentResult {
        let records = AttachmentRecords(folder: configuration.stateFolder)
        let record = AttachmentRecord(
            attachment: request.attachment, network: request.configuration.name, namespacePath: request.namespacePath,
            podNamespace: arguments["K8S_POD_NAMESPACE"] ?? "", podName: arguments["K8S_POD_NAME"] ?? "",
            podUID: arguments["K8S_POD_UID"] ?? "", addresses: plan.addresses, hostInterface: plan.hostInterface,
            hostMAC: plan.hostMAC, podMAC: plan.podMAC)
        try interruption("write the attachment record")
        try records.write(record)
        do throws(CNIError) {
            try interruption("pass the policy gate")
            if case .wait(let limit) = configuration.policyGate {
                try PolicyGate.pass(plan.addresses, atMost: limit)
            }
            let result = plan.result(sandbox: request.namespacePath)
            // A result that cannot be said in the configuration's version is a failure while it can be taken back.
            _ = try result.json(as: request.configuration.version)
            return result
        } catch {
            try? records.remove(request.attachment)
            throw error
        }
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        var cleanup = Cleanup()
        cleanup.run { () throws(CNIError) in
            try HostPorts.unmap(AttachmentTag(network: request.configuration.name, request.attachment))
        }
        cleanup.run { () throws(CNIError) in try Bandwidth.remove(request.attachment) }
        // The interfaces before the addresses: one must not be given to another while somebody can still use it.
        try removeInterfaces(of: request, hostInterface: request.attachment.routedHostInterface)
        cleanup.run { () throws(CNIError) in
            try AttachmentRecords(folder: StateFolder(request.configuration)).remove(request.attachment)
        }
        cleanup.run { () throws(CNIError) in
            if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).delete(request) }
        }
        try cleanup.finish()
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let previous = try request.configuration.requiredPreviousResult()
        let pod = try PodNamespace.open(request.namespacePath)
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).check(request) }
        var observed = ObservedAttachment()
        try observed.observePod(request.attachment.interface, in: pod)
        try kernel { () throws(KernelError) in
            let host = try RouteSocket.open()
            guard let link = try host.link(named: request.attachment.routedHostInterface) else { return }
            observed.hostInterface = link
            observed.hostRoutes = try host.routes(origin: .fairlead).filter { $0.link == link.index }
            observed.hostNeighbors = try host.neighbors(link: link.index)
        }
        try observed.checkPod(of: request, against: previous)
        try observed.checkRouted(request.attachment, against: previous)
        let records = AttachmentRecords(folder: try StateFolder(request.configuration))
        let ports = try HostPortConfiguration(request.configuration)
        try HostPorts.check(
            ports, to: previous.firstAddresses(of: request.attachment.interface),
            for: AttachmentTag(network: request.configuration.name, request.attachment))
        try Bandwidth.check(
            BandwidthConfiguration(request.configuration), on: request.attachment.routedHostInterface,
            request.attachment)
        guard try records.read(request.attachment) != nil else {
            throw CNIError(
                .internal, "attachment record \(AttachmentRecord.fileName(of: request.attachment)) not found",
                details: "the node agent does not know of the pod; it should be in \(records.folder.attachments)")
        }
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        let valid = try request.configuration.validAttachments()
        var cleanup = Cleanup()
        cleanup.run { () throws(CNIError) in
            let records = AttachmentRecords(folder: try StateFolder(request.configuration))
            for record in try records.all(of: request.configuration.name) where !valid.contains(record.attachment) {
                let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
                _ = try removeLink(record.attachment.routedHostInterface, from: host)
                try records.remove(record.attachment)
            }
        }
        cleanup.run { () throws(CNIError) in
            try HostPorts.collectGarbage(of: request.configuration.name, except: valid)
        }
        cleanup.run { () throws(CNIError) in
            try Bandwidth.collectGarbage(of: request.configuration.name, except: valid)
        }
        cleanup.run { () throws(CNIError) in
            if let type = try request.configuration.addressPlugin() {
                try AddressDelegate(type).collectGarbage(request)
            }
        }
        try cleanup.finish()
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        let configuration = try FairleadConfiguration(request.configuration, arguments: CNIArguments())
        try AddressDelegate(configuration.addressPlugin).status(request)
    }
}

extension ObservedAttachment {
    /// Fills in what the pod has.
    mutating func observePod(_ interface: InterfaceName, in pod: borrowing PodNamespace) throws(CNIError) {
        do throws(KernelError) {
            podInterface = try pod.socket.link(named: interface)
            podRoutes = try pod.socket.routes()
            if let podInterface { podAddresses = try pod.socket.addresses(of: podInterface.index).map(\.prefix) }
        } catch {
            throw CNIError(error)
        }
    }
}
