import KubernetesClient
import KubernetesObjects
import Reconciliation
import ServiceLifecycle

/// Follows a Kubernetes API server.
struct KubernetesSource: ServiceLifecycle.Service {
    private let watcher: KubernetesWatcher

    init(_ access: ClusterAccess, components: Set<Component>, counts: RequestCounts, mailbox: Mailbox) {
        watcher = KubernetesWatcher(access, resources: Self.resources(for: components), counts: counts) { update in
            mailbox.post(.objects(update.events, notes: update.notes, revision: ""))
        }
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { [watcher] in await watcher.run() }
    }

    /// What the components need to know and no more: a proxy beside another network has no right to read pods.
    static func resources(for components: Set<Component>) -> [WatchedResource] {
        var resources: Set<WatchedResource> = [.nodes]
        if components.contains(.services) { resources.formUnion([.services, .endpointSlices, .serviceCIDRs]) }
        if components.contains(.policy) { resources.formUnion([.pods, .namespaces, .networkPolicies]) }
        return WatchedResource.all.filter(resources.contains)
    }
}
