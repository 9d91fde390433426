import Glibc
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

/// Real packets between two pods, through a node with the table.
@Suite(.needsRoot, .serialized) struct PacketTests {
    private static let toServer: FieldValue = ["podSelector": ["matchLabels": ["app": "server"]]]
    private static let fromClient: FieldValue = ["podSelector": ["matchLabels": ["app": "client"]]]

    private func allowing(_ ports: FieldValue) -> FieldValue {
        [
            "podSelector": ["matchLabels": ["app": "server"]],
            "ingress": [["from": [["podSelector": ["matchLabels": ["app": "client"]]]], "ports": ports]],
        ]
    }

    @Test(arguments: AddressFamily.allCases) func `allowed connects, denied is silence`(family: AddressFamily) throws {
        let room = try PolicedRoom()
        room.cluster.policy("shop/p", allowing([["port": 80]]))
        try room.commit()
        _ = try room.establish(80, family)
        // Nobody listens on 81: without the policy this would be refused.
        #expect(try room.attempt(81, family) == .timeout)
        room.cluster.removePolicy("shop/p")
        try room.commit()
        #expect(try room.attempt(81, family) == .refused)
    }

    @Test(arguments: AddressFamily.allCases, [NetworkPolicy.Direction.ingress, .egress])
    func `a revoked connection stops at once in both directions, and lives on when it is allowed again`(
        family: AddressFamily, direction: NetworkPolicy.Direction
    ) throws {
        let room = try PolicedRoom()
        let allowed: FieldValue =
            direction == .ingress
            ? allowing([["port": 80]])
            : [
                "podSelector": ["matchLabels": ["app": "client"]], "policyTypes": ["Egress"],
                "egress": [["to": [Self.toServer], "ports": [["port": 80]]]],
            ]
        room.cluster.policy("shop/p", allowed)
        try room.commit()
        let (client, server) = try room.establish(80, family)
        client.send("1")
        #expect(server.receive(within: .seconds(5)) == "1")
        server.send("2")
        #expect(client.receive(within: .seconds(5)) == "2")

        room.cluster.policy(
            "shop/p",
            [
                "podSelector": ["matchLabels": ["app": direction == .ingress ? "server" : "client"]],
                "policyTypes": [direction == .ingress ? "Ingress" : "Egress"],
            ])
        #expect(try room.commit())
        // From here on not a byte, whoever sends: the next packet is the first that is judged again.
        client.send("3")
        server.send("4")
        #expect(server.receive(within: .milliseconds(300)) == nil)
        #expect(client.receive(within: .milliseconds(300)) == nil)

        room.cluster.policy("shop/p", allowed)
        #expect(try !room.commit())
        // What was sent meanwhile is sent again by TCP itself.
        #expect(server.receive(within: .seconds(10)) == "3")
        #expect(client.receive(within: .seconds(10)) == "4")
    }

    @Test func `a change that takes something away leaves alone who keeps it, one that adds leaves all alone`() throws {
        let room = try PolicedRoom()
        room.cluster.policy("shop/p", allowing([["port": 80], ["port": 81]]))
        try room.commit()
        let (kept, lost) = (try room.establish(80), try room.establish(81))
        let epoch = room.epoch
        room.cluster.policy("shop/q", allowing([["port": 443]]))
        room.cluster.pod("shop/new", ["app": "client"])
        #expect(try !room.commit() && room.epoch == epoch)
        for (index, flow) in [kept, lost].enumerated() {
            flow.client.send("a\(index)")
            #expect(flow.server.receive(within: .seconds(5)) == "a\(index)")
        }
        room.cluster.policy("shop/p", allowing([["port": 80]]))
        #expect(try room.commit() && room.epoch == epoch.next)
        lost.client.send("b")
        #expect(lost.server.receive(within: .milliseconds(300)) == nil)
        for text in ["c", "d"] {
            kept.client.send(text)
            #expect(kept.server.receive(within: .seconds(5)) == text)
            kept.server.send(text)
            #expect(kept.client.receive(within: .seconds(5)) == text)
        }
    }

    @Test func `a peer that loses its label loses its connection`() throws {
        let room = try PolicedRoom()
        room.cluster.policy("shop/p", allowing([["port": 80]]))
        try room.commit()
        let (client, server) = try room.establish(80)
        room.cluster.pod("shop/client", ["app": "other"])
        #expect(try room.commit())
        server.send("1")
        #expect(client.receive(within: .milliseconds(300)) == nil)
    }

    @Test func `an address of the node's network that no pod has is closed`() throws {
        let room = try PolicedRoom()
        try room.commit()
        #expect(try room.attempt(80) == .refused)
        room.cluster.removePod("shop/server")
        try room.commit()
        #expect(try room.attempt(80, to: IPAddress("10.244.1.3")!) == .timeout)
    }

    @Test func `what the node itself sends reaches an isolated pod`() throws {
        let room = try PolicedRoom()
        room.cluster.policy("shop/p", ["policyTypes": ["Ingress", "Egress"]])
        try room.commit()
        #expect(try room.attempt(80) == .timeout)
        let server = SocketAddress(room.cluster.address("shop/server"), Port(80)!)
        let outcome = try room.node.namespace.withEntered { () throws(KernelError) in
            try Probe.tcp(to: server, timeout: .milliseconds(800))
        }
        #expect(outcome == .refused)
    }

    @Test func `behind a service the pod's port counts, and a pod reaches itself`() throws {
        let room = try PolicedRoom()
        let services = """
            table inet services {
                chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.10 tcp dport 80 dnat ip to 10.244.1.3:8080; }
                chain postrouting { type nat hook postrouting priority 100; ip saddr 10.244.1.3 ip daddr 10.244.1.3 masquerade; }
            }
            """
        #expect(try room.node.run("nft", "-f", "-", input: services).status.isSuccess)
        let virtual = IPAddress("10.96.0.10")!
        room.cluster.policy("shop/p", allowing([["port": 80]]))
        try room.commit()
        #expect(try room.attempt(80, to: virtual) == .timeout)
        let toItself = try room.server.namespace.withEntered { () throws(KernelError) in
            try Probe.tcp(to: SocketAddress(virtual, Port(80)!), timeout: .milliseconds(800))
        }
        #expect(toItself == .refused)
        room.cluster.policy("shop/p", allowing([["port": 8080]]))
        try room.commit()
        #expect(try room.attempt(80, to: virtual) == .refused)
    }
}
