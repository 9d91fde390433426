import CLibMnl
public import NetlinkWire
public import NetworkAddresses
import SystemPackage

/// The connections one network namespace tracks (ctnetlink).
public struct ConntrackSocket: ~Copyable, Sendable {
    private let socket: NetlinkSocket

    /// Opens a socket in the calling thread's network namespace.
    public static func open() throws(KernelError) -> ConntrackSocket {
        ConntrackSocket(socket: try NetlinkSocket.open(NETLINK_NETFILTER, for: "open connection tracking socket"))
    }

    private init(socket: consuming NetlinkSocket) { self.socket = socket }

    /// All tracked connections, of one family or of both. Equivalent to `conntrack -L -f FAMILY`.
    ///
    /// The kernel walks its whole table for it, which takes some ten milliseconds however few connections there are; one
    /// walk serves both families.
    public func entries(_ family: AddressFamily? = nil) throws(KernelError) -> [ConntrackEntry] {
        let request = ConntrackEntry.listRequest(family)
        return try socket.dump(request, for: "list tracked \(family.map { "\($0) " } ?? "")connections") {
            header, message throws(DecodeError) in
            try ConntrackEntry(header: header, message: message)
        }
    }

    /// Forgets a connection; false where none with this original direction is tracked. Equivalent to `conntrack -D`.
    ///
    /// The next packet of the flow is then judged afresh, as the first of a new connection.
    @discardableResult
    public func delete(original: ConntrackTuple) throws(KernelError) -> Bool {
        try exchange(
            ConntrackEntry.deleteRequest(original: original), for: "delete tracked connection \(original)")
    }

    /// Forgets all connections that meet one of the filters. Equivalent to `conntrack -D` with addresses and ports.
    ///
    /// The kernel looks for them, a millisecond for each filter.
    public func delete(_ filters: [ConntrackFilter]) throws(KernelError) {
        do {
            for filter in filters {
                try socket.exchange(
                    ConntrackEntry.deleteRequest(filter), for: "delete tracked connections \(filter)")
            }
        } catch where error.errno == .invalidArgument {
            // A kernel before 6.8.
            try deleteOneByOne(filters)
        }
    }

    package func deleteOneByOne(_ filters: [ConntrackFilter]) throws(KernelError) {
        for entry in try entries() where filters.contains(where: { $0.matches(entry) }) {
            try delete(original: entry.original)
        }
    }

    /// Clears bits of a connection's mark; false where it is not tracked any more. Equivalent to `conntrack -U -m 0/MASK`.
    @discardableResult
    public func clearMark(_ mask: UInt32, original: ConntrackTuple) throws(KernelError) -> Bool {
        try exchange(
            ConntrackEntry.clearMarkRequest(mask, original: original),
            for: "clear mark of tracked connection \(original)")
    }

    /// False where the connection has ended by itself.
    private func exchange(_ request: [UInt8], for purpose: String) throws(KernelError) -> Bool {
        do {
            try socket.exchange(request, for: purpose)
            return true
        } catch where error.errno == .noSuchFileOrDirectory {
            return false
        }
    }
}
