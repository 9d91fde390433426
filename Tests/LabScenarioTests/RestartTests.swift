import Foundation
import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import Testing

private let web = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: 3
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: web, ports: [{containerPort: 8080}]}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec:
      selector: {app: web}
      ports:
      - {name: lines, port: 80, targetPort: 8080}
      - {name: numbers, port: 7000, targetPort: 7000, protocol: UDP}
    ---
    {apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {containers: [{name: c}]}}
    """

/// Conversations through a service while the agents that made it are killed and started again.
@Suite(.needsRoot, .serialized, .lab(web)) struct RestartTests {
    let lab: LabUnderTest

    init() throws { lab = try LabUnderTest.current() }

    /// How many segments a pod has sent more than once, by its kernel's own count.
    private func retransmissions(_ pod: LabPod) throws -> Int {
        let text = try pod.inside { () throws(KernelError) in
            try ChildProcess.capture("cat", ["/proc/self/net/snmp"], timeout: .seconds(20)).text
        }
        let lines = text.split(separator: "\n").filter { $0.hasPrefix("Tcp:") }.map { $0.split(separator: " ") }
        let column = try #require(lines.first?.firstIndex(of: "RetransSegs"))
        return try #require(lines.last.flatMap { Int($0[column]) })
    }

    @Test(arguments: AddressFamily.allCases)
    func `no datagram is lost and no segment sent twice while every agent is killed and started again`(
        family: AddressFamily
    ) throws {
        let state = try lab.state()
        let pods = state.pods.filter { $0.key.name.hasPrefix("web-") }
        let client = try #require(state.pods.first { $0.key.name == "client" })
        let service = try #require(try state.snapshot().services[NamespacedName(namespace: "default", name: "web")])
        let address = try #require(service.clusterIP(of: family))
        let before = try (pods + [client]).map(retransmissions)
        let numbers = try NumberedStream(
            from: client, to: SocketAddress(address, Port(7000)!), answering: pods, at: Port(7000)!)
        let lines = try LineStream(from: client, to: SocketAddress(address, Port(80)!))
        for node in state.nodes {
            let pid = try #require(try state.agents().first { $0.node == node.name }?.pid)
            kill(pid, SIGKILL)
            // A while without an agent, and a while with the new one.
            let killedAt = numbers.now.sent
            while numbers.now.sent < killedAt + 300 { usleep(1000) }
            let up = try lab.lab("up")
            #expect(up.status.isSuccess, "\(up.errorText)")
            #expect(try state.agents().first { $0.node == node.name }?.pid != pid)
            let backAt = numbers.now.sent
            while numbers.now.sent < backAt + 300 { usleep(1000) }
        }
        let (tally, talk) = (numbers.end(), lines.end())
        #expect(tally.trouble == nil && talk.trouble == nil)
        #expect(tally.sent > 1800 && talk.answers > 100)
        let all = Array(1...tally.sent)
        #expect(tally.arrived == all, "\(Set(all).subtracting(tally.arrived).sorted().prefix(9)) did not arrive")
        #expect(tally.returned == all, "\(Set(all).subtracting(tally.returned).sorted().prefix(9)) did not return")
        #expect(tally.pods.count == 1, "a conversation stays where it is")
        #expect(try (pods + [client]).map(retransmissions) == before)
        print("\(family): \(tally.sent) datagrams there and back, \(talk.answers) lines, none lost, none sent twice")
    }
}
