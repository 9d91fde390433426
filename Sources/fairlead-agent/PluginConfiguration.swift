import CNIProtocol
import NetworkAddresses
import OverlayRoutes

/// What container runtimes are to know of the node's network: the list by which they call the CNI plugin.
struct PluginConfiguration: Hashable, Sendable {
    /// Of the CNI specification; a runtime refuses one that is newer than itself.
    var version: String
    var network: String
    var mode: OverlayMode
    /// Bytes; nil where the plugin finds out itself.
    var mtu: Int?
    var podCIDRs: [IPPrefix]
    /// The ranges of all pods of the cluster, beyond which a pod has the node's address; none where nobody told.
    var clusterCIDRs: [IPPrefix]
    var stateFolder: String
    var leaseFolder: String
    /// Whether pods are closed until the agent's policy admits them.
    var isClosed: Bool

    var text: String {
        var plugin: [(String, JSONValue)] = [
            ("type", .string(Self.plugin)), ("overlay", .string(mode.rawValue)),
            ("policyGate", .string(isClosed ? "closed" : "open")), ("stateDir", .string(stateFolder)),
            ("capabilities", ["portMappings": true, "bandwidth": true]),
        ]
        if let mtu { plugin.append(("mtu", .number(JSONNumber(mtu)))) }
        if !clusterCIDRs.isEmpty {
            plugin.append(("clusterCIDRs", .array(clusterCIDRs.map { .string($0.description) })))
        }
        let ranges = podCIDRs.map { JSONValue.array([["subnet": .string($0.description)]]) }
        plugin.append(
            ("ipam", ["type": "host-local", "dataDir": .string(leaseFolder), "ranges": .array(ranges)]))
        let list: JSONValue = [
            "cniVersion": .string(version), "name": .string(network),
            "plugins": .array([.object(JSONObject(plugin))]),
        ]
        return list.text + "\n"
    }

    /// The name by which runtimes start the plugin.
    static let plugin = "fairlead"
    /// Early, because Kubernetes' runtimes take the first in the order of the names.
    static let fileName = "10-fairlead.conflist"
}
