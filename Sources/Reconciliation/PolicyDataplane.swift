internal import KernelInterface
internal import KubernetesObjects
internal import NetlinkWire
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
    /// Whether the next epoch is to begin with the next batch.
    private var isEpochOver = false

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
        if update.isRestrictive { isEpochOver = true }
        if !table.isSynced { try resumeEpoch() }
        if isEpochOver {
            try begin(epoch.next)
            isEpochOver = false
        }
        return try table.commit().count
    }

    /// Goes on with the epoch that the kernel stamps connections with; with the next, where the policies changed while
    /// nobody followed them.
    private mutating func resumeEpoch() throws(KernelError) {
        let observed = try table.observe()
        guard let observed, let last = PolicyEpoch(in: observed, mask: epoch.mask) else {
            // Connections may still carry what a table stamped them with that is gone.
            return try forgetJudgements(of: epoch.all)
        }
        take(last)
        if observed != table.assembly.ruleset { isEpochOver = true }
    }

    private mutating func begin(_ new: PolicyEpoch) throws(KernelError) {
        if let reused = new.reused { try forgetJudgements(of: reused) }
        take(new)
    }

    private mutating func take(_ new: PolicyEpoch) {
        epoch = new
        for (name, chain) in PolicyTable.chains(of: new) { table.assembly.setFrameChain(name, chain) }
    }

    /// Has the connections that carry one of these epochs judged at their next packet.
    private func forgetJudgements(of numbers: ClosedRange<UInt32>) throws(KernelError) {
        // The kernel walks its whole table for a list, be there nothing in it; without the file it tracks nothing.
        let count = try KernelSetting.read(["net", "netfilter", "nf_conntrack_count"])
        guard let count, count != "0" else { return }
        let socket = try ConntrackSocket.open()
        for entry in try socket.entries() where numbers.contains(epoch.number(in: entry.mark)) {
            try socket.clearMark(epoch.mask, original: entry.original)
        }
    }
}
