internal import CLibMnl
internal import CLibNftnl
internal import Glibc
public import Nftables
internal import Synchronization
internal import SystemPackage

/// A persistent channel to the kernel's packet filter in the namespace it was opened in (`NETLINK_NETFILTER`).
///
/// One list of changes is one batch: the kernel carries out all of it or nothing. The socket stays open, because the
/// kernel ties a table's ownership to it, and because closing one waits for the kernel to tidy up.
// Sendable: the handle is a descriptor and constants, and a socket belongs to one actor or thread at a time.
public struct NftablesSocket: ~Copyable, @unchecked Sendable {
    private let handle: OpaquePointer
    /// For one datagram of the kernel's. Left as it comes, for it need not be zero.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)

    private static let sent = Atomic<Int>(0)

    /// Bytes of transactions that this process has sent, by all its sockets.
    public static var bytesSent: Int { sent.load(ordering: .relaxed) }

    private init(owning handle: OpaquePointer) { self.handle = handle }

    deinit {
        mnl_socket_close(handle)
        buffer.deallocate()
    }

    /// Opens a socket in the calling thread's network namespace.
    public static func open() throws(KernelError) -> NftablesSocket {
        guard let handle = mnl_socket_open2(NETLINK_NETFILTER, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw lastError("open nftables socket")
        }
        let socket = NftablesSocket(owning: handle)
        guard mnl_socket_bind(handle, 0, 0) == 0 else { throw lastError("bind nftables socket") }
        // The kernel's words on a failure, without a copy of the whole batch that failed.
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            var on: Int32 = 1
            _ = mnl_socket_setsockopt(handle, Int32(option), &on, socklen_t(MemoryLayout<Int32>.size))
        }
        // An answer that never comes must not stop the node: no answer takes this long.
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        _ = setsockopt(
            mnl_socket_get_fd(handle), SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        socket.growBuffers(to: 1 << 22)
        return socket
    }

    /// A batch travels as one message, so the buffers must hold the largest; `*FORCE` may exceed the system's limit.
    private func growBuffers(to bytes: Int) {
        var size = Int32(clamping: bytes)
        for option in [SO_SNDBUFFORCE, SO_RCVBUFFORCE] {
            _ = setsockopt(
                mnl_socket_get_fd(handle), SOL_SOCKET, option, &size, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    // MARK: - Writing

    /// Carries out the changes in one transaction.
    ///
    /// - Parameter owned: whether the table belongs to this socket from now on (`NFT_TABLE_F_OWNER`, `PERSIST`): no
    ///   other process can change or flush it while the socket is open, and it outlives the socket.
    /// - Throws: the first failing change with the kernel's reason. Nothing was changed then.
    public func apply(_ changes: [Change], to table: TableName, owned: Bool = false) throws(KernelError) {
        guard !changes.isEmpty else { return }
        var batch = NftablesBatch(table: table)
        for change in changes { batch.append(change, owned: owned) }
        batch.finish()
        try send(&batch, changes)
    }

    /// Has the kernel judge the changes as `apply` would, and carry out none of them.
    public func check(_ changes: [Change], to table: TableName, owned: Bool = false) throws(KernelError) {
        guard !changes.isEmpty else { return }
        var batch = NftablesBatch(table: table)
        for change in changes { batch.append(change, owned: owned) }
        batch.finishAsCheck()
        try send(&batch, changes)
    }

    /// Whether the kernel can keep others out of a table, and keep the table when its owner ends (Linux 6.9).
    public func knowsOwnership() throws(KernelError) -> Bool {
        do {
            try check([.addTable], to: TableName(.inet, "fairlead-ownership"), owned: true)
            return true
        } catch where error.errno == .notSupported {
            return false
        }
    }

    /// The number by which the kernel tells others who changed something.
    public var portNumber: UInt32 { mnl_socket_get_portid(handle) }

    /// Removes a table and everything in it. A table that is not there is no error.
    public func removeTable(_ table: TableName) throws(KernelError) {
        do {
            try apply([.removeTable], to: table)
        } catch where error.errno == .noSuchFileOrDirectory {
            return
        }
    }

    func send(_ batch: inout NftablesBatch, _ changes: [Change]) throws(KernelError) {
        let operation = "change table \(batch.table)"
        if batch.bytes.count > 1 << 21 { growBuffers(to: batch.bytes.count * 2) }
        let sent = mnl_socket_sendto(handle, batch.bytes.contents.baseAddress, batch.bytes.count)
        guard sent == batch.bytes.count else { throw lastError(operation) }
        Self.sent.add(sent, ordering: .relaxed)
        var failure: KernelError?
        var finished = false
        // Errors come in the order of the messages, the acknowledgement of the last message at the end. A batch that
        // fails as a whole is answered with the number of its first message.
        while !finished {
            try receive(operation: operation) { header throws(KernelError) in
                guard header.pointee.nlmsg_type == UInt16(NLMSG_ERROR) else { return }
                let sequence = header.pointee.nlmsg_seq
                let code = netlinkErrorCode(header)
                if code != 0, failure == nil {
                    let object = batch.subject(of: sequence, in: changes)
                    failure = KernelError(
                        operation: object.map { "\(operation): \($0)" } ?? operation, errno: Errno(rawValue: code),
                        kernelMessage: netlinkErrorMessage(header))
                }
                if sequence == batch.lastSequence || sequence == batch.firstSequence { finished = true }
            }
        }
        if let failure { throw failure }
    }

    /// Reads one datagram and hands out its messages.
    private func receive(
        operation: String, _ body: (UnsafePointer<nlmsghdr>) throws(KernelError) -> Void
    ) throws(KernelError) {
        let count = mnl_socket_recvfrom(handle, buffer.baseAddress, buffer.count)
        guard count >= 0 else {
            if errno == EINTR { return }
            throw lastError(operation)
        }
        var remaining = Int32(count)
        var header = UnsafePointer(buffer.baseAddress!.assumingMemoryBound(to: nlmsghdr.self))
        while mnl_nlmsg_ok(header, remaining) {
            try body(header)
            header = UnsafePointer(mnl_nlmsg_next(header, &remaining)!)
        }
    }

    // MARK: - Reading

    /// The table as the kernel has it, or nil where there is none.
    ///
    /// Read again when another process changed the ruleset meanwhile (`NLM_F_DUMP_INTR`).
    ///
    /// - Parameter elements: Whether sets are read with what is in them. Without, a table of any size is read in a few
    ///   milliseconds, and `element(_:of:in:)` answers for its sets.
    public func observe(_ table: TableName, elements: Bool = true) throws(KernelError) -> Ruleset? {
        for _ in 0..<16 {
            do {
                return try observeOnce(table, elements: elements)
            } catch where error.errno == .interrupted {
                continue
            }
        }
        throw KernelError(
            operation: "read table \(table)", errno: .interrupted,
            kernelMessage: "the ruleset changed during each of 16 attempts; another program is rewriting it")
    }

    private func observeOnce(_ table: TableName, elements withElements: Bool) throws(KernelError) -> Ruleset? {
        guard try tables().contains(table) else { return nil }
        let context = "read table \(table)"
        var ruleset = Ruleset(table)
        try dump(NFT_MSG_GETCHAIN, family: table.family, operation: context) { message in
            guard let (name, chain) = decodeChain(message, of: table) else { return }
            ruleset.chains[name] = chain
        }
        var sets: [String: ObservedSet] = [:]
        try dump(NFT_MSG_GETSET, family: table.family, operation: context) { message in
            guard let (name, set) = decodeSet(message, of: table) else { return }
            sets[name] = set
        }
        for (name, set) in sets {
            ruleset.sets[name] = NamedSet(
                set.definition,
                withElements && set.definition.expiry == nil ? try elements(of: name, set, in: table) : [])
        }
        try dump(NFT_MSG_GETRULE, family: table.family, operation: context) { message in
            guard let (chain, rule) = decodeRule(message, of: table) else { return }
            ruleset.chains[chain]?.rules.append(rule)
        }
        return ruleset
    }

    /// All elements of a set.
    ///
    /// While the kernel grows a set's hash table, which it does some time after elements were added, a dump may skip
    /// some of them and show others twice. So the set is read until there are as many as the kernel has counted, or,
    /// where it does not tell, until two readings in a row agree. A reading costs with the square of the size: for each
    /// 32 KiB of it the kernel walks the table from its beginning.
    private func elements(
        of name: String, _ set: ObservedSet, in table: TableName
    ) throws(KernelError) -> [Element] {
        let request = ElementRequest(table: table, set: name)
        let operation = "read set \(name) of table \(table)"
        var last: Set<ElementKey>?
        for _ in 0..<16 {
            var pieces: [ObservedElement] = []
            try dump(
                NFT_MSG_GETSETELEM, family: table.family, operation: operation, payload: { request.build($0) }
            ) { pieces += decodeElements($0) }
            let elements = joinElements(pieces, definition: set.definition)
            let keys = Set(elements.map(\.key))
            if keys.isEmpty || keys.count == set.count || keys == last { return elements }
            last = keys
        }
        throw KernelError(operation: operation, errno: .interrupted)
    }

    /// All tables of all families.
    public func tables() throws(KernelError) -> [TableName] {
        var tables: [TableName] = []
        try dump(NFT_MSG_GETTABLE, family: nil, operation: "list nftables tables") { message in
            if let table = decodeTable(message) { tables.append(table) }
        }
        return tables
    }

    /// The element that the kernel finds for a key, by its own lookup: an interval set answers with the range that
    /// holds the key. Nil where it finds none, or where there is no such set.
    public func element(_ key: ElementKey, of set: String, in table: TableName) throws(KernelError) -> Element? {
        var found: [ObservedElement] = []
        let request = ElementRequest(table: table, set: set, key: key)
        do {
            try exchange(
                NFT_MSG_GETSETELEM, flags: UInt16(NLM_F_ACK), family: table.family,
                operation: "look up an element of set \(set) of table \(table)", payload: { request.build($0) }
            ) { found += decodeElements($0) }
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
        return found.first { !$0.isIntervalEnd }?.element
    }

    /// Whether the set holds the key. A set or table that does not exist holds nothing.
    public func contains(_ key: ElementKey, set: String, table: TableName) throws(KernelError) -> Bool {
        try element(key, of: set, in: table) != nil
    }

    /// Whether the table has the chain; false where there is no such table. The kernel looks it up by name, so a table
    /// of any size answers at once.
    public func hasChain(_ name: String, in table: TableName) throws(KernelError) -> Bool {
        let chain = nftnl_chain_alloc()!
        defer { nftnl_chain_free(chain) }
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE.attribute, table.name)
        nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME.attribute, name)
        do {
            try exchange(
                NFT_MSG_GETCHAIN, flags: UInt16(NLM_F_ACK), family: table.family,
                operation: "look up chain \(name) of table \(table)",
                payload: { nftnl_chain_nlmsg_build_payload($0, chain) }
            ) { _ in }
            return true
        } catch where error.errno == .noSuchFileOrDirectory {
            return false
        }
    }

    /// The number that the kernel counts up with every committed transaction of anyone (`NFT_MSG_GETGEN`).
    public func generation() throws(KernelError) -> UInt32 {
        var generation: UInt32 = 0
        try exchange(NFT_MSG_GETGEN, flags: UInt16(NLM_F_ACK), family: nil, operation: "read nftables generation") {
            if let value = decodeGeneration($0) { generation = value }
        }
        return generation
    }

    private func dump(
        _ type: nf_tables_msg_types, family: TableFamily?, operation: String,
        payload: (UnsafeMutablePointer<nlmsghdr>) -> Void = { _ in }, _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(KernelError) {
        try exchange(
            type, flags: UInt16(NLM_F_DUMP), family: family, operation: operation, payload: payload, body)
    }

    /// Sends one request and reads to the end of its answer.
    private func exchange(
        _ type: nf_tables_msg_types, flags: UInt16, family: TableFamily?, operation: String,
        payload: (UnsafeMutablePointer<nlmsghdr>) -> Void = { _ in }, _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(KernelError) {
        let sequence = NftablesBatch.nextSequence()
        var request = [UInt8](repeating: 0, count: 4096)
        let sent = request.withUnsafeMutableBytes { buffer in
            let header = nftnl_nlmsg_build_hdr(
                buffer.baseAddress!.assumingMemoryBound(to: CChar.self), UInt16(type.rawValue),
                UInt16(family?.rawValue ?? 0), flags, sequence)!
            payload(header)
            return mnl_socket_sendto(handle, header, Int(header.pointee.nlmsg_len))
        }
        guard sent >= 0 else { throw lastError(operation) }
        var finished = false
        var interrupted = false
        while !finished {
            try receive(operation: operation) { header throws(KernelError) in
                guard header.pointee.nlmsg_seq == sequence else { return }
                if header.pointee.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { interrupted = true }
                switch Int32(header.pointee.nlmsg_type) {
                case NLMSG_DONE: finished = true
                case NLMSG_ERROR:
                    finished = true
                    let code = netlinkErrorCode(header)
                    if code != 0 {
                        throw KernelError(
                            operation: operation, errno: Errno(rawValue: code),
                            kernelMessage: netlinkErrorMessage(header))
                    }
                default: body(header)
                }
            }
        }
        if interrupted { throw KernelError(operation: operation, errno: .interrupted, kernelMessage: nil) }
    }
}

/// What `errno` says about the call that just failed.
private func lastError(_ operation: String) -> KernelError {
    KernelError(operation: operation, errno: Errno(rawValue: errno))
}

/// The errno that an `NLMSG_ERROR` carries; 0 is an acknowledgement.
func netlinkErrorCode(_ header: UnsafePointer<nlmsghdr>) -> Int32 {
    guard mnl_nlmsg_get_payload_len(header) >= MemoryLayout<nlmsgerr>.size else { return EBADMSG }
    return -mnl_nlmsg_get_payload(header)!.assumingMemoryBound(to: nlmsgerr.self).pointee.error
}

/// The kernel's own words about a failure (`NLMSGERR_ATTR_MSG`), where it had any.
func netlinkErrorMessage(_ header: UnsafePointer<nlmsghdr>) -> String? {
    // NLM_F_ACK_TLVS: attributes follow the error; NLM_F_CAPPED: the failed request itself is left out.
    guard header.pointee.nlmsg_flags & 0x200 != 0 else { return nil }
    let error = mnl_nlmsg_get_payload(header)!.assumingMemoryBound(to: nlmsgerr.self)
    var offset = MemoryLayout<nlmsgerr>.size
    if header.pointee.nlmsg_flags & 0x100 == 0 {
        offset += Int(error.pointee.msg.nlmsg_len) - MemoryLayout<nlmsghdr>.size
    }
    let bytes = UnsafeRawBufferPointer(
        start: mnl_nlmsg_get_payload(header), count: Int(mnl_nlmsg_get_payload_len(header)))
    while offset + 4 <= bytes.count {
        let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        let type = bytes.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
        guard length >= 4, offset + length <= bytes.count else { return nil }
        if type == 1 { return String(decoding: bytes[offset + 4..<offset + length].prefix { $0 != 0 }, as: UTF8.self) }
        offset += (length + 3) & ~3
    }
    return nil
}
