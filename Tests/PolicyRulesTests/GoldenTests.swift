import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

extension Cluster {
    /// Two replicas under two policies that have a rule of every kind, and the peers of these.
    static let withEveryRule: Cluster = {
        var cluster = Cluster()
        cluster.namespace("lab", ["team": "science"])
        for name in ["shop/web-0", "shop/web-1"] {
            cluster.pod(name, ["app": "web"], ports: [ContainerPort("http", 8080)]) { $0.addresses.removeLast() }
        }
        cluster.pod("shop/front", ["app": "front"], on: "n2")
        cluster.pod("lab/probe", ["app": "probe"], on: "n2", ports: [ContainerPort("metrics", 9100)])
        cluster.policy(
            "shop/allow",
            [
                "podSelector": ["matchLabels": ["app": "web"]],
                "ingress": [
                    [
                        "from": [
                            ["podSelector": ["matchLabels": ["app": "front"]]],
                            ["ipBlock": ["cidr": "198.51.0.0/16", "except": ["198.51.100.0/24"]]],
                            ["ipBlock": ["cidr": "203.0.113.0/24"]], ["ipBlock": ["cidr": "0.0.0.0/0"]],
                            ["ipBlock": ["cidr": "::/0"]],
                        ],
                        "ports": [["port": "http"], ["port": 8000, "endPort": 8002], ["port": 8003]],
                    ], ["ports": [["protocol": "UDP"]]],
                ],
                "egress": [
                    [
                        "to": [["namespaceSelector": ["matchLabels": ["team": "science"]]]],
                        "ports": [["port": "metrics"]],
                    ]
                ],
            ])
        cluster.policy("shop/deny", ["podSelector": ["matchLabels": ["app": "web"]]])
        return cluster
    }()
}

/// What the table looks like, in nft's words.
@Suite struct GoldenTests {
    private func lines(of name: String, in table: Ruleset) -> String {
        let text = Ruleset(table.table, chains: [name: table.chains[name]!]).text
        return text.split(separator: "\n").dropFirst().dropLast().map { $0.dropFirst(4) }.joined(separator: "\n")
    }

    @Test func `the frame of a node`() {
        let node = PolicyNode(name: "n1", podCIDRs: [IPPrefix("10.244.1.0/24")!])
        let frame = PolicyTable.frame(on: node, epoch: PolicyEpoch(5)!)
        #expect(
            frame.sets.mapValues(\.definition.key.count) == [
                "egress4": 1, "egress6": 1, "ingress4": 1, "ingress6": 1, "local-pods4": 1, "local-pods6": 1,
                "members4": 2, "members6": 2, "hairpin4": 2, "hairpin6": 2,
            ])
        #expect(
            lines(of: "forward", in: frame) == """
                chain forward {
                    type filter hook forward priority 10; policy accept;
                    ct state established,related ct mark & 0x0ff00000 == 0x00500000 accept comment "judged:by the policies in force"
                    ct state related meta l4proto 1 accept comment "related:icmp error about a connection"
                    ct state related meta l4proto 58 accept comment "related:icmpv6 error about a connection"
                    ct mark set ct mark & 0xf00fffff | 0x00000000
                    jump evaluate
                    ct mark set ct mark & 0xf00fffff | 0x00500000
                }
                """)
        #expect(
            lines(of: "evaluate", in: frame) == """
                chain evaluate {
                    ip saddr 10.244.1.0/24 ip saddr != @local-pods4 counter drop comment "closed:unknown local address"
                    ip daddr 10.244.1.0/24 ip daddr != @local-pods4 counter drop comment "closed:unknown local address"
                    ct state invalid,untracked goto unconnected
                    ct original ip saddr . ct reply ip saddr @hairpin4 return comment "self:a pod that reached itself through a service"
                    ct original ip6 saddr . ct reply ip6 saddr @hairpin6 return comment "self:a pod that reached itself through a service"
                    ct original ip saddr vmap @egress4
                    ct original ip6 saddr vmap @egress6
                    ct reply ip saddr vmap @ingress4
                    ct reply ip6 saddr vmap @ingress6
                }
                """)
        #expect(
            lines(of: "unconnected", in: frame) == """
                chain unconnected {
                    ct state invalid ip saddr @local-pods4 counter drop comment "invalid:part of no connection"
                    ct state invalid ip daddr @local-pods4 counter drop comment "invalid:part of no connection"
                    ct state invalid ip6 saddr @local-pods6 counter drop comment "invalid:part of no connection"
                    ct state invalid ip6 daddr @local-pods6 counter drop comment "invalid:part of no connection"
                    ct state untracked meta l4proto 58 return comment "untracked:neighbour discovery"
                    ip saddr vmap @egress4
                    ip6 saddr vmap @egress6
                    ip daddr vmap @ingress4
                    ip6 daddr vmap @ingress6
                }
                """)
    }

    @Test func `a rule of every kind, in one profile for all replicas`() {
        let cluster = Cluster.withEveryRule
        let table = cluster.table()
        let profiles = table.chains.keys.filter { $0.hasPrefix("in-") || $0.hasPrefix("out-") }.sorted()
        #expect(profiles == ["in-0b3fdbed-shop/allow", "out-b1d370e6-shop/allow"])
        let texts = profiles.map { lines(of: $0, in: table) }
        #expect(
            texts.first == """
                chain in-0b3fdbed-shop/allow {
                    meta l4proto tcp ct reply proto-src 8000-8003 numgen inc mod 1 offset 407777161 . ct original ip saddr @members4 return comment "np:shop/allow:in:0.0"
                    meta l4proto tcp ct reply proto-src 8080 numgen inc mod 1 offset 407777161 . ct original ip saddr @members4 return comment "np:shop/allow:in:0.0"
                    meta l4proto tcp ct reply proto-src 8000-8003 ct original ip saddr @cidr4-8fc1d80a return comment "np:shop/allow:in:0.1"
                    meta l4proto tcp ct reply proto-src 8080 ct original ip saddr @cidr4-8fc1d80a return comment "np:shop/allow:in:0.1"
                    meta l4proto tcp ct reply proto-src 8000-8003 ct original ip saddr 203.0.113.0/24 return comment "np:shop/allow:in:0.2"
                    meta l4proto tcp ct reply proto-src 8080 ct original ip saddr 203.0.113.0/24 return comment "np:shop/allow:in:0.2"
                    meta l4proto tcp ct reply proto-src 8000-8003 meta nfproto ipv4 return comment "np:shop/allow:in:0.3"
                    meta l4proto tcp ct reply proto-src 8080 meta nfproto ipv4 return comment "np:shop/allow:in:0.3"
                    meta l4proto udp return comment "np:shop/allow:in:1.-"
                    limit rate 10/second burst 20 packets log prefix "D|in|shop/allow" group 5
                    counter drop comment "deny:in:shop/allow,shop/deny"
                }
                """)
        #expect(
            texts.last == """
                chain out-b1d370e6-shop/allow {
                    meta l4proto tcp ct reply proto-src 9100 numgen inc mod 1 offset 2061129190 . ct reply ip saddr @members4 return comment "np:shop/allow:out:0.0"
                    limit rate 10/second burst 20 packets log prefix "D|out|shop/allow" group 5
                    counter drop comment "deny:out:shop/allow"
                }
                """)
        func elements(_ set: String) -> [String] {
            let set = table.sets[set]!
            return set.elements.values.map { set.definition.text(of: $0) }.sorted()
        }
        #expect(
            elements("ingress4") == [
                "10.244.1.1 comment \"pod shop/web-0\" : jump in-0b3fdbed-shop/allow",
                "10.244.1.2 comment \"pod shop/web-1\" : jump in-0b3fdbed-shop/allow",
            ])
        #expect(
            elements("members4") == [
                "2061129190 . 10.244.2.2 comment \"pod lab/probe\"",
                "407777161 . 10.244.2.1 comment \"pod shop/front\"",
            ])
        #expect(elements("cidr4-8fc1d80a") == ["198.51.0.0-198.51.99.255", "198.51.101.0-198.51.255.255"])
        #expect(elements("hairpin4").first == "10.244.1.1 . 10.244.1.1 comment \"pod shop/web-0\"")
    }

    @Test func `the longest names are cut so that the kernel and its tools take them, and rules keep their position`()
        throws
    {
        let (namespace, name) = (String(repeating: "n", count: 63), String(repeating: "p", count: 253))
        var cluster = Cluster()
        cluster.pod("\(namespace)/x")
        cluster.policy(
            "\(namespace)/\(name)", ["ingress": [["from": [["podSelector": [:]], ["namespaceSelector": [:]]]]]])
        let table = cluster.table()
        let (chain, profile) = try #require(table.chains.first { $0.key.hasPrefix("in-") })
        #expect(chain.utf8.count == 128 && chain.contains("-\(namespace)/pp"))
        let comments = profile.rules.compactMap(\.comment)
        #expect(comments.allSatisfy { $0.utf8.count <= longestComment })
        #expect(comments.contains { $0.hasPrefix("np:\(namespace)/pp") && $0.hasSuffix("p~:in:0.1") })
        for case .log(let prefix, _) in profile.rules.flatMap(\.statements) {
            #expect(prefix.utf8.count == 127 && prefix.hasPrefix("D|in|\(namespace)/pp"))
        }
    }
}
