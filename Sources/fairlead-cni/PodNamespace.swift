import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import SystemPackage

/// A pod's network namespace, open, with a socket in it.
struct PodNamespace: ~Copyable {
    let namespace: NetworkNamespace
    let socket: RouteSocket

    /// Opens the namespace of a request that needs one.
    static func open(_ path: String) throws(CNIError) -> PodNamespace {
        do throws(KernelError) {
            let namespace = try NetworkNamespace.open(path)
            let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
            return PodNamespace(namespace: namespace, socket: socket)
        } catch {
            throw CNIError(.invalidNamespace, "failed to open netns \"\(path)\": \(error.errno)")
        }
    }

    /// Opens the namespace for a DEL; nil where the path is empty, gone, or no namespace any more.
    static func openIfPresent(_ path: String) throws(CNIError) -> PodNamespace? {
        guard !path.isEmpty else { return nil }
        do throws(KernelError) {
            let namespace = try NetworkNamespace.open(path)
            let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
            return PodNamespace(namespace: namespace, socket: socket)
        } catch {
            // A name in /run/netns outlives its namespace over a reboot as an empty file.
            let gone: [Errno] = [.noSuchFileOrDirectory, .notDirectory, .invalidArgument, .noSuchProcess]
            if gone.contains(error.errno) { return nil }
            throw CNIError(error)
        }
    }
}

/// Removes the interfaces of an attachment, whatever is left of them.
///
/// The host's end first, by the name that the request alone gives: with it goes the pod's end, also in a namespace
/// whose path is gone. Where there is none the pod may hold an interface that another program's plugin made; one that
/// ours made for another container belongs to that container, which was given the same namespace since.
func removeInterfaces(of request: AttachmentRequest, hostInterface: InterfaceName) throws(CNIError) {
    let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
    if try removeLink(hostInterface, from: host) { return }
    guard let pod = try PodNamespace.openIfPresent(request.namespacePath) else { return }
    let name = request.attachment.interface
    let isOthers = try kernel { () throws(KernelError) -> Bool in
        guard let link = try pod.socket.link(named: name), let index = link.peerIndex,
            let peer = try host.link(index: index)
        else { return false }
        return peer.peerIndex == link.index && AttachmentID.isHostInterface(peer.name)
    }
    if isOthers { return }
    _ = try removeLink(name, from: pod.socket)
}

/// Removes a link; false where there is none.
func removeLink(_ name: InterfaceName, from socket: borrowing RouteSocket) throws(CNIError) -> Bool {
    do throws(KernelError) {
        guard let link = try socket.link(named: name) else { return false }
        try socket.deleteLink(index: link.index)
        return true
    } catch where error.errno == .noSuchDevice {
        // Gone between the two requests: its namespace ended.
        return true
    } catch {
        throw CNIError(error)
    }
}

/// Removes the host's interfaces of the network's attachments that are not in `valid`, by what they are labelled with.
func collectInterfaces(
    of network: String, kind: Link.Kind = .veth, except valid: Set<AttachmentID>
) throws(CNIError) {
    let isGarbage = AttachmentTag.garbage(of: network, except: valid)
    let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
    let links = try kernel { () throws(KernelError) in try host.links() }
    var cleanup = Cleanup()
    for link in links where link.kind == kind && isGarbage(link.alias) {
        cleanup.run { () throws(CNIError) in _ = try removeLink(link.name, from: host) }
    }
    try cleanup.finish()
}
