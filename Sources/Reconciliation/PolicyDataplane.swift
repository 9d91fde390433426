internal import KernelInterface
internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables
internal import PolicyRules

/// Keeps the table `inet fairlead-policy` equal to the cluster's network policies.
struct PolicyDataplane: ~Copyable {
    private var compiler: PolicyCompiler
    private var table: AssembledTable<PolicyOwner>
    /// What connections are stamped with once they were allowed. A restrictive change takes the next number, and every
    /// connection is judged again at its next packet.
    private var epoch: PolicyEpoch

    /// - Parameter epoch: the one to begin with where the kernel holds none.
    init(nodeName: String, log: DenialLog, epoch: PolicyEpoch, owned: Bool) throws(KernelError) {
        self.epoch = epoch
        compiler = PolicyCompiler(nodeName: nodeName, log: log)
        table = try AssembledTable(frame: PolicyTable.frame(on: compiler.node, epoch: epoch), owned: owned)
    }

    mutating func apply(_ event: ObjectEvent) { compiler.apply(event) }

    mutating func setAttachments(_ attachments: [LocalAttachment]) { compiler.setAttachments(attachments) }

    /// Has the table read again where somebody else may have changed it.
    mutating func heed(_ changes: RulesetChanges) { table.heed(changes) }

    var notes: [Note] { compiler.notes }

    var elementCount: Int { table.assembly.memberCount }

    mutating func commit() throws(KernelError) -> Int {
        let update = compiler.takeContributions()
        for (owner, contribution) in update.contributions { table.set(contribution, for: owner) }
        for (name, chain) in update.frameChains { table.assembly.setFrameChain(name, chain) }
        if table.isSynced {
            if update.isRestrictive { setEpoch(epoch.next) }
        } else {
            try resumeEpoch()
        }
        return try table.commit().count
    }

    /// Goes on with the epoch that the kernel stamps connections with; with the next, where the policies changed while
    /// nobody followed them.
    private mutating func resumeEpoch() throws(KernelError) {
        guard let observed = try table.observe() else { return }
        if let last = PolicyEpoch(in: observed, mask: epoch.mask) { setEpoch(last) }
        if observed != table.assembly.ruleset { setEpoch(epoch.next) }
    }

    private mutating func setEpoch(_ new: PolicyEpoch) {
        epoch = new
        for (name, chain) in PolicyTable.chains(of: new) { table.assembly.setFrameChain(name, chain) }
    }
}
