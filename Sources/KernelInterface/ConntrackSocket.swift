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
        do {
            try socket.exchange(
                ConntrackEntry.deleteRequest(original: original), for: "delete tracked connection \(original)")
            return true
        } catch where error.errno == .noSuchFileOrDirectory {
            return false
        }
    }
}
