import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

@Suite struct GoldenTests {
    @Test func `print`() {
        var cluster = Cluster()
        cluster.pod("shop/web", ["app": "web"], ports: [ContainerPort("http", 8080)])
        cluster.pod("shop/front", ["app": "front"], on: "n2")
        cluster.policy("shop/web", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["from": [["podSelector": ["matchLabels": ["app": "front"]]], ["ipBlock": ["cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]]]], "ports": [["port": "http"]]]]])
        Swift.print(cluster.table().text)
        #expect(cluster.allows("shop/front", "shop/web", 8080))
        #expect(!cluster.allows("shop/front", "shop/web", 80))
        #expect(cluster.allows("1.2.3.4", "shop/web", 8080))
    }
}
