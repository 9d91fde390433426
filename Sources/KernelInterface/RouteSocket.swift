import CLibNl
import NetlinkWire
import NetworkAddresses
import RouteNetlink
import SystemPackage

/// The links, addresses, routes and neighbours of one network namespace (rtnetlink).
///
/// It belongs to the namespace in which it was opened, whichever thread uses it later. libnl-route writes and reads the
/// messages it models; the few it does not are written here attribute by attribute.
public struct RouteSocket: ~Copyable, Sendable {
    let socket: NetlinkSocket

    /// Opens a socket in the calling thread's network namespace.
    public static func open() throws(KernelError) -> RouteSocket {
        RouteSocket(socket: try NetlinkSocket.open(NETLINK_ROUTE, for: "open route socket"))
    }

    private init(socket: consuming NetlinkSocket) { self.socket = socket }

    /// A link's name for a message that is about to be shown; its number where it has none any more.
    func name(of link: Int32) -> String {
        ((try? self.link(index: link)) ?? nil)?.name.description ?? "link \(link)"
    }

    /// Sends a request to remove something; false where there was nothing to remove.
    func removing(
        _ request: [UInt8], absence: [Errno], for operation: @autoclosure () -> String
    ) throws(KernelError) -> Bool {
        do {
            // Without words, which may cost requests of their own: that there was nothing is no failure.
            try socket.exchange(request, for: "")
            return true
        } catch where absence.contains(error.errno) || error.errno == .noSuchDevice {
            return false
        } catch {
            throw KernelError(operation: operation(), errno: error.errno, kernelMessage: error.kernelMessage)
        }
    }
}
