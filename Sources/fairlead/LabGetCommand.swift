import ArgumentParser
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses

struct LabGetCommand: AsyncParsableCommand {
    enum Subject: String, ExpressibleByArgument, CaseIterable {
        case pods, services, nodes, policies, endpoints, all

        init?(argument: String) {
            switch argument.lowercased() {
            case "pod", "pods", "po": self = .pods
            case "service", "services", "svc": self = .services
            case "node", "nodes", "no": self = .nodes
            case "policy", "policies", "networkpolicy", "networkpolicies", "netpol": self = .policies
            case "endpoint", "endpoints", "endpointslice", "endpointslices", "ep": self = .endpoints
            case "all": self = .all
            default: return nil
            }
        }
    }

    enum Output: String, ExpressibleByArgument, CaseIterable {
        case table, wide
    }

    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Lists what there is in a lab.",
        discussion: """
              fairlead lab get pods -A -o wide
              fairlead lab get endpoints -n shop
            """)

    @OptionGroup var lab: LabOptions

    @Argument(help: "What to list: pods, services, nodes, policies, endpoints or all.")
    var subject = Subject.pods

    @OptionGroup var namespace: NamespaceOptions

    @Flag(name: [.customShort("A"), .long], help: "In all namespaces.")
    var allNamespaces = false

    @Option(name: [.short, .long], help: "How much to show of each: table or wide.")
    var output = Output.table

    func run() async throws {
        let state = try LabState.open(lab.name)
        let list = ObjectList(
            snapshot: try state.snapshot(), state: state, namespace: allNamespaces ? nil : namespace.namespace,
            isWide: output == .wide)
        let subjects: [Subject] = subject == .all ? [.nodes, .pods, .services, .endpoints, .policies] : [subject]
        for (index, subject) in subjects.enumerated() {
            let table = list.table(of: subject)
            if subjects.count > 1 {
                guard !table.isEmpty else { continue }
                try StandardStreams.writeOutput("\(index > 0 ? "\n" : "")\(subject.rawValue)\n")
            } else if table.isEmpty {
                let place = allNamespaces || subject == .nodes ? "" : " in namespace \(namespace.namespace)"
                try StandardStreams.writeError("There are no \(subject.rawValue)\(place).\n")
                return
            }
            try table.print()
        }
    }
}

/// The objects of a lab as tables.
private struct ObjectList {
    let snapshot: ClusterSnapshot
    let state: LabState
    /// Nil for all.
    let namespace: String?
    let isWide: Bool

    func table(of subject: LabGetCommand.Subject) -> TextTable {
        switch subject {
        case .pods: pods
        case .services: services
        case .nodes: nodes
        case .policies: policies
        case .endpoints: endpoints
        case .all: TextTable([])
        }
    }

    private func table(_ columns: [String], wide: [String] = []) -> TextTable {
        TextTable((namespace == nil ? ["NAMESPACE"] : []) + columns + (isWide ? wide : []))
    }

    /// The cells before an object's own.
    private func row(_ key: NamespacedName, _ cells: [String], wide: [String] = []) -> [String] {
        (namespace == nil ? [key.namespace] : []) + [key.name] + cells + (isWide ? wide : [])
    }

    private func isShown(_ key: NamespacedName) -> Bool { namespace.map { $0 == key.namespace } ?? true }

    private var pods: TextTable {
        var table = table(["NAME", "STATUS", "NODE", "ADDRESSES"], wide: ["PORTS", "NETWORK NAMESPACE", "OWNER"])
        for (key, pod) in snapshot.pods.sorted(by: { $0.key < $1.key }) where isShown(key) {
            let ports = pod.spec.containers.flatMap(\.ports).map { "\($0.number)/\($0.protocol)" }
            table.add(
                row(
                    key,
                    [
                        pod.phase == .running ? "Running" : "Pending", pod.spec.nodeName ?? "",
                        pod.addresses.map(\.description).joined(separator: ","),
                    ],
                    wide: [
                        ports.joined(separator: ","), state.pod(key)?.namespaceName ?? "",
                        pod.metadata.owner.map { "\($0.kind)/\($0.name)" } ?? "",
                    ]))
        }
        return table
    }

    private var services: TextTable {
        var table = table(["NAME", "TYPE", "CLUSTER-IPS", "PORTS"], wide: ["SELECTOR"])
        for (key, service) in snapshot.services.sorted(by: { $0.key < $1.key }) where isShown(key) {
            let ports = service.ports.map { port in
                "\(port.number)\(port.nodePort.map { ":\($0)" } ?? "")/\(port.protocol)"
            }
            table.add(
                row(
                    key,
                    [
                        service.type.text,
                        service.isHeadless ? "None" : service.clusterIPs.map(\.description).joined(separator: ","),
                        ports.joined(separator: ","),
                    ],
                    wide: [
                        service.selector.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(
                            separator: ",")
                    ]))
        }
        return table
    }

    private var nodes: TextTable {
        var table = TextTable(["NAME", "ADDRESSES", "POD NETWORKS"] + (isWide ? ["NETWORK NAMESPACE", "STATE"] : []))
        for node in state.nodes {
            table.add(
                [
                    node.name, node.addresses.map(\.description).joined(separator: ","),
                    node.podCIDRs.map(\.description).joined(separator: ","),
                ] + (isWide ? [node.namespaceName, node.stateDirectory] : []))
        }
        return table
    }

    private var policies: TextTable {
        var table = table(["NAME", "PODS", "ISOLATES"])
        for (key, policy) in snapshot.networkPolicies.sorted(by: { $0.key < $1.key }) where isShown(key) {
            let directions = NetworkPolicy.Direction.allCases.filter(policy.directions.contains)
            table.add(
                row(
                    key,
                    [
                        "\(policy.podSelector)",
                        directions.map { $0 == .ingress ? "ingress" : "egress" }.joined(separator: ","),
                    ]))
        }
        return table
    }

    private var endpoints: TextTable {
        var table = table(["SERVICE", "FAMILY", "PORTS", "ENDPOINTS"])
        for slice in snapshot.endpointSlices.values.sorted(by: { $0.key < $1.key }) {
            guard let service = slice.service, isShown(service) else { continue }
            let shown = isWide ? slice.endpoints[...] : slice.endpoints.prefix(3)
            let more = slice.endpoints.count - shown.count
            table.add(
                row(
                    service,
                    [
                        "\(slice.family)", slice.ports.map { "\($0.number)/\($0.protocol)" }.joined(separator: ","),
                        shown.map { "\($0.address)\($0.isReady ? "" : " (not ready)")" }.joined(separator: ",")
                            + (more > 0 ? " + \(more) more" : ""),
                    ]))
        }
        return table
    }
}

extension Service.Kind {
    fileprivate var text: String {
        switch self {
        case .clusterIP: "ClusterIP"
        case .nodePort: "NodePort"
        case .loadBalancer: "LoadBalancer"
        case .externalName: "ExternalName"
        }
    }
}
