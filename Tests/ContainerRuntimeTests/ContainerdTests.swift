import Foundation
import KernelInterface
import Testing

/// The plugins called by a runtime that nobody here wrote: Debian's containerd and runc, on a node of a lab.
@Suite(.enabled(if: getuid() == 0, "namespaces and containers need root")) struct ContainerdTests {
    /// The folder of the binaries built together with this test.
    let binaries: String = {
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        return URL(filePath: bundle).deletingLastPathComponent().path
    }()
    let lab = "ctr-\(getpid())"

    func fairlead(_ arguments: String...) throws -> String {
        let result = try ChildProcess.capture("\(binaries)/fairlead", arguments, timeout: .seconds(60))
        try #require(result.status.isSuccess, "fairlead \(arguments): \(result.text)\(result.errorText)")
        return result.text
    }

    @Test func `a container gets its address, reaches the other node's pods and a service, and leaves nothing`() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fairlead-\(lab)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let manifest = folder.appendingPathComponent("web.yaml")
        try Data(
            """
            {"kind": "List", "apiVersion": "v1", "items": [
              {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
               "spec": {"nodeName": "node-2", "containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]}},
              {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"clusterIP": "10.96.7.7", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
            ]}
            """.utf8
        ).write(to: manifest)
        defer { _ = try? fairlead("lab", "down", "--name", lab) }
        _ = try fairlead("lab", "up", "--name", lab, "--nodes", "2", "-f", manifest.path)
        let state = "/run/fairlead/labs/\(lab)"
        let script = URL(filePath: #filePath).deletingLastPathComponent().appendingPathComponent("run-in-containerd").path
        let result = try ChildProcess.capture(
            script,
            [
                folder.path, "fairlead-\(lab)-node-1", "\(state)/nodes/node-1/cni.conf", "\(state)/plugins",
                "/usr/bin/bash", "-c",
                """
                export PATH=/usr/bin:/usr/sbin:/bin:/sbin
                ip -o addr show eth0; ip route
                for to in 10.244.2.2/8080 fd00:10:244:2::2/8080 10.96.7.7/80; do
                    exec 3<>/dev/tcp/$to
                    echo hello >&3
                    echo "$to says $(cat <&3)"
                done
                """,
            ], timeout: .seconds(90))
        let output = result.text
        try #require(result.status.isSuccess, "\(output)\(result.errorText)")
        for line in [
            "inet 10.244.1.2/32", "inet6 fd00:10:244:1::2/128", "default via 169.254.1.1 dev eth0",
            "10.244.2.2/8080 says web", "fd00:10:244:2::2/8080 says web", "10.96.7.7/80 says web",
        ] { #expect(output.contains(line), "\(line) in \(output)") }

        // ctr has called DEL: no lease, no record, no veth is left.
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(state)/nodes/node-1/state/attachments") == [])
        let leases = try FileManager.default.contentsOfDirectory(atPath: "\(state)/nodes/node-1/leases/lab")
        #expect(!leases.contains("10.244.1.2") && !leases.contains("fd00:10:244:1::2"))
        let links = try fairlead("lab", "node", "node-1", "--name", lab, "--", "ip", "-o", "link", "show", "type", "veth")
        #expect(links.split(separator: "\n").count == 1, "only eth0: \(links)")
    }
}
