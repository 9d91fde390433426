import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import Testing

/// Sixty pods, and in front of each a service of its own: the label of a StatefulSet's pod names it.
private let sixty: String = """
    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: web}
    spec:
      replicas: 60
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}

    """
    + (0..<60).map { number in
        """
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: web-\(number)}
        spec:
          selector: {statefulset.kubernetes.io/pod-name: web-\(number)}
          ports: [{port: 80, targetPort: http}]

        """
    }.joined()

@Suite(.needsRoot, .serialized, .lab(sixty)) struct SixtyPodsTests {
    let pods: [LabPod]
    let services: [NamespacedName: KubernetesObjects.Service]

    init() throws {
        let state = try LabUnderTest.current().state()
        pods = state.pods
        services = try state.snapshot().services
        try #require(pods.count == 60 && services.count == 60)
    }

    @Test(arguments: AddressFamily.allCases)
    func `every pod reaches every pod by address`(family: AddressFamily) throws {
        try expectAnswers(at: try pods.map { SocketAddress(try $0.address(family), Port(8080)!) })
    }

    @Test(arguments: AddressFamily.allCases)
    func `every pod reaches every pod by its service`(family: AddressFamily) throws {
        try expectAnswers(
            at: try pods.map { pod in
                SocketAddress(try #require(services[pod.key]?.clusterIP(of: family)), Port(80)!)
            })
    }

    /// Asks from every pod at every address, which are in the pods' order.
    private func expectAnswers(at targets: [SocketAddress]) throws {
        for client in pods {
            let answers = try client.inside { () throws(KernelError) in
                try targets.map { (target) throws(KernelError) in try Probe.answer(.tcp, target) }
            }
            for (pod, answer) in zip(pods, answers) where answer != pod.key.name {
                Issue.record("\(client.key) to \(pod.key): \(answer)")
            }
        }
    }
}
