internal import KernelInterface
internal import KubernetesObjects
internal import Nftables
internal import ServiceRules

/// Keeps the table `inet fairlead-services` equal to the cluster's services.
struct ServiceDataplane: ~Copyable {
    private var compiler: ServiceCompiler
    private var table: AssembledTable<NamespacedName>

    init(node: NodeContext) throws(KernelError) {
        compiler = ServiceCompiler(node: node)
        table = try AssembledTable(frame: ServiceTable.frame(on: node))
    }

    mutating func apply(_ event: ObjectEvent) { compiler.apply(event) }

    mutating func setNode(_ node: NodeContext) {
        guard node != compiler.node else { return }
        compiler.setNode(node)
        for (name, chain) in ServiceTable.nodeChains(on: node) where table.assembly.ruleset.chains[name] != chain {
            table.assembly.setFrameChain(name, chain)
        }
    }

    mutating func commit() throws(KernelError) -> Int {
        for (service, contribution) in compiler.takeContributions() {
            table.assembly.set(contribution, for: service)
        }
        let changes = try table.commit()
        return changes.count + (try forgetStaleFlows(after: changes, in: table.assembly.ruleset))
    }

    /// The claims on an address and port that another service has.
    var notes: [Note] {
        table.assembly.contested.map { claim in
            Note(
                object: ObjectReference(.service, claim.owner), field: "spec.ports",
                message: "an address and port of \(claim.member.set) (\(claim.member.element.comment ?? "")) is already "
                    + "that of Service \(claim.winner), which keeps it")
        }
    }
}
