import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import Testing

/// Pods on three nodes that nothing keeps from each other, and services of every shape in front of them.
private let open = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, namespace: open}
    spec:
      replicas: 6
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          containers:
          - name: web
            ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]
    ---
    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: store, namespace: open}
    spec:
      replicas: 2
      selector: {matchLabels: {app: store}}
      template:
        metadata: {labels: {app: store}}
        spec:
          containers: [{name: store, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: single, namespace: open, labels: {app: web}}
    spec:
      containers: [{name: web, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: open}
    spec:
      type: NodePort
      selector: {app: web}
      ports:
      - {name: http, port: 80, targetPort: http, nodePort: 30080}
      - {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30053}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: store, namespace: open}
    spec:
      selector: {app: store}
      ports: [{name: direct, port: 8080}, {name: dns, port: 53, targetPort: 5353, protocol: UDP}]
    """

@Suite(.needsRoot, .serialized, .lab(open)) struct ConnectivityTests {
    let state: LabState
    /// Pods by the number they stand for: the six, the two, and the one of its own.
    let pods: [LabPod]

    init() throws {
        state = try LabUnderTest.current().state()
        pods = state.pods.filter { $0.key.namespace == "open" }
        try #require(pods.count == 9)
    }

    @Test func `replicas are spread over the nodes`() {
        for node in state.nodes {
            #expect(pods.count { $0.node == node.name } == 3, "\(node.name)")
        }
    }

    @Test(arguments: AddressFamily.allCases, [TransportProtocol.tcp, .udp])
    func `every pod reaches every pod by address`(family: AddressFamily, transport: TransportProtocol) throws {
        let port = try #require(Port(transport == .udp ? 5353 : 8080))
        let targets = try pods.map { ($0, SocketAddress(try $0.address(family), port)) }
        for client in pods {
            let answers = try client.inside { () throws(KernelError) in
                try targets.map { (target) throws(KernelError) in try Probe.answer(transport, target.1) }
            }
            for (target, answer) in zip(targets, answers) {
                #expect(answer == target.0.key.name, "\(client.key) to \(target.0.key) at \(target.1)")
            }
        }
    }

    @Test(arguments: AddressFamily.allCases, ["web", "store"])
    func `every pod reaches every service, and all its backends answer`(family: AddressFamily, name: String) throws {
        let service = try #require(state.snapshot().services[NamespacedName(namespace: "open", name: name)])
        let address = try #require(service.clusterIP(of: family))
        let backends = Set(
            pods.filter { $0.key.name.hasPrefix(name) || name == "web" && $0.key.name == "single" }.map(\.key.name))
        try #require(backends.count == (name == "web" ? 7 : 2))
        for port in service.ports {
            var seen: Set<String> = []
            for client in pods {
                // Also a backend itself must reach its own service.
                let answers = try client.inside { () throws(KernelError) in
                    var answers: [String] = []
                    for _ in 0..<20 {
                        answers.append(try Probe.answer(port.protocol, SocketAddress(address, port.number)))
                    }
                    return answers
                }
                #expect(backends.isSuperset(of: answers), "\(client.key) to \(name):\(port.number): \(Set(answers))")
                seen.formUnion(answers)
            }
            // 180 tries with at most 7 choices: a backend that is never chosen by chance is one in a million millions.
            #expect(seen == backends)
        }
    }

    @Test(arguments: AddressFamily.allCases)
    func `a node port answers on every node, to other nodes and to the outside`(family: AddressFamily) throws {
        let outside = try NetworkNamespace.open(NetworkNamespace.path(named: "fairlead-\(state.name)-underlay"))
        for node in state.nodes {
            let address = try #require(node.addresses.first { $0.family == family })
            for (transport, number) in [(TransportProtocol.tcp, 30080), (.udp, 30053)] {
                let target = SocketAddress(address, try #require(Port(number)))
                for client in state.nodes where client.name != node.name {
                    let answer = try client.inside { () throws(KernelError) in try Probe.answer(transport, target) }
                    #expect(answer.hasPrefix("web-") || answer == "single", "\(client.name) to \(target): \(answer)")
                }
                let answer = try outside.withEntered { () throws(KernelError) in try Probe.answer(transport, target) }
                #expect(answer.hasPrefix("web-") || answer == "single", "outside to \(target): \(answer)")
            }
        }
    }

    /// The machines outside know the nodes and no pod: an answer is proof that they were asked in the node's name.
    @Test(arguments: ["172.30.0.1", "fd00:172:30::1"])
    func `a pod reaches a machine outside the cluster, in its node's name`(address: String) throws {
        for client in pods {
            let ping = try client.inside { () throws(KernelError) in
                try ChildProcess.capture("ping", ["-c", "1", "-W", "5", address], timeout: .seconds(20))
            }
            #expect(ping.status.isSuccess, "\(client.key) to \(address): \(ping.text)")
        }
    }

    @Test func `a port of a service that it does not have is refused`() throws {
        let service = try #require(state.snapshot().services[NamespacedName(namespace: "open", name: "web")])
        let address = try #require(service.clusterIP(of: .ipv4))
        let answer = try pods[0].inside { () throws(KernelError) in
            try Probe.answer(.tcp, SocketAddress(address, Port(81)!))
        }
        #expect(answer == "refused")
    }

    @Test func `what each node holds is listed by nft and names the objects it is for`() throws {
        for node in state.nodes {
            let list = try node.inside { () throws(KernelError) in
                try ChildProcess.capture("nft", ["list", "ruleset"], timeout: .seconds(20))
            }
            #expect(list.status.isSuccess, "\(list.errorText)")
            #expect(list.text.contains("table inet fairlead-services"))
            #expect(list.text.contains("table inet fairlead-policy"))
            #expect(list.text.contains("svc open/web:http"))
            #expect(list.text.contains("pod open/single"))
        }
    }

    @Test func `a request says which pods answered, and fails where none does`() throws {
        let lab = try LabUnderTest.current()
        let asked = try lab.lab("request", "single", "-n", "open", "--to", "svc/store:direct", "--count", "40")
        #expect(asked.status.isSuccess, "\(asked.errorText)")
        for pod in pods where pod.key.name.hasPrefix("store-") {
            #expect(asked.text.contains("answered by \(pod.key.name) on \(pod.node)"), "\(asked.text)")
        }
        let datagram = try lab.lab("request", "single", "-n", "open", "--to", "pod/store-0:5353", "--udp", "-6")
        #expect(datagram.text.contains("1 × answered by store-0"), "\(datagram.text)\(datagram.errorText)")
        let refused = try lab.lab("request", "single", "-n", "open", "--to", "pod/store-0:9")
        #expect(refused.status == .exited(1))
        #expect(refused.text.contains("1 × refused"), "\(refused.text)")
    }

    @Test func `programs run in the network of pods and nodes and keep their status`() throws {
        let lab = try LabUnderTest.current()
        let store = try #require(pods.first { $0.key.name == "store-0" })
        let address = try lab.lab("exec", "store-0", "-n", "open", "--", "ip", "-o", "address", "show", "eth0")
        for own in store.addresses { #expect(address.text.contains("\(own)/"), "\(address.text)\(address.errorText)") }
        let variables = try lab.lab(
            "exec", "sts/store", "-n", "open", "--", "sh", "-c", "echo $WEB_SERVICE_PORT_HTTP; exit 7")
        #expect(variables.status == .exited(7))
        #expect(variables.text == "80\n")
        let input = try lab.lab("exec", "-i", "store-0", "-n", "open", "--", "cat", input: "passed on")
        #expect(input.text == "passed on")
        let node = try lab.lab("node", "node-2", "--", "ip", "-o", "address", "show", "eth0")
        #expect(node.text.contains("172.30.0.12/24"))
        let missing = try lab.lab("exec", "store-0", "-n", "open", "--", "no-such-program")
        #expect(missing.status == .exited(127))
        let nobody = try lab.lab("exec", "nobody", "--", "true")
        #expect(nobody.status == .exited(1))
        #expect(nobody.errorText.contains("there is no pod default/nobody"))
    }
}
