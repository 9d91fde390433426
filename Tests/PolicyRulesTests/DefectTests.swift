import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import Testing

@testable import PolicyRules

/// What other implementations were found to get wrong: D1 to D8 of the reference.
@Suite struct DefectTests {
    private let cluster: Cluster = {
        var cluster = Cluster()
        cluster.pod("shop/a", ["app": "a"], ports: [ContainerPort("http", 80)])
        cluster.pod("shop/b", ["app": "b"], ports: [ContainerPort("http", 8080)])
        return cluster
    }()
    private let toB: FieldValue = [["podSelector": ["matchLabels": ["app": "b"]]]]

    @Test func `D1: one policy of both directions does not let its egress rule open its ingress`() {
        var cluster = cluster
        cluster.policy("shop/p", ["policyTypes": ["Ingress", "Egress"], "egress": [["to": toB]]])
        #expect(!cluster.allows("shop/a", "shop/b", 8080))
        cluster.policy(
            "shop/p", ["policyTypes": ["Ingress", "Egress"], "ingress": [["from": [["podSelector": [:]]]]]])
        #expect(!cluster.allows("shop/a", "shop/b", 8080))
    }

    @Test func `D2: a name that nobody has is no rule without port, and a name on egress is not its number anywhere`() {
        var cluster = cluster
        cluster.policy("shop/p", ["ingress": [["from": [["podSelector": [:]]], "ports": [["port": "nope"]]]]])
        #expect([80, 8080].allSatisfy { !cluster.allows("shop/a", "shop/b", $0) })
        cluster.policy("shop/p", ["policyTypes": ["Egress"], "egress": [["ports": [["port": "http"]]]]])
        #expect(cluster.allows("shop/a", "shop/b", 8080) && !cluster.allows("shop/a", "shop/b", 80))
        #expect([80, 8080].allSatisfy { !cluster.allows("shop/a", "198.51.100.1", $0) })
    }

    @Test func `D3: an exception of one peer does not count against another`() {
        var cluster = cluster
        cluster.policy(
            "shop/p",
            [
                "ingress": [
                    [
                        "from": [
                            ["ipBlock": ["cidr": "198.51.100.0/24", "except": ["198.51.100.0/25"]]],
                            ["ipBlock": ["cidr": "198.51.100.0/26"]],
                        ]
                    ]
                ]
            ])
        #expect(cluster.allows("198.51.100.1", "shop/a") && cluster.allows("198.51.100.200", "shop/a"))
        #expect(!cluster.allows("198.51.100.100", "shop/a"))
    }

    @Test func `D4: overlapping exceptions make ranges that an interval set takes`() {
        let block = IPBlock(
            cidr: IPPrefix("10.0.0.0/8")!,
            except: [
                "10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/16", "10.255.0.0/16", "10.1.0.0/16", "10.2.0.0/16",
                "11.0.0.0/8",
            ]
            .map { IPPrefix($0)! })
        #expect(AddressRanges(block).text == "10.3.0.0-10.254.255.255")
        let halves = IPBlock(
            cidr: IPPrefix("10.0.0.0/8")!, except: ["10.64.0.0/16", "10.128.0.0/9"].map { IPPrefix($0)! })
        #expect(AddressRanges(halves).text == "10.0.0.0-10.63.255.255,10.65.0.0-10.127.255.255")
    }

    @Test(arguments: ["::1", "64:ff9b::1", "2000::1", "3fff::1", "4000::1", "fc00::1", "fe80::1", "ffff::1"])
    func `D5: all of IPv6 is all of it`(address: String) {
        var cluster = cluster
        for cidrs: FieldValue in [
            [["ipBlock": ["cidr": "::/0"]]], [["ipBlock": ["cidr": "::/0", "except": ["2001:db8::/32"]]]],
        ] {
            cluster.policy("shop/p", ["ingress": [["from": cidrs]]])
            #expect(cluster.allows(address, "shop/a", family: .ipv6))
        }
        #expect(!cluster.allows("2001:db8::1", "shop/a", family: .ipv6))
    }

    @Test func `D6: a server that goes on talking does not open the connection that was revoked`() {
        var cluster = cluster
        cluster.policy("shop/p", ["podSelector": ["matchLabels": ["app": "b"]]])
        let (client, server) = (cluster.address("shop/a"), cluster.address("shop/b"))
        // Nothing keeps b from calling a of its own accord.
        #expect(cluster.allows("shop/b", "shop/a", 40_000))
        let answer = cluster.table().decide(
            from: client, to: server, isAnswer: true, state: .established, mark: PolicyEpoch(9)!.mark.value)
        #expect(answer.outcome == .drop)
        // Nor does the connection keep its epoch, so that it is no other's turn when that number comes round again.
        #expect(answer.connection?.mark == 0)
    }

    @Test func `D7: isolation in one direction decides nothing in the other`() {
        var cluster = cluster
        cluster.policy("shop/p", ["podSelector": ["matchLabels": ["app": "a"]]])
        let table = cluster.table()
        // Nothing leads a's own connections to a profile, so a later tier still has its say on them.
        #expect(table.sets["ingress4"]!.elements.count == 1 && table.sets["egress4"]!.elements.isEmpty)
        #expect(cluster.allows("shop/a", "shop/b") && !cluster.allows("shop/b", "shop/a"))
    }

    @Test(arguments: ["10.0.0.0", "10.0.0.0/", "10.0.0/8", "10.0.0.256/8", "::/129", "fd00:/8", "any"])
    func `D8: a block that cannot be read matches nothing instead of everything`(cidr: String) {
        var cluster = cluster
        #expect(cluster.policy("shop/p", ["ingress": [["from": [["ipBlock": ["cidr": .string(cidr)]]]]]]).count == 1)
        #expect(!cluster.allows("10.0.0.1", "shop/a") && !cluster.allows("shop/b", "shop/a"))
        #expect(!cluster.allows("fd00::1", "shop/a", family: .ipv6))
    }
}
