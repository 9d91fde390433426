import Foundation
import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import RouteNetlink
import Testing

private func web(replicas: Int, port: Int = 80) -> String {
    """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: \(replicas)
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: web, ports: [{name: http, containerPort: \(port)}]}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
    """
}

/// What changes a lab that is up.
@Suite(.needsRoot, .serialized, .lab()) struct ChangeTests {
    let lab: LabUnderTest

    init() throws { lab = try LabUnderTest.current() }

    private func revision() throws -> String {
        try String(contentsOfFile: "\(lab.state().manifestsPath)/.revision", encoding: .utf8)
    }

    /// The names of the pods that answer at the service.
    private func backends(from client: LabPod) throws -> Set<String> {
        let service = try #require(
            try lab.state().snapshot().services[NamespacedName(namespace: "default", name: "web")])
        let target = SocketAddress(try #require(service.clusterIP(of: .ipv4)), Port(80)!)
        return try client.inside { () throws(KernelError) in
            var names: Set<String> = []
            for _ in 0..<60 { names.insert(try Probe.answer(.tcp, target)) }
            return names
        }
    }

    @Test func `scaling adds and removes pods and leaves the others where they are`() throws {
        try lab.apply(web(replicas: 3))
        let three = try lab.state().pods
        #expect(three.count == 3)
        try lab.apply(web(replicas: 5))
        let five = try lab.state().pods
        #expect(five.count == 5)
        #expect(five.filter { three.map(\.key).contains($0.key) } == three)
        #expect(try backends(from: five[0]) == Set(five.map(\.key.name)))
        try lab.apply(web(replicas: 2))
        let two = try lab.state().pods
        #expect(two.count == 2)
        #expect(five.filter { two.map(\.key).contains($0.key) } == two)
        #expect(try backends(from: two[0]) == Set(two.map(\.key.name)))
        // The underlay, three nodes, two pods.
        #expect(try lab.namespaces().count == 6)
    }

    @Test func `applying the same again changes nothing`() throws {
        try lab.apply(web(replicas: 3))
        let (before, revision) = (try lab.state().pods, try revision())
        let processes = try lab.processes().sorted()
        try lab.apply(web(replicas: 3))
        #expect(try lab.state().pods == before)
        #expect(try self.revision() == revision)
        #expect(try lab.processes().sorted() == processes)
    }

    @Test func `a changed template replaces the pods, and the service follows`() throws {
        try lab.apply(web(replicas: 2))
        let before = try lab.state().pods
        try lab.apply(web(replicas: 2, port: 8080))
        let after = try lab.state().pods
        #expect(after.count == 2)
        #expect(Set(after.map(\.key)).isDisjoint(with: before.map(\.key)))
        #expect(try backends(from: after[0]) == Set(after.map(\.key.name)))
    }

    @Test func `a pod of a workload that is deleted is made anew`() throws {
        try lab.apply(web(replicas: 2))
        let before = try lab.state().pods
        let deleted = try lab.lab("delete", "pod/\(before[0].key.name)")
        #expect(deleted.status.isSuccess, "\(deleted.errorText)")
        let after = try lab.state().pods
        #expect(after.count == 2)
        #expect(after.map(\.key) == before.map(\.key))
        #expect(after[0].namespaceName != before[0].namespaceName)
        #expect(after[1] == before[1])
        #expect(try backends(from: after[0]) == Set(after.map(\.key.name)))
    }

    @Test func `deleting manifests removes all that came of them`() throws {
        try lab.apply(web(replicas: 2))
        let deleted = try lab.lab("delete", "-f", "-", input: web(replicas: 2))
        #expect(deleted.status.isSuccess, "\(deleted.errorText)")
        #expect(try lab.state().pods == [])
        #expect(try lab.state().snapshot().services.isEmpty)
        #expect(try lab.namespaces().count == 4)
        let again = try lab.lab("delete", "service/web")
        #expect(again.status == .exited(1))
        #expect(again.errorText.contains("Service default/web: is not there"), "\(again.errorText)")
    }

    @Test func `deleting a namespace removes all that is in it`() throws {
        try lab.apply(
            """
            {apiVersion: v1, kind: Namespace, metadata: {name: gone}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: gone}, spec: {containers: [{name: c}]}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}
            """)
        #expect(try lab.state().pods.map(\.key.description).filter { $0.hasSuffix("/p") } == ["default/p", "gone/p"])
        let deleted = try lab.lab("delete", "namespace/gone")
        #expect(deleted.status.isSuccess, "\(deleted.errorText)")
        let state = try lab.state()
        #expect(state.pods.map(\.key.description).filter { $0.hasSuffix("/p") } == ["default/p"])
        #expect(try state.snapshot().namespaces["gone"] == nil)
        _ = try lab.lab("delete", "pod/p")
    }

    @Test func `a policy takes effect when apply returns, and ends when delete does`() throws {
        try lab.apply(web(replicas: 3))
        let pods = try lab.state().pods
        let target = SocketAddress(try pods[1].address(.ipv4), Port(80)!)
        func ask() throws -> String {
            try pods[0].inside { () throws(KernelError) in
                try Probe.answer(.tcp, target, timeout: .milliseconds(500))
            }
        }
        #expect(try ask() == pods[1].key.name)
        let policy = """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: closed}
            spec: {podSelector: {matchLabels: {app: web}}}
            """
        try lab.apply(policy)
        #expect(try ask() == "timeout")
        #expect(try lab.lab("delete", "netpol/closed").status.isSuccess)
        #expect(try ask() == pods[1].key.name)
    }

    @Test func `objects that cannot be used are named by file, object and field, and the rest works`() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(lab.name)-bad.yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data(
            """
            {apiVersion: v1, kind: Pod, metadata: {name: bad-port}, spec: {containers: [{name: c, ports: [{containerPort: 70000}]}]}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: bad-type}, spec: {hostNetwork: "maybe"}}
            ---
            {apiVersion: v1, kind: Service, metadata: {name: bad-service}, spec: {clusterIP: 10.96.0.300, ports: [{port: 0}]}}
            ---
            {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: bad-selector}, spec: {podSelector: {matchExpressions: [{key: a, operator: Like}]}}}
            ---
            {apiVersion: apps/v1, kind: Deployment, metadata: {name: bad-nodes}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {disk: none}, containers: [{name: c}]}}}}
            ---
            {apiVersion: v1, kind: ConfigMap, metadata: {name: unused}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: good}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: good}, spec: {containers: []}}
            """.utf8
        ).write(to: file)
        let applied = try lab.lab("apply", "-f", file.path)
        #expect(applied.status == .exited(1))
        for expected in [
            "\(file.path): Pod default/bad-port: spec.containers[0].ports[0].containerPort: 70000",
            "\(file.path): Pod default/bad-type: spec.hostNetwork: ",
            "\(file.path): Service default/bad-service: spec.clusterIP: ",
            "\(file.path): Service default/bad-service: spec.ports[0].port: 0",
            "\(file.path): NetworkPolicy default/bad-selector: spec.podSelector.matchExpressions[0].operator: ",
            "\(file.path): Deployment default/bad-nodes: spec.template.spec.nodeSelector: no node has the labels disk=none",
            "\(file.path): ConfigMap default/unused: ",
            "\(file.path): Pod default/good: is in this file already",
        ] {
            #expect(applied.errorText.contains(expected), "missing: \(expected)\n\(applied.errorText)")
        }
        let good = try #require(try lab.state().pod(NamespacedName(namespace: "default", name: "good")))
        let answer = try good.inside { () throws(KernelError) in
            try Probe.answer(.tcp, SocketAddress(good.addresses[0], Port(80)!))
        }
        #expect(answer == "good")
        _ = try lab.lab("delete", "-f", file.path)
    }

    @Test func `a pod in its node's network answers at the node's addresses, and one port has one pod`() throws {
        func exporter(_ name: String) -> String {
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: \(name), labels: {app: exporter}}
            spec: {hostNetwork: true, nodeName: node-2, containers: [{name: c, ports: [{containerPort: 9100}]}]}
            ---

            """
        }
        try lab.apply(
            exporter("exporter") + """
                apiVersion: v1
                kind: Service
                metadata: {name: exporter}
                spec: {selector: {app: exporter}, ports: [{port: 9100}]}
                ---
                {apiVersion: v1, kind: Pod, metadata: {name: asker}, spec: {containers: [{name: c}]}}
                """)
        let state = try lab.state()
        let node = try #require(state.node(named: "node-2"))
        let exporter1 = try #require(state.pod(NamespacedName(namespace: "default", name: "exporter")))
        #expect(exporter1.addresses == node.addresses)
        #expect(exporter1.namespaceName == node.namespaceName)
        let asker = try #require(state.pod(NamespacedName(namespace: "default", name: "asker")))
        let service = try #require(
            try state.snapshot().services[NamespacedName(namespace: "default", name: "exporter")])
        for address in node.addresses + service.clusterIPs {
            let answer = try asker.inside { () throws(KernelError) in
                try Probe.answer(.tcp, SocketAddress(address, Port(9100)!))
            }
            #expect(answer == "exporter", "\(address)")
        }
        let second = try lab.lab("apply", "-f", "-", input: exporter("second"))
        #expect(second.status == .exited(1))
        #expect(second.errorText.contains("Pod default/second: cannot be run"), "\(second.errorText)")
        #expect(second.errorText.contains("listen on IPv4 tcp port 9100"), "\(second.errorText)")
        let deleted = try lab.lab("delete", "pod/exporter", "pod/second", "pod/asker", "service/exporter")
        #expect(deleted.status.isSuccess, "\(deleted.errorText)")
        #expect(try lab.state().pods.filter { $0.isHostNetwork } == [])
    }

    private func ruleset(of node: LabNode) throws -> String {
        let list = try node.inside { () throws(KernelError) in
            try ChildProcess.capture("nft", ["-a", "list", "ruleset"], timeout: .seconds(20))
        }
        #expect(list.text.contains("# handle"), "\(list.errorText)")
        return list.text
    }

    @Test func `an agent that starts again changes no rule, no element, no route, and connections go on`() throws {
        try lab.apply(web(replicas: 3))
        let state = try lab.state()
        let pods = state.pods
        let service = try #require(try state.snapshot().services[NamespacedName(namespace: "default", name: "web")])
        let target = SocketAddress(try #require(service.clusterIP(of: .ipv6)), Port(80)!)
        let stream = try NetworkNamespace.open(NetworkNamespace.path(named: pods[0].namespaceName))
            .withEntered { () throws(KernelError) in try ProbeConnection.open(to: target, timeout: .seconds(3)) }
        try stream.send("stream\n", timeout: .seconds(1))
        let name = try stream.exchange(line: "before", timeout: .seconds(3))
        for (node, agent) in zip(state.nodes, try state.agents()) {
            let namespace = try NetworkNamespace.open(NetworkNamespace.path(named: node.namespaceName))
            let nftables = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
            let monitor = try namespace.withEntered { () throws(KernelError) in try RouteMonitor.open() }
            let (rules, generation) = (try ruleset(of: node), try nftables.generation())
            kill(try #require(agent.pid), SIGKILL)
            usleep(100_000)
            #expect(
                try stream.exchange(line: "without", timeout: .seconds(3)) == name.replacing("before", with: "without"))
            let up = try lab.lab("up")
            #expect(up.status.isSuccess, "\(up.errorText)")
            #expect(try state.agents().first { $0.node == node.name }?.pid != agent.pid)
            // The handles are listed too: what is removed and made again comes back under another one.
            #expect(try ruleset(of: node) == rules, "\(node.name)")
            // One for each table: it had lost its owner with the process.
            #expect(try nftables.generation() <= generation + 2, "\(node.name)")
            // Traffic itself makes the kernel learn and forget neighbours.
            let changes = try monitor.next(timeout: .zero).filter { change in
                switch change {
                case .neighbor(let neighbor), .neighborRemoved(let neighbor): neighbor.state == .permanent
                default: true
                }
            }
            #expect(changes.isEmpty, "\(node.name): \(changes)")
        }
        #expect(try stream.exchange(line: "after", timeout: .seconds(3)) == name.replacing("before", with: "after"))
    }
}
