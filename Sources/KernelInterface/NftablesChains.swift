public import Nftables

extension NftablesSocket {
    /// A rule by its chain and the kernel's number for it.
    public struct RulePlace: Hashable, Sendable {
        public var chain: String
        public var handle: UInt64

        public init(chain: String, handle: UInt64) {
            self.chain = chain
            self.handle = handle
        }
    }

    /// Removes some rules and some whole chains of a table and leaves everything else in it alone, in one transaction.
    ///
    /// For tables that others made and we have no model of. `EBUSY` where a chain is still led to.
    public func remove(_ rules: [RulePlace], chains: [String], from table: TableName) throws(KernelError) {
        guard !rules.isEmpty || !chains.isEmpty else { return }
        var batch = NftablesBatch(table: table)
        for rule in rules { batch.appendRuleRemoval(rule.handle, of: rule.chain) }
        // Chains may lead to each other: all are emptied before the first goes.
        for chain in chains { batch.appendRuleRemoval(nil, of: chain) }
        for chain in chains { batch.appendChainRemoval(chain) }
        batch.finish()
        try send(&batch, [])
    }
}
