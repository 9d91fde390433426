import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import SystemPackage

/// Pods on a bridge, with the reference plugin's keys and results.
struct BridgePlugin: Plugin {
    let name = "bridge"
    /// Asked before each step of ADD; a test makes any of them fail.
    var interruption: AttachmentExecutor.Interruption = { _ throws(CNIError) in }

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try BridgeConfiguration(request.configuration, arguments: request.arguments())
        let executor = try AttachmentExecutor.open(namespacePath: request.namespacePath, interruption: interruption)
        try executor.requireFree(request.attachment.interface, peer: request.attachment.bridgedHostInterface)
        guard let type = configuration.addressPlugin else {
            return try attach(request, configuration, leased: AttachmentResult(), executor)
        }
        let delegate = AddressDelegate(type)
        try interruption("reserve addresses")
        let leased = try delegate.add(request)
        do throws(CNIError) {
            return try attach(request, configuration, leased: leased, executor)
        } catch {
            throw delegate.releasing(request, after: error)
        }
    }

    private func attach(
        _ request: AttachmentRequest, _ configuration: BridgeConfiguration, leased: AttachmentResult,
        _ executor: consuming AttachmentExecutor
    ) throws(CNIError) -> AttachmentResult {
        // Held to the end: an ADD that fails removes the bridge it made, and must not remove it under another ADD that
        // has just seen it.
        let lock = try lock(configuration)
        let result = try attachLocked(request, configuration, leased: leased, executor)
        _ = consume lock
        return result
    }

    private func attachLocked(
        _ request: AttachmentRequest, _ configuration: BridgeConfiguration, leased: AttachmentResult,
        _ executor: consuming AttachmentExecutor
    ) throws(CNIError) -> AttachmentResult {
        let underlay = configuration.mtu == nil ? try executor.underlay() : nil
        let plan = try BridgedAttachment(
            request.attachment, leased: leased, configuration: configuration,
            bridge: try observe(configuration.bridge, executor.host),
            newBridgeMAC: MACAddress(locallyAdministered: .random(in: .min ... .max)), underlay: underlay)
        forgetFlows(of: plan.addresses.map(\.prefix.address))
        try executor.run(plan.steps())
        do throws(CNIError) {
            try interruption("look up the bridge")
            let bridge = try kernel { () throws(KernelError) in try executor.host.link(named: configuration.bridge) }
            let result = plan.result(sandbox: request.namespacePath, bridgeMAC: bridge?.mac)
            // A result that cannot be said in the configuration's version is a failure while it can be taken back.
            _ = try result.json(as: request.configuration.version)
            if configuration.masquerades, !plan.addresses.isEmpty {
                try interruption("masquerade the pod's addresses")
                try Masquerade.add(
                    plan.addresses.map(\.prefix),
                    for: AttachmentTag(network: request.configuration.name, request.attachment))
            }
            return result
        } catch {
            throw executor.takingBack(after: error)
        }
    }

    private func lock(_ configuration: BridgeConfiguration) throws(CNIError) -> FileLock {
        do throws(KernelError) {
            return try StateDirectory.open(configuration.stateFolder.path, create: true)
                .lock("bridge-\(configuration.bridge).lock", timeout: .seconds(20))
        } catch {
            throw CNIError(error.errno == .timedOut ? .tryAgainLater : .inputOutput, error.description)
        }
    }

    private func observe(
        _ name: InterfaceName, _ host: borrowing RouteSocket
    ) throws(CNIError) -> BridgedAttachment.ObservedBridge? {
        try kernel { () throws(KernelError) in
            guard let link = try host.link(named: name) else { return nil }
            return .init(link: link, addresses: try host.addresses(of: link.index).map(\.prefix))
        }
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
        let bridge = try BridgeConfiguration.bridgeName(request.configuration.reader)
        let pod = try PodNamespace.open(request.namespacePath)
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).check(request) }
        let previous = try request.configuration.requiredPreviousResult()
        var observed = ObservedAttachment()
        try observed.observePod(request.attachment.interface, in: pod)
        let port = ObservedAttachment.port(of: request.attachment, bridge: bridge, in: previous)
        try kernel { () throws(KernelError) in
            let host = try RouteSocket.open()
            observed.bridge = try host.link(named: bridge)
            observed.hostInterface = try host.link(named: port)
        }
        try observed.checkPod(of: request, against: previous)
        try observed.checkBridged(request.attachment, bridge: bridge, against: previous)
        try checkMasquerade(of: request, against: previous)
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        // The list must make sense, whatever the IPAM plugin is.
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
        let configuration = try BridgeConfiguration(request.configuration, arguments: CNIArguments())
        if let type = configuration.addressPlugin { try AddressDelegate(type).status(request) }
    }
}

/// Fails where the pod's addresses should leave under the node's and do not.
func checkMasquerade(of request: AttachmentRequest, against previous: AttachmentResult) throws(CNIError) {
    guard try request.configuration.reader.bool("ipMasq") == true else { return }
    let name = request.attachment.interface.description
    let index = previous.interfaces.firstIndex { $0.name == name && !$0.sandbox.isEmpty }
    let addresses = previous.addresses.filter { $0.interface == nil || $0.interface == index }.map(\.prefix)
    try Masquerade.check(
        addresses, for: AttachmentTag(network: request.configuration.name, request.attachment))
}
