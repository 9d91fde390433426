import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

/// NetworkPolicy as the API defines it, S36 to S40 of the checklist: pods that come and go.
@Suite struct LifecycleSemanticsTests {
    private let cluster: Cluster = {
        var cluster = Cluster()
        cluster.pod("shop/web", ["app": "web"])
        cluster.pod("shop/client", ["app": "client"])
        cluster.policy(
            "shop/p",
            [
                "podSelector": ["matchLabels": ["app": "web"]],
                "ingress": [["from": [["podSelector": ["matchLabels": ["app": "client"]]]]]],
            ])
        return cluster
    }()

    @Test func `S36: a pod is under its policies as soon as it is attached, before anybody reports its address`() {
        var cluster = cluster
        cluster.pod("shop/new", ["app": "web"]) { pod in
            pod.addresses = []
            pod.phase = .pending
        }
        let address = IPAddress("10.244.1.50")!
        let (client, other) = (cluster.address("shop/client"), IPAddress("198.51.100.1")!)
        // Before it is attached nobody has the address, and the gate is closed to all, both ways.
        #expect(!cluster.table().allows(from: client, to: address, 6, Port(80)))
        #expect(!cluster.table().allows(from: address, to: other, 6, Port(80)))
        cluster.attachments = [
            LocalAttachment(containerID: "1", podNamespace: "shop", podName: "new", addresses: [address])
        ]
        let table = cluster.table()
        #expect(table.allows(from: client, to: address, 6, Port(80)))
        #expect(
            !table.allows(from: other, to: address, 6, Port(80)) && table.allows(from: address, to: other, 6, Port(80)))
    }

    @Test func `S36: an attached pod that nobody told of is closed where policies may be about it, and open elsewhere`()
    {
        var cluster = cluster
        let (address, other) = (IPAddress("192.168.7.7")!, IPAddress("198.51.100.1")!)
        func attach(_ namespace: String) -> (in: Bool, out: Bool) {
            cluster.attachments = [
                LocalAttachment(containerID: "1", podNamespace: namespace, podName: "unknown", addresses: [address])
            ]
            let table = cluster.table()
            return (
                table.allows(from: other, to: address, 6, Port(80)), table.allows(from: address, to: other, 6, Port(80))
            )
        }
        // The one policy of shop isolates ingress only.
        #expect(attach("shop") == (false, true))
        #expect(attach("lab") == (true, true))
        #expect(attach("") == (true, true))
        #expect(cluster.table().sets["local-pods4"]!.elements[ElementKey(.address(address))]?.comment == "container 1")
    }

    @Test func `S37: a pod that has ended has no address, one that is ending is still policed`() {
        var cluster = cluster
        #expect(cluster.allows("shop/client", "shop/web"))
        cluster.pod("shop/client", ["app": "client"]) { $0.phase = .succeeded }
        #expect(!cluster.table().text.contains("shop/client"))
        cluster.pod("shop/client", ["app": "client"]) { pod in
            pod.phase = .running
            pod.metadata.deletionTimestamp = Timestamp(secondsSince1970: 7)
        }
        #expect(cluster.allows("shop/client", "shop/web"))
        cluster.pod("shop/web", ["app": "web"]) { $0.metadata.deletionTimestamp = Timestamp(secondsSince1970: 7) }
        #expect(cluster.allows("shop/client", "shop/web") && !cluster.allows("198.51.100.1", "shop/web"))
    }

    @Test func `S38: an address of two pods is that of the one that stays, then of the newer`() {
        var cluster = cluster
        let shared = cluster.address("shop/client")
        func add(_ name: String, created: Int64, terminating: Bool = false, labels: [String: String]) {
            cluster.pod(name, labels) { pod in
                pod.addresses = [shared]
                pod.metadata.creationTimestamp = Timestamp(secondsSince1970: created)
                if terminating { pod.metadata.deletionTimestamp = Timestamp(secondsSince1970: 99) }
            }
        }
        var isClient: Bool { cluster.table().allows(from: shared, to: cluster.address("shop/web"), 6, Port(80)) }
        add("shop/client", created: 1, labels: ["app": "client"])
        #expect(isClient)
        add("shop/next", created: 2, labels: ["app": "other"])
        #expect(!isClient)
        add("shop/next", created: 2, terminating: true, labels: ["app": "other"])
        #expect(isClient)
        // What this node attached itself, it knows better than what is reported.
        cluster.attachments = [
            LocalAttachment(containerID: "1", podNamespace: "shop", podName: "next", addresses: [shared])
        ]
        #expect(!isClient)
        cluster.attachments = []
        cluster.removePod("shop/client")
        #expect(!isClient)
    }

    @Test func `S39: every address of a pod counts, of both families, as subject and as peer`() {
        var cluster = cluster
        let more = [IPAddress("10.244.1.100")!, IPAddress("fd00:10:244:1::100")!]
        for name in ["shop/web", "shop/client"] {
            let offset: UInt128 = name == "shop/web" ? 0 : 1
            cluster.pod(name, ["app": name == "shop/web" ? "web" : "client"]) { pod in
                pod.addresses += more.map { $0.advanced(by: offset)! }
            }
        }
        let table = cluster.table()
        let (web, client) = (
            cluster.snapshot.pods[NamespacedName("shop/web")]!, cluster.snapshot.pods[NamespacedName("shop/client")]!
        )
        for server in web.addresses {
            for peer in client.addresses where peer.family == server.family {
                #expect(table.allows(from: peer, to: server, 6, Port(80)))
            }
            let stranger = server.family == .ipv4 ? "198.51.100.1" : "2001:db8::1"
            #expect(!table.allows(from: IPAddress(stranger)!, to: server, 6, Port(80)))
        }
    }

    @Test func `S40: what was made of a policy or a pod goes with it`() {
        var cluster = cluster
        let before = Cluster().table()
        cluster.removePolicy("shop/p")
        #expect(cluster.allows("198.51.100.1", "shop/web"))
        #expect(cluster.table().chains == before.chains && cluster.table().sets["members4"] == before.sets["members4"])
        cluster.removePod("shop/web")
        cluster.removePod("shop/client")
        #expect(cluster.table() == before)
    }
}
