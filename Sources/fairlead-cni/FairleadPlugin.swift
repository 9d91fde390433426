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

    /// What the node holds for a pod besides its interface and its record.
    private static var states: [any NodeState.Type] { [HostPorts.self, Masquerade.self, Bandwidth.self] }

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let arguments = try request.arguments()
        let configuration = try FairleadConfiguration(request.configuration, arguments: arguments)
        guard try request.configuration.previousResult() == nil else {
            throw CNIError(
                .invalidConfiguration,
                "prevResult: the fairlead plugin makes the pod's interface and must be the first of its list")
        }
        var executor = try AttachmentExecutor.open(namespacePath: request.namespacePath, interruption: interruption)
        try executor.requireFree(request.attachment.interface, peer: request.attachment.routedHostInterface)
        let underlay = configuration.mtu == nil ? try executor.underlay() : nil
        return try executor.attempt { executor throws(CNIError) in
            let leased = try executor.lease(AddressDelegate(configuration.addressPlugin), request)
            let plan = try RoutedAttachment(
                request.attachment, leased: leased, configuration: configuration, underlay: underlay)
            forgetFlows(of: plan.addresses)
            try executor.run(plan.steps)
            try limitBandwidth(of: request, configuration.bandwidth, &executor)
            try mapPorts(
                of: request, configuration.hostPorts, to: plan.addresses,
                AttachmentRecords(folder: configuration.stateFolder), &executor)
            try executor.masquerade(configuration.masquerading.sources(of: plan.addresses), of: request)
            try announce(plan, request, configuration, arguments, &executor)
            return try executor.finish(plan.result(sandbox: request.namespacePath), request)
        }
    }

    private func limitBandwidth(
        of request: AttachmentRequest, _ configuration: BandwidthConfiguration,
        _ executor: inout AttachmentExecutor
    ) throws(CNIError) {
        guard !configuration.isEmpty else { return }
        try executor.run("limit the pod's bandwidth") { () throws(CNIError) in
            try Bandwidth.limit(
                configuration, on: request.attachment.routedHostInterface, request.attachment, for: request.tag)
        } undo: { () throws(CNIError) in
            // The limits on the veth go with it.
            try Bandwidth.remove(request)
        }
    }

    private func mapPorts(
        of request: AttachmentRequest, _ configuration: HostPortConfiguration, to addresses: [IPAddress],
        _ records: AttachmentRecords, _ executor: inout AttachmentExecutor
    ) throws(CNIError) {
        guard !configuration.mappings.isEmpty else { return }
        let first = AddressFamily.allCases.compactMap { family in addresses.first { $0.family == family }?.hostPrefix }
        try executor.run("map host ports") { () throws(CNIError) in
            try HostPorts.map(configuration, to: first, for: request.tag) { comment in
                records.isOfDeadNamespace(comment)
            }
        } undo: { () throws(CNIError) in
            try HostPorts.remove(request, in: PacketFilter())
        }
    }

    /// Tells the node agent of the pod, and waits for it where the configuration says so.
    private func announce(
        _ plan: RoutedAttachment, _ request: AttachmentRequest, _ configuration: FairleadConfiguration,
        _ arguments: CNIArguments, _ executor: inout AttachmentExecutor
    ) throws(CNIError) {
        let records = AttachmentRecords(folder: configuration.stateFolder)
        let record = AttachmentRecord(
            attachment: request.attachment, network: request.configuration.name, namespacePath: request.namespacePath,
            podNamespace: arguments["K8S_POD_NAMESPACE"] ?? "", podName: arguments["K8S_POD_NAME"] ?? "",
            podUID: arguments["K8S_POD_UID"] ?? "", addresses: plan.addresses, hostInterface: plan.hostInterface,
            hostMAC: plan.hostMAC, podMAC: plan.podMAC,
            namespaceInode: (try? NetworkNamespace.open(request.namespacePath))?.inode,
            configuration: Self.recorded(request.configuration))
        try executor.run("write the attachment record") { () throws(CNIError) in
            try records.write(record)
        } undo: { () throws(CNIError) in
            try records.remove(request.attachment)
        }
        try executor.pass("pass the policy gate")
        if case .wait(let limit) = configuration.policyGate { try PolicyGate.pass(plan.addresses, atMost: limit) }
    }

    /// What of the configuration a DEL needs: without a pod's annotations, which may be of any size.
    private static func recorded(_ configuration: NetworkConfiguration) -> JSONObject? {
        var json = configuration.json.dropping(["prevResult", "runtimeConfig"])
        if let runtime = configuration.json["runtimeConfig"]?.object {
            let kept = runtime.dropping(["io.kubernetes.cri.pod-annotations"])
            json = JSONObject(json.members.map { ($0.key, $0.value) } + [("runtimeConfig", .object(kept))])
        }
        // Readers take no record for one that is longer; a pod without this part is only not looked after.
        return JSONValue.object(json).text.utf8.count < 1 << 15 ? json : nil
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        var cleanup = Cleanup()
        cleanup.run { () throws(CNIError) in
            try AttachmentRecords(folder: StateFolder(request.configuration)).withdraw(request.attachment)
        }
        cleanup.run { () throws(CNIError) in
            try detach(request, from: request.attachment.routedHostInterface, Self.states)
        }
        try cleanup.finish()
        // Last, and not where something is left: the node agent finds it by the record.
        try AttachmentRecords(folder: StateFolder(request.configuration)).remove(request.attachment)
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let previous = try request.configuration.requiredPreviousResult()
        let pod = try PodNamespace.open(request.namespacePath)
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).check(request) }
        var observed = ObservedAttachment()
        try observed.observePod(request.attachment.interface, tables: previous.tables, in: pod)
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
            for: request.tag)
        try Masquerade.check(
            Masquerading(request.configuration.reader).sources(
                of: previous.addressesExpected(of: request.attachment).map(\.address)),
            for: request.tag)
        try Bandwidth.check(
            BandwidthConfiguration(request.configuration, readingAnnotations: true),
            on: request.attachment.routedHostInterface,
            request.attachment)
        guard try records.read(request.attachment) != nil else {
            throw CNIError(
                .internal, "attachment record \(AttachmentRecord.fileName(of: request.attachment)) not found",
                details: "the node agent does not know of the pod; it should be in \(records.folder.attachments)")
        }
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        // The list must make sense before anything is withdrawn.
        let valid = try request.configuration.validAttachments()
        let records = AttachmentRecords(folder: try StateFolder(request.configuration))
        let garbage = try records.all(of: request.configuration.name).map(\.attachment).filter { !valid.contains($0) }
        var cleanup = Cleanup()
        for attachment in garbage { cleanup.run { () throws(CNIError) in try records.withdraw(attachment) } }
        cleanup.run { () throws(CNIError) in
            try detachUnlisted(request, Self.states) { _ throws(CNIError) in
                let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
                for attachment in garbage { _ = try removeLink(attachment.routedHostInterface, from: host) }
            }
        }
        try cleanup.finish()
        for attachment in garbage { try records.remove(attachment) }
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        let configuration = try FairleadConfiguration(request.configuration, arguments: CNIArguments())
        if configuration.needsAgent { try AgentReport.require(in: configuration.stateFolder) }
        try AddressDelegate(configuration.addressPlugin).status(request)
    }
}

extension ObservedAttachment {
    /// Fills in what the pod has.
    ///
    /// - Parameter tables: the routing tables to look at beside the main one.
    mutating func observePod(
        _ interface: InterfaceName, tables: [UInt32], in pod: borrowing PodNamespace
    ) throws(CNIError) {
        do throws(KernelError) {
            podInterface = try pod.socket.link(named: interface)
            podRoutes = try pod.socket.routes()
            for table in tables { podRoutes += try pod.socket.routes(table: table) }
            if let podInterface { podAddresses = try pod.socket.addresses(of: podInterface.index).map(\.prefix) }
        } catch {
            throw CNIError(error)
        }
    }
}
