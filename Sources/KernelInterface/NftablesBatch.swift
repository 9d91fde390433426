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

    mutating func message(
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
}

// MARK: - Elements

// Elements are written straight into the batch: libnftnl would make an object of hundreds of bytes out of each first, and
// a table of a large cluster consists of little else.
extension NftablesBatch {
    /// Adds or removes elements of a set (`NFT_MSG_NEWSETELEM`, `NFT_MSG_DELSETELEM`).
    mutating func appendElements(_ elements: [Element], of set: String, message type: nf_tables_msg_types) {
        let isRemoval = type == NFT_MSG_DELSETELEM
        let table = table.name
        var next = elements.startIndex
        while next < elements.endIndex {
            message(type, isRemoval ? 0 : NLM_F_CREATE) { message in
                mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE.attribute, table)
                mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET.attribute, set)
                message.nest(NFTA_SET_ELEM_LIST_ELEMENTS.attribute) {
                    // An attribute's length has 16 bits; an element is at most 700 bytes long, and a range is two.
                    while next < elements.endIndex, message.pointee.nlmsg_len < 64_000 {
                        message.putElement(elements[next], isRemoval: isRemoval)
                        next += 1
                    }
                }
            }
        }
    }
}

extension UnsafeMutablePointer<nlmsghdr> {
    /// Appends an attribute that consists of those that the body appends.
    fileprivate func nest(_ type: UInt16, _ body: () -> Void) {
        let start = mnl_attr_nest_start(self, type)
        body()
        mnl_attr_nest_end(self, start)
    }

    /// Appends bytes as the value (`NFTA_DATA_VALUE`) in an attribute.
    private func putValue(_ bytes: [UInt8], _ type: UInt16) {
        nest(type) { mnl_attr_put(self, NFTA_DATA_VALUE.attribute, bytes.count, bytes) }
    }

    /// Appends the kernel's elements for one of ours: a range is its start, and the first key after its end.
    fileprivate func putElement(_ element: Element, isRemoval: Bool) {
        nest(NFTA_LIST_ELEM.attribute) {
            putValue(element.key.bytes, NFTA_SET_ELEM_KEY.attribute)
            if !isRemoval { putContent(of: element) }
        }
        // A range that reaches the last key has no end of its own.
        guard let last = element.last, let after = keyAfter(last.bytes) else { return }
        nest(NFTA_LIST_ELEM.attribute) {
            putValue(after, NFTA_SET_ELEM_KEY.attribute)
            mnl_attr_put_u32(self, NFTA_SET_ELEM_FLAGS.attribute, NFT_SET_ELEM_INTERVAL_END.rawValue.bigEndian)
        }
    }

    private func putContent(of element: Element) {
        switch element.value {
        case .data(let data)?: putValue(data.bytes, NFTA_SET_ELEM_DATA.attribute)
        case .verdict(let verdict)?:
            nest(NFTA_SET_ELEM_DATA.attribute) {
                nest(NFTA_DATA_VERDICT.attribute) {
                    mnl_attr_put_u32(self, NFTA_VERDICT_CODE.attribute, UInt32(bitPattern: verdict.code).bigEndian)
                    if let chain = verdict.target { mnl_attr_put_strz(self, NFTA_VERDICT_CHAIN.attribute, chain) }
                }
            }
        case nil: break
        }
        if let comment = element.comment {
            UserData.comment(comment).withUnsafeBufferPointer {
                mnl_attr_put(self, NFTA_SET_ELEM_USERDATA.attribute, $0.count, $0.baseAddress)
            }
        }
    }
}

/// The next number in network order; nil after the last.
private func keyAfter(_ bytes: [UInt8]) -> [UInt8]? {
    var next = bytes
    for index in next.indices.reversed() {
        next[index] &+= 1
        if next[index] != 0 { return next }
    }
    return nil
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
