import KubernetesObjects
import Logging
import ServiceLifecycle
import ServiceRules

/// Says so when this node's object, or what is needed of it, keeps away.
///
/// Nothing waits for it: services work as far as they can without, and all that depends on it follows once it is there.
struct NodeArrival: ServiceLifecycle.Service {
    let name: String
    let state: DutyState
    let settings: ServiceSettings
    let logger: Logger

    /// kube-proxy waits as long for the node's address before it goes on without.
    private static let patience = Duration.seconds(30)

    func run() async throws {
        await cancelWhenGracefulShutdown {
            if (try? await Task.sleep(for: Self.patience)) == nil { return }
            if let lack { logger.warning("\(lack)", metadata: ["node": "\(name)"]) }
        }
        // A service that returns ends the agent.
        try? await gracefulShutdown()
    }

    private var lack: String? {
        guard let node = state.node else {
            return "There is no Node object of this name: node ports have no address, load balancers are sent away; "
                + "--node-name must be the name that the kubelet registered"
        }
        if node.internalIPs.isEmpty, settings.nodePortAddresses == .primary, settings.primaryAddress == nil {
            return "The Node object has no InternalIP yet: node ports have no address until it has"
        }
        if node.podCIDRs.isEmpty, settings.localTraffic == .nodeCIDR {
            return "The Node object has no podCIDRs yet: until it has, connections to cluster IPs are not masqueraded"
        }
        return nil
    }
}
