import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import PacketPath
import SystemPackage

/// A lab as a trace looks at it: namespaces by their names, objects from the folder that the agents watch.
final class LabPathCluster: PathCluster {
    let nodes: [String]
    let pods: [RunningPod]
    let objects: ClusterSnapshot
    private let state: LabState
    private var views: [Place: KernelNamespaceView] = [:]

    init(_ state: LabState) throws {
        self.state = state
        nodes = state.nodes.map(\.name)
        pods = state.pods.map { RunningPod($0.key, on: $0.node, $0.addresses, isHostNetwork: $0.isHostNetwork) }
        objects = try state.snapshot()
    }

    func view(of place: Place) throws -> any NamespaceView {
        if let view = views[place] { return view }
        let name =
            switch place {
            case .node(let node): state.node(named: node)?.namespaceName
            case .pod(let key, _): state.pod(key)?.namespaceName
            }
        guard let name else { throw TraceError("\(place) is not part of lab \(state.name)") }
        guard let namespace = try NetworkNamespace.open(named: name) else {
            throw TraceError("its network namespace \(name) is gone")
        }
        let view = try KernelNamespaceView.open(namespace)
        views[place] = view
        return view
    }
}
