internal import CLibMnl
internal import CLibNftnl
internal import Glibc
internal import Nftables
internal import Synchronization

/// The messages of one transaction, one after the other in one buffer.
struct NftablesBatch: ~Copyable {
    let table: TableName
    var bytes = MessageBuffer()
    let firstSequence: UInt32
    private(set) var lastSequence: UInt32
    /// The first message of each change.
    private var starts: [UInt32] = []

    private static let sequence = Atomic<UInt32>(1)

    /// A number for a message that no other message of this process has had lately.
    static func nextSequence() -> UInt32 { sequence.add(1, ordering: .relaxed).oldValue }

    init(table: TableName) {
        self.table = table
        firstSequence = Self.nextSequence()
        lastSequence = firstSequence
        let sequence = firstSequence
        bytes.append { _ = nftnl_batch_begin($0, sequence) }
    }

    /// Marks the last message as the one to acknowledge, and ends the batch.
    mutating func finish() {
        bytes.flagLast(UInt16(NLM_F_ACK))
        let sequence = Self.nextSequence()
        bytes.append { _ = nftnl_batch_end($0, sequence) }
    }

    /// Marks the last message as the one to acknowledge, and leaves the end of the batch away: the kernel then validates
    /// all of it and takes it back.
    mutating func finishAsCheck() { bytes.flagLast(UInt16(NLM_F_ACK)) }

    /// Which change a failing message belongs to.
    func subject(of sequence: UInt32, in changes: [Change]) -> String? {
        guard let index = starts.lastIndex(where: { $0 <= sequence }), sequence != firstSequence else { return nil }
        return changes[index].summary
    }

    mutating func append(_ change: Change, owned: Bool) {
        starts.append(lastSequence &+ 1)
        switch change {
        case .addTable: appendTable(owned: owned)
        case .removeTable: appendTableRemoval()
        case .addSet(let name, let definition): appendSet(name, definition)
        case .removeSet(let name): appendSetRemoval(name)
        case .addChain(let name, let hook, let comment): appendChain(name, hook: hook, comment: comment)
        case .removeChain(let name): appendChainRemoval(name)
        case .replaceRules(let rules, let chain): appendRules(rules, of: chain)
        case .addElements(let elements, let set): appendElements(elements, of: set, message: NFT_MSG_NEWSETELEM)
        case .removeElements(let elements, let set): appendElements(elements, of: set, message: NFT_MSG_DELSETELEM)
        }
    }

    private mutating func message(
        _ type: nf_tables_msg_types, _ flags: Int32, _ payload: (UnsafeMutablePointer<nlmsghdr>) -> Void
    ) {
        lastSequence = Self.nextSequence()
        let (family, sequence) = (UInt16(table.family.rawValue), lastSequence)
        bytes.append { start in
            payload(nftnl_nlmsg_build_hdr(start, UInt16(type.rawValue), family, UInt16(flags), sequence)!)
        }
    }

    // MARK: Tables and chains

    private mutating func appendTable(owned: Bool) {
        let object = nftnl_table_alloc()!
        defer { nftnl_table_free(object) }
        nftnl_table_set_str(object, NFTNL_TABLE_NAME.attribute, table.name)
        // NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST.
        nftnl_table_set_u32(object, NFTNL_TABLE_FLAGS.attribute, owned ? 2 | 4 : 0)
        message(NFT_MSG_NEWTABLE, NLM_F_CREATE) { nftnl_table_nlmsg_build_payload($0, object) }
    }

    private mutating func appendTableRemoval() {
        let object = nftnl_table_alloc()!
        defer { nftnl_table_free(object) }
        nftnl_table_set_str(object, NFTNL_TABLE_NAME.attribute, table.name)
        message(NFT_MSG_DELTABLE, 0) { nftnl_table_nlmsg_build_payload($0, object) }
    }

    private mutating func appendChain(_ name: String, hook: Hook?, comment: String?) {
        let chain = nftnl_chain_alloc()!
        defer { nftnl_chain_free(chain) }
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE.attribute, table.name)
        nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME.attribute, name)
        if let hook {
            nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE.attribute, hook.kind.rawValue)
            nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM.attribute, hook.point.rawValue)
            nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO.attribute, hook.priority)
            nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY.attribute, hook.policy.rawValue)
        }
        if let comment {
            let data = UserData.comment(comment)
            nftnl_chain_set_data(chain, NFTNL_CHAIN_USERDATA.attribute, data, UInt32(data.count))
        }
        message(NFT_MSG_NEWCHAIN, NLM_F_CREATE) { nftnl_chain_nlmsg_build_payload($0, chain) }
    }

    mutating func appendChainRemoval(_ name: String) {
        let chain = nftnl_chain_alloc()!
        defer { nftnl_chain_free(chain) }
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE.attribute, table.name)
        nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME.attribute, name)
        message(NFT_MSG_DELCHAIN, 0) { nftnl_chain_nlmsg_build_payload($0, chain) }
    }

    // MARK: Rules

    private mutating func appendRules(_ rules: [Rule], of chain: String) {
        // A removal that names the chain but no rule removes all of them.
        let all = nftnl_rule_alloc()!
        defer { nftnl_rule_free(all) }
        nftnl_rule_set_str(all, NFTNL_RULE_TABLE.attribute, table.name)
        nftnl_rule_set_str(all, NFTNL_RULE_CHAIN.attribute, chain)
        message(NFT_MSG_DELRULE, 0) { nftnl_rule_nlmsg_build_payload($0, all) }
        for rule in rules {
            let object = nftnl_rule_alloc()!
            defer { nftnl_rule_free(object) }
            nftnl_rule_set_str(object, NFTNL_RULE_TABLE.attribute, table.name)
            nftnl_rule_set_str(object, NFTNL_RULE_CHAIN.attribute, chain)
            for instruction in rule.instructions {
                // libnftnl frees the expression together with the rule.
                nftnl_rule_add_expr(object, encode(instruction))
            }
            if let comment = rule.comment {
                let data = UserData.comment(comment)
                nftnl_rule_set_data(object, NFTNL_RULE_USERDATA.attribute, data, UInt32(data.count))
            }
            message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND) { nftnl_rule_nlmsg_build_payload($0, object) }
        }
    }

    /// Removes one rule, or all rules of the chain.
    ///
    /// - Parameter handle: The kernel's number of the rule; nil for all.
    mutating func appendRuleRemoval(_ handle: UInt64?, of chain: String) {
        let rule = nftnl_rule_alloc()!
        defer { nftnl_rule_free(rule) }
        nftnl_rule_set_str(rule, NFTNL_RULE_TABLE.attribute, table.name)
        nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN.attribute, chain)
        if let handle { nftnl_rule_set_u64(rule, NFTNL_RULE_HANDLE.attribute, handle) }
        message(NFT_MSG_DELRULE, 0) { nftnl_rule_nlmsg_build_payload($0, rule) }
    }

    // MARK: Sets

    private mutating func appendSet(_ name: String, _ definition: SetDefinition) {
        let set = nftnl_set_alloc()!
        defer { nftnl_set_free(set) }
        nftnl_set_set_str(set, NFTNL_SET_TABLE.attribute, table.name)
        nftnl_set_set_str(set, NFTNL_SET_NAME.attribute, name)
        nftnl_set_set_u32(set, NFTNL_SET_ID.attribute, lastSequence)
        var flags: Int32 = 0
        if definition.isInterval { flags |= Int32(NFT_SET_INTERVAL.rawValue) }
        if let expiry = definition.expiry {
            flags |= Int32(NFT_SET_EVAL.rawValue | NFT_SET_TIMEOUT.rawValue)
            // Milliseconds.
            nftnl_set_set_u64(set, NFTNL_SET_TIMEOUT.attribute, expiry * 1000)
            nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE.attribute, SetDefinition.mostRemembered)
        }
        nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE.attribute, typeNumber(definition.key))
        nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN.attribute, byteCount(definition.key))
        switch definition.data {
        case nil: break
        case .verdict?:
            flags |= Int32(NFT_SET_MAP.rawValue)
            nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE.attribute, 0xffff_ff00)  // NFT_DATA_VERDICT
        case .values(let types)?:
            flags |= Int32(NFT_SET_MAP.rawValue)
            nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE.attribute, typeNumber(types))
            nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN.attribute, byteCount(types))
        }
        nftnl_set_set_u32(set, NFTNL_SET_FLAGS.attribute, UInt32(flags))
        let data = UserData.types(of: definition)
        nftnl_set_set_data(set, NFTNL_SET_USERDATA.attribute, data, UInt32(data.count))
        message(NFT_MSG_NEWSET, NLM_F_CREATE) { nftnl_set_nlmsg_build_payload($0, set) }
    }

    private mutating func appendSetRemoval(_ name: String) {
        let set = nftnl_set_alloc()!
        defer { nftnl_set_free(set) }
        nftnl_set_set_str(set, NFTNL_SET_TABLE.attribute, table.name)
        nftnl_set_set_str(set, NFTNL_SET_NAME.attribute, name)
        message(NFT_MSG_DELSET, 0) { nftnl_set_nlmsg_build_payload($0, set) }
    }

    /// A long list goes to libnftnl piece by piece: its elements are hundreds of bytes each, and live until their
    /// message is written.
    private mutating func appendElements(_ elements: [Element], of name: String, message type: nf_tables_msg_types) {
        var rest = elements[...]
        while !rest.isEmpty {
            appendPiece(rest.prefix(512), of: name, message: type)
            rest = rest.dropFirst(512)
        }
    }

    private mutating func appendPiece(
        _ elements: ArraySlice<Element>, of name: String, message type: nf_tables_msg_types
    ) {
        let set = nftnl_set_alloc()!
        defer { nftnl_set_free(set) }
        nftnl_set_set_str(set, NFTNL_SET_TABLE.attribute, table.name)
        nftnl_set_set_str(set, NFTNL_SET_NAME.attribute, name)
        for element in elements {
            for part in elementParts(of: element, removing: type == NFT_MSG_DELSETELEM) { nftnl_set_elem_add(set, part) }
        }
        let flags = type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0
        let iterator = nftnl_set_elems_iter_create(set)!
        defer { nftnl_set_elems_iter_destroy(iterator) }
        // An attribute's length has 16 bits, so even a piece may take several messages; libnftnl says when one is full.
        var more = true
        while more {
            message(type, flags) { more = nftnl_set_elems_nlmsg_build_payload_iter($0, iterator) > 0 }
        }
    }
}

/// Memory that grows by whole messages. libmnl writes without looking at the end, so there is always room for the
/// largest message: 64 KiB of attributes and a header.
struct MessageBuffer: ~Copyable {
    private var start: UnsafeMutableRawPointer
    private var capacity = 1 << 18
    private(set) var count = 0
    private var last = 0
    private static let room = 1 << 17

    init() { start = .allocate(byteCount: capacity, alignment: 16) }

    deinit { start.deallocate() }

    var contents: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    mutating func append(_ build: (UnsafeMutablePointer<CChar>) -> Void) {
        if capacity - count < Self.room {
            let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity * 2, alignment: 16)
            larger.copyMemory(from: start, byteCount: count)
            start.deallocate()
            start = larger
            capacity *= 2
        }
        last = count
        build((start + count).assumingMemoryBound(to: CChar.self))
        let length = Int((start + last).assumingMemoryBound(to: nlmsghdr.self).pointee.nlmsg_len)
        count += (length + 3) / 4 * 4
    }

    /// Adds flags to the message appended last.
    func flagLast(_ flags: UInt16) {
        (start + last).assumingMemoryBound(to: nlmsghdr.self).pointee.nlmsg_flags |= flags
    }
}

func typeNumber(_ types: [KeyType]) -> UInt32 { types.reduce(0) { $0 << 6 | $1.rawValue } }

/// Bytes of a key or of a map's data: each part in whole words.
func byteCount(_ types: [KeyType]) -> UInt32 { UInt32(types.reduce(0) { $0 + $1.paddedLength }) }
