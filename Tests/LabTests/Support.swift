import Glibc
import KernelInterface
import KubernetesObjects
import Testing

@testable import Lab

/// Whether this process may make network namespaces, which the kernel allows to root only.
let mayMakeNamespaces = geteuid() == 0

extension Trait where Self == ConditionTrait {
    static var needsRoot: Self { .enabled(if: mayMakeNamespaces, "making network namespaces needs root") }
}

/// Runs `body` with a lab's name nobody else has, and removes all namespaces of that name afterwards.
func withLabName<Result>(_ body: (LabName) throws -> Result) throws -> Result {
    let name = try #require(LabName("test-\(PodID.random())"))
    defer {
        for namespace in (try? NetworkNamespace.names()) ?? [] where name.owns(namespace: namespace) {
            _ = try? NetworkNamespace.remove(named: namespace)
        }
    }
    return try body(name)
}

/// Runs `body` with the folder of a lab that lies in a directory of its own, gone afterwards.
func withLabFolder<Result>(_ body: (LabFolder) throws -> Result) throws -> Result {
    let directory = "fairlead-lab-tests-\(PodID.random())"
    defer { _ = try? StateDirectory.open("/tmp", create: false).removeSubdirectory(directory) }
    return try body(LabFolder(name: .default, root: "/tmp/\(directory)"))
}

extension ManifestInput {
    /// Manifests as they would stand in a file.
    init(_ text: String, source: String = "test.yaml") {
        self.init()
        add(Array(text.utf8), source: source)
    }
}

extension LabRecord {
    static let example = LabRecord(
        name: "lab", boot: "b", phase: .up,
        nodes: [
            Node(
                name: "node-1", namespace: "fairlead-lab-node-1", addresses: ["172.30.0.11", "fd00:172:30::11"],
                podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"])
        ], serviceCIDRs: ["10.96.0.0/16"])
}
