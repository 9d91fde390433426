import ArgumentParser
import KubernetesObjects
import Lab

struct NamespaceOptions: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("The namespace.", valueName: "namespace"))
    var namespace = "default"
}

/// An object as a person names it: `pod/web-0`, `deploy/web`, or `web-0`, which is a pod.
struct ObjectArgument {
    var kind: ObjectKind
    var name: String

    /// The names kubectl knows the kinds by, besides the kind's own.
    private static let shortNames: [String: ObjectKind] = [
        "po": .pod, "svc": .service, "no": .node, "ns": .namespace, "deploy": .deployment, "sts": .statefulSet,
        "ds": .daemonSet, "rs": .replicaSet, "netpol": .networkPolicy, "policy": .networkPolicy,
        "endpointslice": .endpointSlice,
    ]

    init(_ text: String) throws {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (1...2).contains(parts.count), let name = parts.last, !name.isEmpty else {
            throw ValidationError("\"\(text)\" names no object: write KIND/NAME, such as pod/web-0")
        }
        self.name = name
        kind = parts.count == 1 ? .pod : try Self.kind(parts[0])
    }

    /// The kind a word stands for: its name in any case, its plural, its short name.
    static func kind(_ word: String) throws -> ObjectKind {
        let word = word.lowercased()
        let known = ObjectKind.known.map { ($0.description.lowercased(), $0) } + shortNames.map { ($0.key, $0.value) }
        let match = known.first { name, _ in
            let plural = name.hasSuffix("y") ? "\(name.dropLast())ies" : "\(name)s"
            return word == name || word == plural
        }
        guard let match else {
            let names = ObjectKind.known.map(\.description).joined(separator: ", ")
            throw ValidationError("\"\(word)\" is no kind of object a lab knows: \(names)")
        }
        return match.1
    }

    func reference(in namespace: String) -> ObjectReference {
        ObjectReference(kind: kind, namespace: kind.isClusterScoped ? nil : namespace, name: name)
    }

    /// The pod meant: a pod by its name, or the first one of a workload.
    func pod(in lab: LabState, namespace: String) throws -> LabPod {
        if kind == .pod {
            if let pod = lab.pod(NamespacedName(namespace: namespace, name: name)) { return pod }
            let elsewhere = lab.pods.filter { $0.key.name == name }.map(\.key.namespace)
            let hint = elsewhere.first.map { "There is one in namespace \($0): add '-n \($0)'." }
            throw LabError(
                "there is no pod \(namespace)/\(name) in lab \(lab.name)",
                advice: hint ?? "'fairlead lab get pods -A\(lab.flag)' lists the pods.")
        }
        let owner = reference(in: namespace)
        let snapshot = try lab.snapshot()
        let pods = lab.pods.filter { snapshot.pods[$0.key]?.metadata.owner == owner }
        guard let first = pods.first else {
            throw LabError(
                "\(owner) has no pod in lab \(lab.name)",
                advice: "'fairlead lab get pods -A\(lab.flag)' lists the pods.")
        }
        return first
    }
}
