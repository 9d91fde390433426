internal import KernelInterface
internal import Nftables

/// One nftables table of ours: what it should hold, and the socket that owns it in the kernel.
///
/// What it should hold is authoritative. The kernel is read at the start and after a refused batch, never between:
/// the table is owned, so nobody else can change it.
struct AssembledTable<Owner: Hashable & Comparable & Sendable>: ~Copyable {
    var assembly: Assembly<Owner>
    private let socket: NftablesSocket
    /// Whether the kernel is known to hold what was last committed.
    private(set) var isSynced = false

    init(frame: Ruleset) throws(KernelError) {
        assembly = Assembly(frame: frame)
        socket = try NftablesSocket.open()
    }

    var name: TableName { assembly.ruleset.table }

    /// The table as the kernel has it, left there by an earlier run.
    func observe() throws(KernelError) -> Ruleset? { try socket.observe(name) }

    /// Brings the kernel to what the assembly holds, in one transaction.
    ///
    /// The first commit compares with what an earlier run left, and writes only the difference: a restart that finds
    /// everything in place takes over the ownership and changes no rule and no element.
    ///
    /// - Returns: the changes made.
    @discardableResult
    mutating func commit() throws(KernelError) -> [Change] {
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
        assembly.settle()
        let difference = try observe().map { $0.changes(to: assembly.ruleset) } ?? assembly.ruleset.creation
        try socket.apply(difference.contains(.addTable) ? difference : [.addTable] + difference, to: name, owned: true)
        isSynced = true
        return difference
    }
}
