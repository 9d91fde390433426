internal import CLibMnl
internal import CLibNftnl
internal import Glibc
internal import Nftables

// Values out of the kernel's answers. Each function returns nil for a message about another table, or for one that
// libnftnl cannot read.

func decodeTable(_ message: UnsafePointer<nlmsghdr>) -> TableName? {
    let table = nftnl_table_alloc()!
    defer { nftnl_table_free(table) }
    guard nftnl_table_nlmsg_parse(message, table) == 0,
        let family = TableFamily(rawValue: nftnl_table_get_u32(table, NFTNL_TABLE_FAMILY.attribute)),
        let name = nftnl_table_get_str(table, NFTNL_TABLE_NAME.attribute)
    else { return nil }
    return TableName(family, String(cString: name))
}

func decodeChain(_ message: UnsafePointer<nlmsghdr>, of table: TableName) -> (String, Chain)? {
    let chain = nftnl_chain_alloc()!
    defer { nftnl_chain_free(chain) }
    guard nftnl_chain_nlmsg_parse(message, chain) == 0,
        nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY.attribute) == table.family.rawValue,
        let owner = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE.attribute), String(cString: owner) == table.name,
        let name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME.attribute)
    else { return nil }
    var hook: Hook?
    if nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM.attribute),
        let kind = nftnl_chain_get_str(chain, NFTNL_CHAIN_TYPE.attribute).flatMap({
            Hook.Kind(rawValue: String(cString: $0))
        }),
        let point = Hook.Point(rawValue: nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM.attribute))
    {
        hook = Hook(
            kind, point, priority: nftnl_chain_get_s32(chain, NFTNL_CHAIN_PRIO.attribute),
            policy: Hook.Policy(rawValue: nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY.attribute)) ?? .accept)
    }
    var length: UInt32 = 0
    let comment = nftnl_chain_get_data(chain, NFTNL_CHAIN_USERDATA.attribute, &length).flatMap {
        UserData.comment(in: UnsafeRawBufferPointer(start: $0, count: Int(length)))
    }
    return (String(cString: name), Chain(hook: hook, comment: comment, []))
}

func decodeRule(_ message: UnsafePointer<nlmsghdr>, of table: TableName) -> (chain: String, Rule)? {
    let rule = nftnl_rule_alloc()!
    defer { nftnl_rule_free(rule) }
    guard nftnl_rule_nlmsg_parse(message, rule) == 0,
        nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY.attribute) == table.family.rawValue,
        let owner = nftnl_rule_get_str(rule, NFTNL_RULE_TABLE.attribute), String(cString: owner) == table.name,
        let chain = nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN.attribute),
        let iterator = nftnl_expr_iter_create(rule)
    else { return nil }
    defer { nftnl_expr_iter_destroy(iterator) }
    var instructions: [Instruction] = []
    while let expression = nftnl_expr_iter_next(iterator) { instructions.append(decode(expression)) }
    var length: UInt32 = 0
    let comment = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA.attribute, &length).flatMap {
        UserData.comment(in: UnsafeRawBufferPointer(start: $0, count: Int(length)))
    }
    let handle = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE.attribute)
    return (String(cString: chain), Rule(instructions: instructions, comment: comment, handle: handle))
}

/// A set as the kernel describes it.
struct ObservedSet {
    var definition: SetDefinition
    /// How many elements it has; nil where the kernel does not tell.
    var count: Int?
}

func decodeSet(_ message: UnsafePointer<nlmsghdr>, of table: TableName) -> (String, ObservedSet)? {
    let set = nftnl_set_alloc()!
    defer { nftnl_set_free(set) }
    guard nftnl_set_nlmsg_parse(message, set) == 0,
        nftnl_set_get_u32(set, NFTNL_SET_FAMILY.attribute) == table.family.rawValue,
        let owner = nftnl_set_get_str(set, NFTNL_SET_TABLE.attribute), String(cString: owner) == table.name,
        let name = nftnl_set_get_str(set, NFTNL_SET_NAME.attribute),
        let key = keyTypes(nftnl_set_get_u32(set, NFTNL_SET_KEY_TYPE.attribute))
    else { return nil }
    let flags = nftnl_set_get_u32(set, NFTNL_SET_FLAGS.attribute)
    var data: SetDefinition.Data?
    if flags & NFT_SET_MAP.rawValue != 0 {
        let type = nftnl_set_get_u32(set, NFTNL_SET_DATA_TYPE.attribute)
        if type == 0xffff_ff00 {
            data = .verdict
        } else if let types = keyTypes(type) {
            data = .values(types)
        } else {
            return nil
        }
    }
    var definition = SetDefinition(key: key, data: data, isInterval: flags & NFT_SET_INTERVAL.rawValue != 0)
    if flags & NFT_SET_TIMEOUT.rawValue != 0 {
        definition.expiry = nftnl_set_get_u64(set, NFTNL_SET_TIMEOUT.attribute) / 1000
    }
    return (String(cString: name), ObservedSet(definition: definition, count: elementCount(message)))
}

/// `NFTA_SET_COUNT` of Linux 6.17; Debian 12's header ends before it.
private let setCountAttribute: UInt16 = 20

/// How many elements a set has, which libnftnl does not read. Attributes begin behind `struct nfgenmsg`.
private func elementCount(_ message: UnsafePointer<nlmsghdr>) -> Int? {
    var count: Int?
    mnl_attr_parse(
        message, 4,
        { attribute, count in
            if mnl_attr_get_type(attribute) == setCountAttribute, mnl_attr_get_payload_len(attribute) == 4 {
                count!.assumingMemoryBound(to: Int?.self).pointee = Int(UInt32(bigEndian: mnl_attr_get_u32(attribute)))
            }
            return MNL_CB_OK
        }, &count)
    return count
}

/// The parts of a concatenated type number, or nil where one is not ours.
private func keyTypes(_ number: UInt32) -> [KeyType]? {
    var types: [KeyType] = []
    var rest = number
    while rest != 0 {
        guard let type = KeyType(rawValue: rest & 0x3f) else { return nil }
        types.insert(type, at: 0)
        rest >>= 6
    }
    let isUnpaddedPart = types.count == 1 && types[0].length != types[0].paddedLength
    return types.isEmpty || isUnpaddedPart ? nil : types
}

func decodeGeneration(_ message: UnsafePointer<nlmsghdr>) -> UInt32? {
    let generation = nftnl_gen_alloc()!
    defer { nftnl_gen_free(generation) }
    guard nftnl_gen_nlmsg_parse(message, generation) == 0 else { return nil }
    return nftnl_gen_get_u32(generation, NFTNL_GEN_ID.attribute)
}

// MARK: - Elements

/// An element as the kernel holds it: an interval is two of them, its start and the first key after its end.
struct ObservedElement {
    var element: Element
    var isIntervalEnd: Bool
}

private func predecessor(of bytes: [UInt8]) -> [UInt8] {
    var previous = bytes
    for index in previous.indices.reversed() {
        previous[index] &-= 1
        if previous[index] != 0xff { break }
    }
    return previous
}

func decodeElements(_ message: UnsafePointer<nlmsghdr>) -> [ObservedElement] {
    let set = nftnl_set_alloc()!
    defer { nftnl_set_free(set) }
    guard nftnl_set_elems_nlmsg_parse(message, set) == 0, let iterator = nftnl_set_elems_iter_create(set) else {
        return []
    }
    defer { nftnl_set_elems_iter_destroy(iterator) }
    var elements: [ObservedElement] = []
    while let element = nftnl_set_elems_iter_next(iterator) {
        guard let key = bytes(NFTNL_SET_ELEM_KEY.attribute, of: element) else { continue }
        var value: Element.Value?
        if nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_VERDICT.attribute) {
            let code = Int32(bitPattern: nftnl_set_elem_get_u32(element, NFTNL_SET_ELEM_VERDICT.attribute))
            let chain = nftnl_set_elem_get_str(element, NFTNL_SET_ELEM_CHAIN.attribute).map(String.init(cString:))
            value = Verdict(code: code, chain: chain).map { .verdict($0) }
        } else if let data = bytes(NFTNL_SET_ELEM_DATA.attribute, of: element) {
            value = .data(ElementKey(bytes: data))
        }
        var length: UInt32 = 0
        let comment = nftnl_set_elem_get(element, NFTNL_SET_ELEM_USERDATA.attribute, &length).flatMap {
            UserData.comment(in: UnsafeRawBufferPointer(start: $0, count: Int(length)))
        }
        let flags =
            nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_FLAGS.attribute)
            ? nftnl_set_elem_get_u32(element, NFTNL_SET_ELEM_FLAGS.attribute) : 0
        elements.append(
            ObservedElement(
                element: Element(ElementKey(bytes: key), value, comment: comment),
                isIntervalEnd: flags & NFT_SET_ELEM_INTERVAL_END.rawValue != 0))
    }
    return elements
}

private func bytes(_ attribute: UInt16, of element: OpaquePointer) -> [UInt8]? {
    var length: UInt32 = 0
    guard let data = nftnl_set_elem_get(element, attribute, &length) else { return nil }
    return Array(UnsafeRawBufferPointer(start: data, count: Int(length)))
}

/// Puts the halves of intervals together again.
func joinElements(_ pieces: [ObservedElement], definition: SetDefinition) -> [Element] {
    guard definition.isInterval else { return pieces.map(\.element) }
    // In key order; where one range ends and the next begins at the same key, the end comes first.
    let sorted = pieces.sorted {
        ($0.element.key, $0.isIntervalEnd ? 0 : 1) < ($1.element.key, $1.isIntervalEnd ? 0 : 1)
    }
    var elements: [Element] = []
    for (index, piece) in sorted.enumerated() where !piece.isIntervalEnd {
        var element = piece.element
        if index + 1 < sorted.count, sorted[index + 1].isIntervalEnd {
            element.last = ElementKey(bytes: predecessor(of: sorted[index + 1].element.key.bytes))
        } else {
            element.last = ElementKey(bytes: Array(repeating: 0xff, count: element.key.bytes.count))
        }
        elements.append(element)
    }
    return elements
}

/// The payload of a request about a set's elements: one of them, or all.
struct ElementRequest {
    var table: TableName
    var set: String
    var key: ElementKey?

    func build(_ header: UnsafeMutablePointer<nlmsghdr>) {
        let object = nftnl_set_alloc()!
        defer { nftnl_set_free(object) }
        nftnl_set_set_str(object, NFTNL_SET_TABLE.attribute, table.name)
        nftnl_set_set_str(object, NFTNL_SET_NAME.attribute, set)
        if let key {
            let element = nftnl_set_elem_alloc()!
            _ = nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY.attribute, key.bytes, UInt32(key.bytes.count))
            nftnl_set_elem_add(object, element)
        }
        nftnl_set_elems_nlmsg_build_payload(header, object)
    }
}
