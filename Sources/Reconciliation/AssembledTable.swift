internal import KernelInterface
internal import Nftables
internal import SystemPackage

/// One nftables table of ours: what it should hold, and the socket that owns it in the kernel.
///
/// What it should hold is authoritative. The kernel is read at the start, after a refused batch, and when somebody else
/// has changed the table, which nobody can while it is owned.
struct AssembledTable<Owner: Hashable & Comparable & Sendable>: ~Copyable {
    var assembly: Assembly<Owner>
    private let socket: NftablesSocket
    /// Whether the kernel is known to hold what was last committed.
    private(set) var isSynced = false
    /// Whether the table belongs to the socket. Kernels before 6.9 know no ownership that outlives its process.
    private(set) var isOwned: Bool
    /// The objects whose contributions the kernel refuses: left out, and kept to be tried again.
    private(set) var refused: [Owner: Refusal] = [:]
    private var refusedAt: ContinuousClock.Instant?
    /// Whose contributions have not reached the kernel yet; any of them may be what it refuses.
    private var unproven: Set<Owner> = []

    struct Refusal {
        var contribution: Contribution
        var error: KernelError
    }

    /// How long until a refused contribution is tried again, though its object has not changed: what the kernel lacked
    /// may be loaded by then.
    static var patience: Duration { .seconds(30) }

    /// - Parameter owned: Whether nobody else may write to the table. Where others may, `heed` is to be told of them.
    init(frame: Ruleset, owned: Bool = true) throws(KernelError) {
        assembly = Assembly(frame: frame)
        isOwned = owned
        socket = try NftablesSocket.open()
    }

    var name: TableName { assembly.ruleset.table }

    /// The table as the kernel has it, left there by an earlier run.
    func observe() throws(KernelError) -> Ruleset? { try socket.observe(name) }

    /// Has the next commit read the kernel, if somebody else may have changed the table.
    mutating func heed(_ changes: RulesetChanges) {
        if changes.touch(name, besides: socket.portNumber) { isSynced = false }
    }

    /// Replaces what an object contributes; nil when it is gone.
    mutating func set(_ contribution: Contribution?, for owner: Owner) {
        if !refused.isEmpty { refused[owner] = nil }
        unproven.insert(owner)
        assembly.set(contribution, for: owner)
    }

    /// Brings the kernel to what the assembly holds, in one transaction.
    ///
    /// The first commit compares with what an earlier run left, and writes only the difference: a restart that finds
    /// everything in place takes over the ownership and changes no rule and no element.
    ///
    /// - Parameter observed: what `observe()` has just said, where that was needed before.
    /// - Returns: the changes made.
    @discardableResult
    mutating func commit(over observed: Ruleset? = nil) throws(KernelError) -> [Change] {
        if let refusedAt, ContinuousClock.now - refusedAt >= Self.patience {
            for (owner, refusal) in refused { set(refusal.contribution, for: owner) }
            self.refusedAt = nil
        }
        let changes = try write(over: observed)
        unproven = []
        return changes
    }

    /// As `commit`, but where the kernel refuses, the objects at fault are found and left out; the others take effect.
    ///
    /// Only for tables whose parts do not guard each other: a policy that is left out would open what it closes.
    @discardableResult
    mutating func commitWithoutRefused(over observed: Ruleset? = nil) throws(KernelError) -> [Change] {
        do {
            return try commit(over: observed)
        } catch where error.isRefusal {
            // What the kernel holds may not be what was thought: then the whole difference is accepted.
            do {
                return try commit()
            } catch where error.isRefusal {
                try isolate(error)
                return try commit()
            }
        }
    }

    private mutating func write(over observed: Ruleset?) throws(KernelError) -> [Change] {
        if isSynced {
            let changes = assembly.takeChanges()
            guard !changes.isEmpty else { return [] }
            do {
                try socket.apply(changes, to: name)
            } catch {
                // Nothing of the batch was carried out. The next attempt starts from what the kernel has.
                isSynced = false
                throw error
            }
            return changes
        }
        let left = if let observed { observed } else { try observe() }
        let difference = difference(from: left)
        assembly.settle()
        do {
            try socket.apply(difference.edits, to: name, owned: isOwned)
        } catch where isOwned && error.errno == .notSupported {
            isOwned = false
            return try write(over: observed)
        }
        isSynced = true
        return difference.changes
    }

    /// What to do to the table, and the same without what only takes it over.
    private func difference(from observed: Ruleset?) -> (changes: [Change], edits: [Change]) {
        guard let observed else {
            let creation = assembly.ruleset.creation
            return (creation, creation)
        }
        let changes = observed.changes(to: assembly.ruleset)
        // A table that is not to be owned has nothing to be taken over; the kernel would refuse other flags.
        return (changes, !isOwned || changes.contains(.addTable) ? changes : [.addTable] + changes)
    }
}

// MARK: - Refusals

extension AssembledTable {
    /// Finds out which of the unproven contributions the kernel refuses, and takes them out.
    ///
    /// By halves: the kernel judges each half and carries out none of it, so nothing that works is disturbed meanwhile.
    private mutating func isolate(_ error: KernelError) throws(KernelError) {
        let observed = try observe()
        let suspects = unproven.sorted().compactMap { owner in
            assembly.contribution(of: owner).map { (owner: owner, contribution: $0) }
        }
        for suspect in suspects { assembly.set(nil, for: suspect.owner) }
        do {
            // Refused without them too, it is not their fault.
            try judge(observed)
            try admit(suspects[...], observed)
        } catch let failure {
            for suspect in suspects { assembly.set(suspect.contribution, for: suspect.owner) }
            refused = [:]
            throw failure.isRefusal ? error : failure
        }
        refusedAt = .now
    }

    private mutating func admit(
        _ group: ArraySlice<(owner: Owner, contribution: Contribution)>, _ observed: Ruleset?
    ) throws(KernelError) {
        guard let first = group.first else { return }
        for suspect in group { assembly.set(suspect.contribution, for: suspect.owner) }
        do {
            try judge(observed)
        } catch where error.isRefusal {
            for suspect in group { assembly.set(nil, for: suspect.owner) }
            guard group.count > 1 else {
                refused[first.owner] = Refusal(contribution: first.contribution, error: error)
                return
            }
            let middle = group.startIndex + group.count / 2
            try admit(group[..<middle], observed)
            try admit(group[middle...], observed)
        }
    }

    private func judge(_ observed: Ruleset?) throws(KernelError) {
        try socket.check(difference(from: observed).edits, to: name, owned: isOwned)
    }
}

extension KernelError {
    /// Whether the kernel will say the same of the same batch again: not what a busy moment or a missing right explains.
    fileprivate var isRefusal: Bool {
        ![
            .notPermitted, .permissionDenied, .interrupted, .wouldBlock, .noBufferSpace, .noMemory, .timedOut,
            .resourceBusy,
        ].contains(errno)
    }
}
