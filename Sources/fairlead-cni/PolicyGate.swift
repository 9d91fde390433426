import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import Nftables
import PodAttachment

/// Waits for the node agent to admit a pod to its policy.
enum PolicyGate {
    static let table = TableName(.inet, "fairlead-policy")

    static func set(of family: AddressFamily) -> String { family == .ipv4 ? "local-pods4" : "local-pods6" }

    /// Returns once each address is in the agent's set of local pods, or where there is no policy to wait for.
    static func pass(_ addresses: [IPAddress], atMost limit: Duration) throws(CNIError) {
        let deadline = ContinuousClock.now + limit
        let missing = try kernel { () throws(KernelError) -> [IPAddress] in
            let socket = try NftablesSocket.open()
            guard try socket.tables().contains(table) else { return [] }
            var missing = addresses
            while true {
                var left: [IPAddress] = []
                for address in missing
                where try !socket.contains(ElementKey(.address(address)), set: set(of: address.family), table: table) {
                    left.append(address)
                }
                missing = left
                if missing.isEmpty || ContinuousClock.now >= deadline { return missing }
                // The agent takes a millisecond or two from the record's appearance to the element.
                usleep(500)
            }
        }
        guard !missing.isEmpty else { return }
        let addresses = missing.map(\.description).joined(separator: ", ")
        throw CNIError(
            .tryAgainLater, "the node agent has not admitted \(addresses) to its policy in time",
            details: "policyGateTimeout is \(limit)")
    }
}
