import CLibMnl
public import NetlinkWire
public import NetworkAddresses

/// The sockets that wait for packets in the calling thread's network namespace.
public enum ListeningSockets {
    /// Lists the sockets of a transport protocol, of one family or of both.
    ///
    /// Equivalent to `ss -ln`. The corresponding message is a dump of `SOCK_DIAG_BY_FAMILY`.
    public static func list(
        _ transport: TransportProtocol, family: AddressFamily? = nil
    ) throws(KernelError) -> [ListeningSocket] {
        let operation = "list \(transport) sockets"
        let socket = try NetlinkSocket.open(NETLINK_SOCK_DIAG, for: operation)
        var sockets: [ListeningSocket] = []
        for family in family.map({ [$0] }) ?? AddressFamily.allCases {
            let request = ListeningSocket.request(transport, family)
            sockets += try socket.dump(request, for: operation) { _, message throws(DecodeError) in
                try ListeningSocket(transport, message: message)
            }
        }
        return sockets
    }
}
