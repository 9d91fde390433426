import CNIProtocol
import KernelInterface
import NetworkAddresses
import Nftables
import PodAttachment
import SystemPackage

/// A table of the packet filter that holds something for each attachment.
struct AttachmentTable {
    let frame: Ruleset
    private let filter: PacketFilter

    /// The table of the calling thread's namespace, whether it is there or not.
    init(_ frame: Ruleset, in filter: PacketFilter = PacketFilter()) {
        self.frame = frame
        self.filter = filter
    }

    /// The whole table; nil where there is none.
    func observe() throws(CNIError) -> Ruleset? {
        try kernel { () throws(KernelError) in
            try filter.use { socket throws(KernelError) in try socket.observe(frame.table) }
        }
    }

    /// The table with only those elements that have the keys of `part`.
    func observe(keysOf part: Contribution) throws(CNIError) -> Ruleset? {
        try kernel { () throws(KernelError) in
            try filter.use { socket throws(KernelError) in
                guard var table = try socket.observe(frame.table, elements: false) else { return nil }
                for member in part.members {
                    guard let element = try socket.element(member.element.key, of: member.set, in: frame.table) else {
                        continue
                    }
                    table.sets[member.set]?.elements[element.key] = element
                }
                return table
            }
        }
    }

    /// Sends the edits that `decide` makes, again where another process was quicker.
    ///
    /// Plugins take turns: a look at a table that is interrupted by another's edit is taken again, and a crowd of them
    /// would keep each other looking. Who waits too long goes on without; the kernel refuses what collides.
    func change(_ decide: () throws(CNIError) -> [Change]) throws(CNIError) {
        let turn = try? FileLock.ofNetworkNamespace(timeout: .seconds(10))
        try changeInTurn(decide)
        _ = consume turn
    }

    private func changeInTurn(_ decide: () throws(CNIError) -> [Change]) throws(CNIError) {
        // Each is lost to one edit of another process; a node's start is some hundreds of them at once.
        var attemptsLeft = 20
        while true {
            attemptsLeft -= 1
            let changes = try decide()
            do throws(KernelError) {
                return try apply(changes)
            } catch where attemptsLeft > 0 && Self.collisions.contains(error.errno) {
                // What was looked at has changed: the kernel refused the whole batch, and the next look decides.
                continue
            } catch {
                throw CNIError(error)
            }
        }
    }

    /// Something went, came, or came into use between the look and the batch.
    private static let collisions: [Errno] = [.noSuchFileOrDirectory, .fileExists, .resourceBusy]

    /// Adds an attachment's part, in place of what the table holds under the part's keys.
    func add(_ part: Contribution, for tag: AttachmentTag) throws(CNIError) {
        try change { () throws(CNIError) in
            let observed = try observe(keysOf: part)
            do throws(ClaimedElement) { return try frame.adding(part, of: tag, to: observed) } catch {
                throw CNIError(error)
            }
        }
    }

    /// Removes the elements that `isGone` says so of by their comments, and the chains that nothing leads to then.
    ///
    /// - Returns: what the table held before; nil where nothing had to go.
    @discardableResult
    func remove(where isGone: (String?) -> Bool) throws(CNIError) -> Ruleset? {
        var before: Ruleset?
        try change { () throws(CNIError) in
            before = try observe()
            let changes = before?.removing(where: isGone) ?? []
            if changes.isEmpty { before = nil }
            return changes
        }
        guard let before else { return nil }
        var after = before
        for change in before.removing(where: isGone) { after.apply(change) }
        for chain in after.unusedChains(frame: frame) {
            // Where it is in use again, or another process has removed it, it is no concern of ours.
            try? apply([.replaceRules([], chain: chain), .removeChain(chain)])
        }
        return before
    }

    /// Puts back what the table lacks of attachments' parts, in one batch.
    ///
    /// - Parameter attachments: asked for when no plugin is changing the table.
    func restore(_ attachments: () throws(CNIError) -> [RecordedParts]) throws(CNIError) -> TableLoss {
        var loss = TableLoss()
        try change { () throws(CNIError) in
            loss = frame.loss(of: try attachments(), in: try observe())
            return loss.changes
        }
        return loss
    }

    private func apply(_ changes: [Change]) throws(KernelError) {
        try filter.use { socket throws(KernelError) in try socket.apply(changes, to: frame.table) }
    }

    /// Fails where the table lacks something of its frame or of an attachment's part.
    func check(_ part: Contribution, of tag: AttachmentTag) throws(CNIError) {
        guard let table = try observe(keysOf: part) else {
            throw CNIError(.internal, "table \(frame.table) not found")
        }
        if let flaw = frame.flaw(of: frame.chains, in: table) ?? frame.flaw(of: part, of: tag, in: table) {
            throw CNIError(.internal, flaw)
        }
    }
}
