internal import KernelInterface
internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables
internal import RouteNetlink
internal import ServiceRules

/// Keeps the table `inet fairlead-services` equal to the cluster's services.
struct ServiceDataplane: ~Copyable {
    private var compiler: ServiceCompiler
    private var table: AssembledTable<NamespacedName>
    private let links: RouteSocket
    private var facts: NodeFacts
    private var factsChanged = false
    private var flowSweep: FlowSweep?
    private var hasCommitted = false
    /// The UDP frontends whose conversations are still to be looked at, and whether all have been once.
    private var unsettled: Set<SocketAddress> = []
    private var hasSettled = false
    /// Set when the machine's addresses may have changed.
    var needsLocalAddresses = true

    init(nodeName: String, settings: ServiceSettings, owned: Bool) throws(KernelError) {
        let node = NodeContext(name: nodeName, settings: settings)
        let table = try AssembledTable<NamespacedName>(frame: ServiceTable.frame(on: node), owned: owned)
        let links = try RouteSocket.open()
        compiler = ServiceCompiler(node: node)
        self.table = table
        self.links = links
        facts = NodeFacts(name: nodeName)
    }

    mutating func apply(_ event: ObjectEvent) {
        if facts.apply(event) { factsChanged = true }
        compiler.apply(event)
    }

    private mutating func followNode() throws(KernelError) {
        var node = compiler.node
        if factsChanged {
            facts.update(&node)
            factsChanged = false
        }
        if needsLocalAddresses, node.dependsOnLocalAddresses {
            node.localAddresses = Set(try links.addresses().map(\.prefix.address)).sorted()
        }
        needsLocalAddresses = false
        guard node != compiler.node else { return }
        compiler.setNode(node)
        for (name, chain) in ServiceTable.nodeChains(on: node) where table.assembly.ruleset.chains[name] != chain {
            table.assembly.setFrameChain(name, chain)
        }
    }

    mutating func commit() throws(KernelError) -> Int {
        try followNode()
        // Endpoints keep the slots that an earlier run gave them.
        let left = hasCommitted ? nil : try table.observe()
        while let (service, contribution) = compiler.nextContribution(in: table.assembly, previous: left) {
            table.set(contribution, for: service)
        }
        let changes = try table.commitWithoutRefused(over: left)
        hasCommitted = true
        unsettled.formUnion(datagramFrontends(addedOrRemovedBy: changes))
        for service in compiler.takeBereft() { unsettled.formUnion(compiler.datagramFrontends(of: service)) }
        return changes.count + (try forgetStaleFlows())
    }

    /// Ends the UDP conversations that services lost track of; at first, those of all services, because nobody knows
    /// what happened while no agent was running.
    private mutating func forgetStaleFlows() throws(KernelError) -> Int {
        let families = hasSettled ? Set(unsettled.map(\.address.family)) : compiler.datagramFamilies
        guard !families.isEmpty else {
            hasSettled = true
            return 0
        }
        let start = ContinuousClock.now
        let forgotten = try forgetDatagramFlows(of: families) { frontend in
            guard !hasSettled || unsettled.contains(frontend) else { return nil }
            guard let owner = table.assembly.ownerOfDatagramFrontend(frontend) else {
                return unsettled.contains(frontend) ? [] : nil
            }
            return compiler.datagramTargets(of: frontend, of: owner)
        }
        (unsettled, hasSettled) = ([], true)
        flowSweep = FlowSweep(duration: ContinuousClock.now - start, forgotten: forgotten)
        return forgotten
    }

    /// How the last commit looked through the connections; nil where it had no reason to, or was asked before.
    mutating func takeFlowSweep() -> FlowSweep? {
        defer { flowSweep = nil }
        return flowSweep
    }

    var elementCount: Int { table.assembly.memberCount }

    /// Has the table read again where somebody else may have changed it.
    mutating func heed(_ changes: RulesetChanges) { table.heed(changes) }

    /// Whether some service is left out, to be tried again.
    var isIncomplete: Bool { !table.refused.isEmpty }

    /// The services that are left out because the kernel refuses their rules, and what is wrong with services that are
    /// right by themselves.
    var notes: [Note] {
        let refused = table.refused.sorted { $0.key < $1.key }.map { service, refusal in
            Note(
                object: ObjectReference(.service, service),
                message: "the kernel refuses its rules; it is left out, and tried again when it changes and every "
                    + "\(AssembledTable<NamespacedName>.patience.components.seconds) seconds: \(refusal.error)")
        }
        return refused + compiler.notes
    }
}
