import CNIProtocol
import KernelInterface
import Nftables

/// What the reference plugins keep in iptables for a pod that they have attached: `CNI-DN-…` for its host ports and
/// `CNI-…` for its masquerading, each a chain of the table `nat`.
///
/// On a node that has switched, DEL of such a pod is ours, and a host port that went on leading to a dead address would
/// hide the next pod's. The chains are emptied, which makes them mean nothing; the rules that jump to them carry
/// matches of iptables, and stay until the next boot. Chains of the older `iptables-legacy` are out of reach.
enum ReferenceChains {
    /// Empties the chains of a pod's host ports.
    static func emptyHostPorts(of request: AttachmentRequest, in filter: PacketFilter) {
        empty("CNI-DN-", of: request, in: filter)
    }

    /// Empties the chains of a pod's masquerading.
    static func emptyMasquerading(of request: AttachmentRequest, in filter: PacketFilter) {
        empty("CNI-", of: request, in: filter)
    }

    /// Mostly there is no such chain, and nothing of the kind may keep a DEL from succeeding.
    private static func empty(_ prefix: String, of request: AttachmentRequest, in filter: PacketFilter) {
        let chain = name(prefix, network: request.configuration.name, containerID: request.attachment.containerID)
        try? filter.use { socket throws(KernelError) in
            for table in [TableName(.ip, "nat"), TableName(.ip6, "nat")] {
                // A batch that the kernel has to take back costs more than all the rest of a DEL.
                guard try socket.hasChain(chain, in: table) else { continue }
                try? socket.apply([.replaceRules([], chain: chain)], to: table)
            }
        }
    }

    /// The name of a pod's chain: the prefix, and as many digits as there is room for in iptables' 28 bytes.
    static func name(_ prefix: String, network: String, containerID: String) -> String {
        let digits = SHA512.hash(of: Array((network + containerID).utf8)).map { byte in
            let text = String(byte, radix: 16)
            return text.utf8.count == 1 ? "0" + text : text
        }
        return String((prefix + digits.joined()).prefix(28))
    }
}
