import KernelInterface

/// The packet filter of the calling thread's namespace, by one socket from the first use on.
///
/// A class, so that all that removes something in one DEL shares it: closing a socket waits, some 10 ms, until the kernel
/// has tidied up behind every batch that removed something. Kept to the end, that goes on while the interfaces go.
final class PacketFilter {
    private var socket: NftablesSocket?

    /// Runs `body` with the socket.
    func use<Result>(
        _ body: (borrowing NftablesSocket) throws(KernelError) -> Result
    ) throws(KernelError) -> Result {
        if socket == nil { socket = try NftablesSocket.open() }
        switch socket {
        case .some(let socket): return try body(socket)
        case .none: preconditionFailure("it was opened above")
        }
    }
}
