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

    /// How many segments a pod had to send more than once, by its kernel's own count.
    ///
    /// Those that the other side says it had already (RFC 2883) were not lost: on a busy machine an acknowledgement may
    /// take so long that the kernel does not wait for it.
    private func lostSegments(_ pod: LabPod) throws -> Int {
        let text = try pod.inside { () throws(KernelError) in
            try ChildProcess.capture("cat", ["/proc/self/net/snmp", "/proc/self/net/netstat"], timeout: .seconds(20)).text
        }
        let lines = text.split(separator: "\n").map { $0.split(separator: " ") }
        func count(_ group: String, _ name: String) throws -> Int {
            let pair = lines.filter { $0.first == "\(group):" }
            let column = try #require(pair.first?.firstIndex { $0 == name })
            return try #require(Int(pair[1][column]))
        }
        return try count("Tcp", "RetransSegs") - count("TcpExt", "TCPDSACKRecv")
    }

    @Test(arguments: AddressFamily.allCases)
    func `no datagram and no segment is lost while every agent is killed and started again`(
        family: AddressFamily
    ) throws {
        let state = try lab.state()
        let pods = state.pods.filter { $0.key.name.hasPrefix("web-") }
        let client = try #require(state.pods.first { $0.key.name == "client" })
        let service = try #require(try state.snapshot().services[NamespacedName(namespace: "default", name: "web")])
        let address = try #require(service.clusterIP(of: family))
        let before = try (pods + [client]).map(lostSegments)
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
        #expect(try (pods + [client]).map(lostSegments) == before)
        print("\(family): \(tally.sent) datagrams there and back, \(talk.answers) lines, none lost")
    }
}
