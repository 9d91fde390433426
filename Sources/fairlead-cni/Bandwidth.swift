import CNIProtocol
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink

/// The limits of a pod's traffic, in the kernel: on the host's end of its veth, and on a device of its own for what the
/// pod sends.
enum Bandwidth: NodeState {
    /// - Returns: the device of its own, where there is a limit that needs one.
    @discardableResult
    static func limit(
        _ configuration: BandwidthConfiguration, on interface: InterfaceName, _ attachment: AttachmentID,
        for tag: AttachmentTag
    ) throws(CNIError) -> Link? {
        let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
        // What an earlier ADD left: the reference plugin fails there.
        _ = try removeLink(attachment.intermediateBlock, from: host)
        do throws(CNIError) {
            return try kernel { () throws(KernelError) -> Link? in
                let link = try require(interface, on: host)
                if let ingress = configuration.ingress { try host.replace(ingress, on: link.index) }
                guard let egress = configuration.egress else { return nil }
                try host.addIntermediateBlock(NewLink(attachment.intermediateBlock, mtu: link.mtu, isUp: true))
                let block = try require(attachment.intermediateBlock, on: host)
                try host.change(link: block.index, LinkChange(alias: tag.description))
                try host.replace(egress, on: block.index)
                try host.redirectIngress(of: link.index, to: block.index)
                return block
            }
        } catch {
            lift(from: interface, attachment, host)
            throw error
        }
    }

    /// Takes back what `limit` did; the error that led here is the one to report.
    private static func lift(
        from interface: InterfaceName, _ attachment: AttachmentID, _ host: borrowing RouteSocket
    ) {
        _ = try? removeLink(attachment.intermediateBlock, from: host)
        try? kernel { () throws(KernelError) in
            guard let link = try host.link(named: interface) else { return }
            try host.removeIngress(of: link.index)
            try host.removeRootDiscipline(of: link.index)
        }
    }

    /// Removes what does not go with the pod's veth.
    static func remove(_ request: AttachmentRequest, in filter: PacketFilter = PacketFilter()) throws(CNIError) {
        let host = try kernel { () throws(KernelError) in try RouteSocket.open() }
        _ = try removeLink(request.attachment.intermediateBlock, from: host)
    }

    static func collectGarbage(
        of network: String, except valid: Set<AttachmentID>, in filter: PacketFilter = PacketFilter()
    ) throws(CNIError) {
        try collectInterfaces(of: network, kind: .other("ifb"), except: valid)
    }

    static func check(
        _ configuration: BandwidthConfiguration, on interface: InterfaceName, _ attachment: AttachmentID
    ) throws(CNIError) {
        guard !configuration.isEmpty else { return }
        let found = try kernel { () throws(KernelError) -> (TokenBucket?, TokenBucket?, Bool) in
            let host = try RouteSocket.open()
            let link = try require(interface, on: host)
            let ingress = try host.tokenBucket(of: link.index)
            guard let block = try host.link(named: attachment.intermediateBlock) else { return (ingress, nil, false) }
            let target = try host.ingressRedirection(of: link.index)
            return (ingress, try host.tokenBucket(of: block.index), target == block.index && block.isUp)
        }
        if let ingress = configuration.ingress {
            try check(found.0, against: ingress, of: interface)
        }
        if let egress = configuration.egress {
            try check(found.1, against: egress, of: attachment.intermediateBlock)
            guard found.2 else {
                throw CNIError(
                    .internal, "what \(interface) takes in is not redirected to \(attachment.intermediateBlock)")
            }
        }
    }

    private static func check(
        _ found: TokenBucket?, against expected: TokenBucket, of interface: InterfaceName
    ) throws(CNIError) {
        guard let found else { throw CNIError(.internal, "Failed to find qdisc tbf on \(interface)") }
        // The kernel keeps the bucket's size as a time, which loses some bytes of it.
        let isBurst = found.burst.distance(to: expected.burst).magnitude <= expected.burst / 100 + 8
        guard found.rate == expected.rate, found.limit == expected.limit, isBurst else {
            throw CNIError(.internal, "Rate doesn't match on \(interface)", details: "\(found) is not \(expected)")
        }
    }

    private static func require(
        _ name: InterfaceName, on host: borrowing RouteSocket
    ) throws(KernelError) -> Link {
        guard let link = try host.link(named: name) else {
            throw KernelError(operation: "look up link \(name)", errno: .noSuchDevice)
        }
        return link
    }
}
