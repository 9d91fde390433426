import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import Testing

@testable import PolicyRules

/// NetworkPolicy as the API defines it, S18 to S35 of the checklist: addresses, ports and what a connection is.
@Suite struct TrafficSemanticsTests {
    private let cluster: Cluster = {
        var cluster = Cluster()
        cluster.pod("shop/web", ["app": "web"], ports: [ContainerPort("http", 8080), ContainerPort("dns", 53, .udp)])
        cluster.pod("shop/client", ["app": "client"], on: "n2")
        return cluster
    }()

    /// The cluster with a policy for pod `web` that has one ingress rule.
    private func with(_ rule: FieldValue) -> Cluster {
        var cluster = cluster
        #expect(cluster.policy("shop/p", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [rule]]).isEmpty)
        return cluster
    }

    @Test func `S18: a block matches addresses, whoever has them, behind a service too`() {
        let cluster = with(["from": [["ipBlock": ["cidr": "10.244.2.0/24"]]]])
        #expect(cluster.allows("shop/client", "shop/web") && cluster.allows("10.244.2.77", "shop/web"))
        #expect(!cluster.allows("10.244.3.1", "shop/web"))
        let (client, web) = (cluster.address("shop/client"), cluster.address("shop/web"))
        let virtual = IPAddress("10.96.0.10")!
        #expect(cluster.table().decide(from: client, to: web, virtual: virtual).outcome == .accept)
        // Egress by block: the pod behind the service counts, not the service.
        var other = self.cluster
        other.policy("shop/p", ["egress": [["to": [["ipBlock": ["cidr": "10.244.1.0/24"]]]]]])
        #expect(other.table("n2").decide(from: client, to: web, virtual: virtual).outcome == .accept)
        other.policy("shop/p", ["egress": [["to": [["ipBlock": ["cidr": "10.96.0.0/16"]]]]]])
        #expect(other.table("n2").decide(from: client, to: web, virtual: virtual).outcome == .drop)
    }

    @Test func `S19: exceptions count in their own block only`() {
        let block: FieldValue = ["ipBlock": ["cidr": "198.51.0.0/16", "except": ["198.51.100.0/24"]]]
        var cluster = with(["from": [block]])
        #expect(cluster.allows("198.51.99.255", "shop/web") && cluster.allows("198.51.101.0", "shop/web"))
        #expect(!cluster.allows("198.51.100.0", "shop/web") && !cluster.allows("198.51.100.255", "shop/web"))
        cluster = with(["from": [block, ["ipBlock": ["cidr": "198.51.100.128/25"]]]])
        #expect(!cluster.allows("198.51.100.127", "shop/web") && cluster.allows("198.51.100.128", "shop/web"))
    }

    @Test
    func
        `S20: host bits and leading zeros are read over, exceptions outside are noted, what is no block matches nothing`()
    {
        var cluster = with([
            "from": [["ipBlock": ["cidr": "198.51.100.7/24"]], ["ipBlock": ["cidr": "203.000.113.0/24"]]]
        ])
        #expect(cluster.allows("198.51.100.200", "shop/web") && cluster.allows("203.0.113.5", "shop/web"))
        func notes(_ block: FieldValue) -> Int {
            cluster.policy(
                "shop/p", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["from": [["ipBlock": block]]]]]
            ).count
        }
        #expect(notes(["cidr": "198.51.100.0/24", "except": ["203.0.113.0/24"]]) == 1)
        #expect(cluster.allows("198.51.100.1", "shop/web") && !cluster.allows("203.0.113.1", "shop/web"))
        #expect(notes(["cidr": "198.51.100.0/24", "except": ["198.51.100.0/24"]]) == 1)
        #expect(!cluster.allows("198.51.100.1", "shop/web"))
        #expect(notes(["cidr": "198.51.100.0/33"]) == 1)
        #expect(!cluster.allows("198.51.100.1", "shop/web") && !cluster.allows("shop/client", "shop/web"))
    }

    @Test func `S21: families never cross, and blocks may overlap`() {
        var cluster = cluster
        let overlapping: FieldValue = [
            ["ipBlock": ["cidr": "0.0.0.0/0", "except": ["::/0", "10.0.0.0/8", "10.1.0.0/16"]]],
            ["ipBlock": ["cidr": "198.51.100.0/24"]], ["ipBlock": ["cidr": "198.51.100.0/25"]],
        ]
        let notes = cluster.policy(
            "shop/p", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["from": overlapping]]])
        #expect(notes.count == 1)
        #expect(cluster.allows("198.51.100.1", "shop/web") && !cluster.allows("10.9.9.9", "shop/web"))
        #expect(!cluster.allows("2001:db8::1", "shop/web", family: .ipv6))
        let six = with(["from": [["ipBlock": ["cidr": "::/0"]]]])
        #expect(
            six.allows("2001:db8::1", "shop/web", family: .ipv6) && six.allows("fe80::1", "shop/web", family: .ipv6))
        #expect(!six.allows("198.51.100.1", "shop/web"))
    }

    @Test func `S22: TCP is the default, and a protocol without port is all its ports`() {
        var cluster = with(["ports": [[:]]])
        #expect(cluster.allows("shop/client", "shop/web", 1) && cluster.allows("shop/client", "shop/web", 65535))
        #expect(
            !cluster.allows("shop/client", "shop/web", 53, 17) && !cluster.allows("shop/client", "shop/web", nil, 1))
        cluster = with(["ports": [["port": 80], ["protocol": "UDP"]]])
        #expect(cluster.allows("shop/client", "shop/web", 80) && cluster.allows("shop/client", "shop/web", 5, 17))
        #expect(!cluster.allows("shop/client", "shop/web", 5) && !cluster.allows("shop/client", "shop/web", 80, 132))
    }

    @Test func `S23: the end of a range belongs to it; what is no range matches nothing`() {
        var cluster = with([
            "ports": [["port": 8000, "endPort": 8010], ["port": 8009, "endPort": 8020], ["port": 8021]]
        ])
        for (port, allowed) in [(7999, false), (8000, true), (8010, true), (8020, true), (8021, true), (8022, false)] {
            #expect(cluster.allows("shop/client", "shop/web", port) == allowed)
        }
        for port: FieldValue in [
            ["port": 8010, "endPort": 8000], ["endPort": 8000], ["port": "http", "endPort": 9000], ["port": 0],
            ["port": 70000],
        ] {
            let notes = cluster.policy(
                "shop/p", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["ports": [port]]]])
            #expect(notes.count == 1)
            #expect([80, 8000, 8080].allSatisfy { !cluster.allows("shop/client", "shop/web", $0) })
        }
    }

    @Test func `S24: a name is the number of the pod that is connected to, by name and protocol`() {
        var cluster = with(["ports": [["port": "http"], ["port": "dns"], ["port": "dns", "protocol": "UDP"]]])
        #expect(cluster.allows("shop/client", "shop/web", 8080) && cluster.allows("shop/client", "shop/web", 53, 17))
        #expect(!cluster.allows("shop/client", "shop/web", 53) && !cluster.allows("shop/client", "shop/web", 80))
        // On egress every peer has its own number, and one pod's is not open on another.
        cluster.removePolicy("shop/p")
        cluster.pod("shop/other", ["app": "web"], ports: [ContainerPort("http", 9090)])
        cluster.policy(
            "shop/out",
            [
                "podSelector": ["matchLabels": ["app": "client"]],
                "egress": [["to": [["podSelector": ["matchLabels": ["app": "web"]]]], "ports": [["port": "http"]]]],
            ])
        #expect(cluster.allows("shop/client", "shop/web", 8080) && cluster.allows("shop/client", "shop/other", 9090))
        #expect(!cluster.allows("shop/client", "shop/web", 9090) && !cluster.allows("shop/client", "shop/other", 8080))
        #expect(!cluster.allows("shop/client", "shop/web", 8080, 17))
    }

    @Test func `S25: a name that nobody has matches nothing`() {
        var cluster = with(["from": [["podSelector": [:]]], "ports": [["port": "nope"]]])
        #expect([80, 8080, 53].allSatisfy { !cluster.allows("shop/client", "shop/web", $0) })
        cluster.policy("shop/out", ["egress": [["to": [["podSelector": [:]]], "ports": [["port": "nope"]]]]])
        #expect(!cluster.allows("shop/client", "198.51.100.1", 80) && !cluster.allows("shop/web", "shop/client", 80))
    }

    @Test func `S26: a name on egress without peers is any pod that has it, and nobody outside`() {
        var cluster = cluster
        cluster.pod("lab/server", ports: [ContainerPort("http", 7070)])
        cluster.policy(
            "shop/out", ["podSelector": ["matchLabels": ["app": "client"]], "egress": [["ports": [["port": "http"]]]]])
        #expect(cluster.allows("shop/client", "shop/web", 8080) && cluster.allows("shop/client", "lab/server", 7070))
        #expect(!cluster.allows("shop/client", "lab/server", 8080))
        #expect(
            !cluster.allows("shop/client", "198.51.100.1", 8080) && !cluster.allows("shop/client", "198.51.100.1", 7070)
        )
        let block: FieldValue = ["ipBlock": ["cidr": "10.244.1.1/32"]]
        cluster.policy(
            "shop/out",
            [
                "podSelector": ["matchLabels": ["app": "client"]],
                "egress": [["to": [block], "ports": [["port": "http"]]]],
            ])
        #expect(cluster.allows("shop/client", "shop/web", 8080) && !cluster.allows("shop/client", "lab/server", 7070))
    }

    @Test func `S27: a port is the pod's and not the service's`() {
        let virtual = IPAddress("10.96.0.10")!
        let (client, web) = (cluster.address("shop/client"), cluster.address("shop/web"))
        let pods = with(["ports": [["port": 8080]]]).table()
        let services = with(["ports": [["port": 80]]]).table()
        for (table, outcome) in [(pods, Evaluation.Outcome.accept), (services, .drop)] {
            // The client asked for port 80 of the service; conntrack's answer comes from 8080 of the pod.
            let packet = Packet(from: client, Port(40_000), to: web, Port(8080), protocolNumber: 6)
            let connection = Connection(
                original: ConnectionTuple(source: client, Port(40_000), destination: virtual, Port(80), 6),
                reply: packet.tuple.inverted)
            let found = RulesetEvaluator(table, in: RulesetElements([table])).evaluate(
                chain: "forward", packet, connection)
            #expect(found.map(\.outcome) == [outcome])
        }
    }

    @Test(arguments: [TransportProtocol.udp, .sctp])
    func `S28: to allow one protocol isolates the others`(transport: TransportProtocol) {
        let cluster = with(["ports": [["protocol": .string("\(transport)".uppercased()), "port": 80]]])
        for other in TransportProtocol.allCases {
            #expect(cluster.allows("shop/client", "shop/web", 80, other.rawValue) == (other == transport))
        }
    }

    @Test func `S29: rules without ports match ICMP, errors about a connection pass, discovery is left alone`() {
        let cluster = with(["from": [["podSelector": ["matchLabels": ["app": "client"]]]]])
        #expect(
            cluster.allows("shop/client", "shop/web", nil, 1) && !cluster.allows("198.51.100.1", "shop/web", nil, 1))
        let (router, web) = (IPAddress("192.0.2.1")!, cluster.address("shop/web"))
        #expect(cluster.table().decide(from: router, to: web, 1, nil, state: .related).outcome == .accept)
        #expect(cluster.table().decide(from: router, to: web, 1, nil, state: .new).outcome == .drop)
        let (six, peer) = (cluster.address("shop/web", .ipv6), IPAddress("fe80::7")!)
        #expect(cluster.table().decide(from: peer, to: six, 58, nil, state: .untracked).outcome == .accept)
        #expect(cluster.table().decide(from: peer, to: six, 58, nil, state: .related).outcome == .accept)
    }

    @Test func `an invalid packet is kept from pods, isolated or not, and is nobody's business elsewhere`() {
        let table = cluster.table()
        func outcome(from source: String, to destination: String) -> Evaluation.Outcome? {
            let ends = [source, destination].map { cluster.address($0) }
            let packet = Packet(from: ends[0], Port(40_000), to: ends[1], Port(80), protocolNumber: 6)
            // Conntrack has nothing to say of it.
            return RulesetEvaluator(table, in: RulesetElements([table])).evaluate(chain: "forward", packet, nil).first?
                .outcome
        }
        #expect(outcome(from: "198.51.100.1", to: "shop/web") == .drop)
        #expect(outcome(from: "shop/web", to: "198.51.100.1") == .drop)
        #expect(outcome(from: "198.51.100.1", to: "203.0.113.1") == .accept)
    }

    @Test func `S30: what the node itself sends is not looked at; another node's is`() {
        let cluster = with(["from": [["podSelector": [:]]]])
        #expect(cluster.table().chains.values.compactMap(\.hook) == [Hook(.filter, .forward, priority: 10)])
        #expect(!cluster.allows("172.30.0.12", "shop/web"))
    }

    @Test func `S31: a pod in its node's network is neither subject nor peer`() {
        var cluster = with(["from": [["podSelector": [:]]]])
        cluster.pod("shop/host", ["app": "web"]) { pod in
            pod.spec.isHostNetwork = true
            pod.addresses = [IPAddress("172.30.0.11")!]
        }
        #expect(!cluster.allows("172.30.0.11", "shop/web"))
        #expect(cluster.allows("198.51.100.1", "172.30.0.11"))
        let table = cluster.table()
        #expect(!table.text.contains("172.30.0.11"))
        cluster.policy(
            "shop/p",
            [
                "podSelector": ["matchLabels": ["app": "web"]],
                "ingress": [["from": [["ipBlock": ["cidr": "172.30.0.0/24"]]]]],
            ])
        #expect(cluster.allows("172.30.0.11", "shop/web"))
    }

    @Test func `S32: answers to what is allowed are allowed, on both nodes`() {
        var cluster = cluster
        cluster.policy("shop/all", ["policyTypes": ["Ingress", "Egress"]])
        cluster.policy(
            "shop/web", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["ports": [["port": 80]]]]])
        cluster.policy("shop/client", ["podSelector": ["matchLabels": ["app": "client"]], "egress": [[:]]])
        let (client, web) = (cluster.address("shop/client"), cluster.address("shop/web"))
        #expect(cluster.allows("shop/client", "shop/web") && !cluster.allows("shop/web", "shop/client"))
        for node in ["n1", "n2"] {
            // Judged by the rules and not by the epoch: the mark is that of a connection nobody has looked at yet.
            let table = cluster.table(node)
            let answer = table.decide(from: client, to: web, isAnswer: true, state: .established)
            #expect(answer.outcome == .accept && answer.connection?.mark == 0x0010_0000)
            let judged = table.decide(from: client, to: web, isAnswer: true, state: .established, mark: 0x0010_0000)
            #expect(judged.hits.map(\.position) == [0] && judged.outcome == .accept)
        }
    }

    @Test func `S33: connections carry the epoch they were judged in, beside the bits of others`() {
        var cluster = with(["from": [["podSelector": ["matchLabels": ["app": "client"]]]]])
        let (client, web) = (cluster.address("shop/client"), cluster.address("shop/web"))
        let first = cluster.table().decide(from: client, to: web, mark: 0x0000_4001)
        #expect(first.outcome == .accept && first.connection?.mark == 0x0010_4001)
        cluster.policy("shop/p", ["podSelector": ["matchLabels": ["app": "web"]]])
        // With the old epoch in force the connection lives on; a new one ends it, whichever side speaks.
        #expect(
            cluster.table().decide(from: client, to: web, state: .established, mark: 0x0010_4001).outcome == .accept)
        let next = PolicyTable.whole(cluster.snapshot, nodeName: "n1", epoch: PolicyEpoch(1)!.next)
        for isAnswer in [false, true] {
            let end = next.decide(from: client, to: web, isAnswer: isAnswer, state: .established, mark: 0x0010_4001)
            #expect(end.outcome == .drop && end.deciding?.rule.comment == "deny:in:shop/p")
        }
    }

    @Test func `S34: a pod reaches itself through a service, whatever its policies`() {
        var cluster = cluster
        cluster.policy("shop/all", ["policyTypes": ["Ingress", "Egress"]])
        for family in AddressFamily.allCases {
            #expect(cluster.allows("shop/web", "shop/web", family: family))
            #expect(!cluster.allows("shop/web", "shop/client", family: family))
        }
    }

    @Test func `S35: the decision is about the client before masquerading and the pod behind the service`() {
        let cluster = with(["from": [["ipBlock": ["cidr": "198.51.100.0/24"]]]])
        let table = cluster.table()
        let (client, web, node) = (IPAddress("198.51.100.9")!, cluster.address("shop/web"), IPAddress("172.30.0.11")!)
        let packet = Packet(from: client, Port(40_000), to: web, Port(80), protocolNumber: 6)
        let connection = Connection(
            original: ConnectionTuple(source: client, Port(40_000), destination: node, Port(30080), 6),
            reply: ConnectionTuple(source: web, Port(80), destination: node, Port(50_000), 6))
        let found = RulesetEvaluator(table, in: RulesetElements([table])).evaluate(chain: "forward", packet, connection)
        #expect(found.map(\.outcome) == [.accept])
    }
}
