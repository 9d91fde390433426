import CLibMnl
import CLibNftnl
import Glibc
import NetlinkWire
public import Nftables

/// Who has changed which nftables tables of a network namespace.
public struct RulesetChanges: Hashable, Sendable {
    /// The numbers of the sockets that changed each table (`NftablesSocket.portNumber`).
    public var writers: [TableName: Set<UInt32>] = [:]
    /// More happened than the socket's buffer holds: any table may have changed.
    public var missedSome = false

    public init(writers: [TableName: Set<UInt32>] = [:], missedSome: Bool = false) {
        self.writers = writers
        self.missedSome = missedSome
    }

    public var isEmpty: Bool { writers.isEmpty && !missedSome }

    /// Whether somebody besides the socket of that number may have changed the table.
    public func touch(_ table: TableName, besides socket: UInt32) -> Bool {
        missedSome || writers[table]?.contains { $0 != socket } ?? false
    }
}

/// Tells when nftables tables change, by whose hand ever (`NFNLGRP_NFTABLES`).
///
/// For tables without an owner. One that is owned cannot change unseen, and its owner's own batches, which may be
/// megabytes, would only come back here.
public struct RulesetMonitor: ~Copyable, Sendable {
    /// `NFNLGRP_NFTABLES`, and below it `NFNL_SUBSYS_NFTABLES`, of linux/netfilter/nfnetlink.h.
    private static let group: Int32 = 7
    fileprivate static let subsystem: Int32 = 10

    private let socket: NetlinkSocket

    /// Opens a monitor in the calling thread's network namespace; it tells what happens from now on.
    public static func open() throws(KernelError) -> RulesetMonitor {
        let operation = "open ruleset monitor"
        let socket = try NetlinkSocket.open(NETLINK_NETFILTER, for: operation)
        try socket.join(Self.group, for: operation)
        return RulesetMonitor(socket: socket)
    }

    private init(socket: consuming NetlinkSocket) { self.socket = socket }

    /// The changes since the last call; empty where the timeout passes before any.
    ///
    /// - Parameter timeout: How long to wait for the first; nil for ever.
    public func next(timeout: Duration? = nil) throws(KernelError) -> RulesetChanges {
        var changes = RulesetChanges()
        let isWhole = try socket.notifications(timeout: timeout, for: "read nftables changes") { header, message in
            if let table = changedTable(header, message) { changes.writers[table, default: []].insert(header.port) }
        }
        changes.missedSome = !isWhole
        return changes
    }
}

/// The table a notification is about; nil for the end of a transaction and for other subsystems' words.
private func changedTable(_ header: MessageHeader, _ message: Span<UInt8>) -> TableName? {
    let type = Int32(header.type)
    guard type >> 8 == RulesetMonitor.subsystem, type & 0xff != Int32(NFT_MSG_NEWGEN.rawValue), message.count > 20,
        let family = TableFamily(rawValue: UInt32(message[16]))
    else { return nil }
    var name: String?
    // Behind struct nfgenmsg. In every kind of message the table's name is attribute 1.
    try? message.forEachAttribute(from: 20) { attribute, value in
        guard attribute == 1, name == nil else { return }
        var bytes: [UInt8] = []
        for index in value.indices where value[index] != 0 { bytes.append(value[index]) }
        name = String(decoding: bytes, as: UTF8.self)
    }
    return name.map { TableName(family, $0) }
}
