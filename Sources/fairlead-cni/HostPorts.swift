import CNIProtocol
import KernelInterface
import NetlinkWire
import NetworkAddresses
import Nftables
import PodAttachment
import RouteNetlink

/// The ports of the node that lead to pods, in the kernel.
enum HostPorts: NodeState {
    /// Maps an attachment's ports, or fails and maps none.
    ///
    /// - Parameters:
    ///   - addresses: the pod's: one of each family at most.
    ///   - isDead: whether the attachment that an element's comment names is provably gone, so that its ports are free.
    static func map(
        _ configuration: HostPortConfiguration, to addresses: [IPPrefix], for tag: AttachmentTag,
        isDead: (String) -> Bool = { _ in false }
    ) throws(CNIError) {
        let part = HostPortTable.contribution(of: configuration, to: addresses, for: tag)
        let table = AttachmentTable(HostPortTable.frame)
        try table.change { () throws(CNIError) in
            // The whole of it, because the address may be another's in any mapping; a node has some hundreds at most.
            let observed = try table.observe()
            var dead = HostPortTable.formerHolders(of: addresses, in: observed, besides: tag)
            if part.members.isEmpty && dead.isEmpty { return [] }
            while true {
                do throws(ClaimedElement) {
                    return try table.frame.adding(part, of: tag, replacing: dead, to: observed)
                } catch {
                    guard let holder = error.holder.comment, !dead.contains(holder), isDead(holder) else {
                        throw CNIError(error)
                    }
                    dead.insert(holder)
                }
            }
        }
        guard !part.members.isEmpty else { return }
        forgetDatagramFlows(of: part.members.compactMap { HostPort($0.element) })
        if configuration.masquerades { allowLoopbackSources(to: addresses) }
    }

    /// Maps the ports again that attachments have lost; those that others have by now stay theirs.
    static func restore(_ attachments: () throws(CNIError) -> [RecordedParts]) throws(CNIError) {
        let loss = try AttachmentTable(HostPortTable.frame).restore(attachments)
        forgetDatagramFlows(of: loss.parts.flatMap(\.members).compactMap { HostPort($0.element) })
        if let claim = loss.claims.first { throw CNIError(claim) }
    }

    /// Removes an attachment's ports, whatever they were.
    static func remove(_ request: AttachmentRequest, in filter: PacketFilter) throws(CNIError) {
        try remove(where: request.tag.isSameAttachment, in: filter)
        ReferenceChains.emptyHostPorts(of: request, in: filter)
    }

    static func collectGarbage(
        of network: String, except valid: Set<AttachmentID>, in filter: PacketFilter
    ) throws(CNIError) {
        try remove(where: AttachmentTag.garbage(of: network, except: valid), in: filter)
    }

    private static func remove(where isGone: (String?) -> Bool, in filter: PacketFilter) throws(CNIError) {
        guard let before = try AttachmentTable(HostPortTable.frame, in: filter).remove(where: isGone) else { return }
        let gone = before.sets.values.flatMap(\.elements.values).filter { isGone($0.comment) }
        forgetDatagramFlows(of: gone.compactMap(HostPort.init))
    }

    static func check(
        _ configuration: HostPortConfiguration, to addresses: [IPPrefix], for tag: AttachmentTag
    ) throws(CNIError) {
        let part = HostPortTable.contribution(of: configuration, to: addresses, for: tag)
        guard !part.members.isEmpty else { return }
        try AttachmentTable(HostPortTable.frame).check(part, of: tag)
    }

    /// Forgets UDP conversations with ports that lead elsewhere now.
    ///
    /// The connection table knows no end of one: a client that keeps its port would talk to the pod before, or to the
    /// node itself, for as long as it talks.
    private static func forgetDatagramFlows(of ports: [HostPort]) {
        forgetFlows(
            ports.filter { $0.transport == .udp }.map { port in
                ConntrackFilter(port.pod.family, to: .init(.udp, port.port), at: port.address)
            })
    }

    /// Lets the node's own programs reach the pod by way of 127.0.0.1.
    ///
    /// The table keeps everybody else from it. Where `/proc/sys` is read-only, 127.0.0.1 alone does not lead there.
    private static func allowLoopbackSources(to addresses: [IPPrefix]) {
        for pod in addresses where pod.family == .ipv4 {
            try? kernel { () throws(KernelError) in
                let host = try RouteSocket.open()
                guard let link = try host.link(index: try host.decide(to: pod.address).link) else { return }
                let path = ["net", "ipv4", "conf", link.name.description, "route_localnet"]
                if try KernelSetting.read(path) != "1" { try KernelSetting.write(path, "1") }
            }
        }
    }
}

/// A port of the node as the table has it.
private struct HostPort {
    var transport: TransportProtocol
    var port: Port
    /// Nil for all of the node's addresses.
    var address: IPAddress?
    var pod: IPAddress

    /// Nil for an element that maps no port.
    init?(_ element: Element) {
        guard case .data(let target)? = element.value, let pod = IPAddress(bytes: target.bytes.dropLast(4)) else {
            return nil
        }
        self.pod = pod
        let key = element.key.bytes
        // The last two words are the protocol and the port; an address of the node may stand before them.
        guard key.count >= 8, let transport = TransportProtocol(rawValue: key[key.count - 8]),
            let port = Port(Int(key[key.count - 4]) << 8 | Int(key[key.count - 3]))
        else { return nil }
        self.transport = transport
        self.port = port
        address = IPAddress(bytes: key.dropLast(8))
    }
}

extension CNIError {
    init(_ claim: ClaimedElement) {
        let port = HostPort(claim.element)
        let words = port.map { port in
            "host port " + (port.address.map { "\($0.bracketed):" } ?? "") + "\(port.port)/\(port.transport)"
        }
        let holder = HostPort(claim.holder)
        self.init(
            .portTaken,
            "\(words ?? claim.set) is already mapped to \(AttachmentTag.holder(in: claim.holder.comment))",
            details: holder.map { "it leads to \($0.pod)" } ?? "")
    }
}

extension AttachmentResult {
    /// The first address of each family that the pod's interface has, as a chained plugin finds them.
    func firstAddresses(of interface: InterfaceName) -> [IPPrefix] {
        AddressFamily.allCases.compactMap { family in
            addresses.first { address in
                guard address.prefix.family == family else { return false }
                guard let index = address.interface else { return true }
                guard interfaces.indices.contains(index) else { return false }
                return !interfaces[index].sandbox.isEmpty && interfaces[index].name == interface.description
            }?.prefix
        }
    }
}
