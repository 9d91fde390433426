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

    /// What the node holds for a pod on a bridge.
    private static var states: [any NodeState.Type] { [Masquerade.self, SpoofCheck.self] }

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try BridgeConfiguration(request.configuration, arguments: request.arguments())
        var executor = try AttachmentExecutor.open(namespacePath: request.namespacePath, interruption: interruption)
        try executor.requireFree(request.attachment.interface, peer: request.attachment.bridgedHostInterface)
        return try executor.attempt { executor throws(CNIError) in
            var leased = AttachmentResult()
            if let type = configuration.addressPlugin { leased = try executor.lease(AddressDelegate(type), request) }
            // Held to the end: an ADD that fails removes the bridge it made, and must not remove it under another ADD
            // that has just seen it. Where the bridge is as it should be, nobody keeps anybody waiting.
            var lock = try lock(configuration, shared: true)
            var plan = try plan(request, configuration, leased: leased, executor)
            if try plan.makesNodesPart() {
                _ = consume lock
                lock = try self.lock(configuration, shared: false)
                // Another may have made it meanwhile.
                plan = try self.plan(request, configuration, leased: leased, executor)
            }
            let result = try executor.attempt { [plan] executor throws(CNIError) in
                try attach(request, configuration, plan, &executor)
            }
            _ = consume lock
            return result
        }
    }

    private func plan(
        _ request: AttachmentRequest, _ configuration: BridgeConfiguration, leased: AttachmentResult,
        _ executor: borrowing AttachmentExecutor
    ) throws(CNIError) -> BridgedAttachment {
        try BridgedAttachment(
            request.attachment, leased: leased, configuration: configuration,
            bridge: try observe(configuration.bridge, executor.host),
            vlanGateway: try configuration.vlans?.gateway.flatMap { name throws(CNIError) in
                try observe(name, executor.host)
            },
            newBridgeMAC: MACAddress(locallyAdministered: .random(in: .min ... .max)),
            underlay: configuration.mtu == nil ? try executor.underlay() : nil)
    }

    private func attach(
        _ request: AttachmentRequest, _ configuration: BridgeConfiguration, _ plan: BridgedAttachment,
        _ executor: inout AttachmentExecutor
    ) throws(CNIError) -> AttachmentResult {
        if let link = plan.bridge?.link { executor.note(link) }
        forgetFlows(of: plan.addresses.map(\.prefix.address))
        if configuration.checksSpoofing {
            // Before there is a port to send by.
            try executor.run("check the pod's Ethernet address") { () throws(CNIError) in
                try SpoofCheck.add(plan.hostInterface, plan.podMAC, for: request.tag)
            } undo: { () throws(CNIError) in
                try SpoofCheck.remove(request, in: PacketFilter())
            }
        }
        try executor.run(plan.steps())
        try executor.pass("look up the bridge")
        let (bridge, gateway) = try kernel { () throws(KernelError) in
            let gateway = configuration.gatewayInterface
            return (
                try executor.host.link(named: configuration.bridge),
                gateway == configuration.bridge ? nil : try executor.host.link(named: gateway)
            )
        }
        if configuration.masquerades {
            try executor.masquerade(plan.addresses.map { .init($0.prefix) }, of: request)
        }
        return try executor.finish(
            plan.result(sandbox: request.namespacePath, bridgeMAC: bridge?.mac, vlanGatewayMAC: gateway?.mac), request)
    }

    private func lock(_ configuration: BridgeConfiguration, shared: Bool) throws(CNIError) -> FileLock {
        do throws(KernelError) {
            return try StateDirectory.open(configuration.stateFolder.path, create: true)
                .lock("bridge-\(configuration.bridge).lock", shared: shared, timeout: .seconds(20))
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
        try detach(request, from: request.attachment.bridgedHostInterface, Self.states)
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        let bridge = try BridgeConfiguration.bridgeName(request.configuration.reader)
        let pod = try PodNamespace.open(request.namespacePath)
        if let type = try request.configuration.addressPlugin() { try AddressDelegate(type).check(request) }
        let previous = try request.configuration.requiredPreviousResult()
        var observed = ObservedAttachment()
        try observed.observePod(request.attachment.interface, tables: previous.tables, in: pod)
        let port = ObservedAttachment.port(of: request.attachment, bridge: bridge, in: previous)
        try kernel { () throws(KernelError) in
            let host = try RouteSocket.open()
            observed.bridge = try host.link(named: bridge)
            observed.hostInterface = try host.link(named: port)
            if let link = observed.hostInterface { observed.port = try host.bridgePort(link.index) }
        }
        try observed.checkPod(of: request, against: previous)
        try observed.checkBridged(request.attachment, bridge: bridge, against: previous)
        let reader = request.configuration.reader
        let (isHairpin, isIsolated) = (try reader.bool("hairpinMode"), try reader.bool("portIsolation"))
        try observed.checkPort(
            BridgePort(isHairpin: isHairpin == true, isIsolated: isIsolated == true), named: port)
        if try reader.bool("macspoofchk") == true, let mac = observed.podInterface?.mac {
            try SpoofCheck.check(port, mac, for: request.tag)
        }
        try checkMasquerade(of: request, against: previous)
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        try detachUnlisted(request, Self.states) { valid throws(CNIError) in
            try collectInterfaces(of: request.configuration.name, except: valid)
        }
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        let configuration = try BridgeConfiguration(request.configuration, arguments: CNIArguments())
        if let type = configuration.addressPlugin { try AddressDelegate(type).status(request) }
    }
}

/// Fails where the pod's addresses should leave under the node's and do not.
func checkMasquerade(of request: AttachmentRequest, against previous: AttachmentResult) throws(CNIError) {
    guard try request.configuration.reader.bool("ipMasq") == true else { return }
    try Masquerade.check(
        previous.addressesExpected(of: request.attachment).map(MasqueradeTable.Source.init), for: request.tag)
}
