import KubernetesObjects
import NetworkAddresses
import Testing

@testable import PolicyRules

/// When live connections are judged again, and when not.
@Suite struct RevocationTests {
    private var cluster = Cluster()
    private var compiler = PolicyCompiler(nodeName: "n1")

    init() {
        cluster.namespace("shop", ["team": "sales"])
        cluster.pod("shop/web", ["app": "web"], ports: [ContainerPort("http", 8080)])
        cluster.pod("shop/client", ["app": "client"], on: "n2")
        cluster.pod("lab/bystander", ["app": "bystander"], on: "n2")
        cluster.policy("shop/p", Self.spec(from: ["podSelector": ["matchLabels": ["app": "client"]]], port: 80))
        load()
    }

    private static func spec(from peer: FieldValue, port: FieldValue) -> FieldValue {
        ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["from": [peer], "ports": [["port": port]]]]]
    }

    /// A compiler that knows the cluster and has been asked once.
    private mutating func load() {
        for node in cluster.snapshot.nodes.values { compiler.apply(.set(.node(node))) }
        for namespace in cluster.snapshot.namespaces.values { compiler.apply(.set(.namespace(namespace))) }
        for pod in cluster.snapshot.pods.values { compiler.apply(.set(.pod(pod))) }
        for policy in cluster.snapshot.networkPolicies.values { compiler.apply(.set(.networkPolicy(policy))) }
        #expect(!compiler.takeContributions().isRestrictive, "the first update compares with nothing")
        #expect(compiler.takeContributions().isEmpty)
    }

    /// The update that follows a change of the cluster, with what the compiler was told of it.
    private mutating func update(_ change: (inout Cluster) -> Void) -> PolicyUpdate {
        let before = cluster.snapshot
        change(&cluster)
        let after = cluster.snapshot
        for (key, pod) in after.pods where before.pods[key] != pod { compiler.apply(.set(.pod(pod))) }
        for key in before.pods.keys where after.pods[key] == nil {
            compiler.apply(.removed(ObjectReference(.pod, key)))
        }
        for (key, policy) in after.networkPolicies where before.networkPolicies[key] != policy {
            compiler.apply(.set(.networkPolicy(policy)))
        }
        for key in before.networkPolicies.keys where after.networkPolicies[key] == nil {
            compiler.apply(.removed(ObjectReference(.networkPolicy, key)))
        }
        for (name, namespace) in after.namespaces where before.namespaces[name] != namespace {
            compiler.apply(.set(.namespace(namespace)))
        }
        for (name, node) in after.nodes where before.nodes[name] != node { compiler.apply(.set(.node(node))) }
        return compiler.takeContributions()
    }

    @Test mutating func `what is added disturbs nobody`() {
        let anyone: FieldValue = ["namespaceSelector": [:]]
        let client: FieldValue = ["podSelector": ["matchLabels": ["app": "client"]]]
        let steps: [(inout Cluster) -> Void] = [
            { $0.pod("shop/client-2", ["app": "client"], on: "n2") },
            { $0.pod("shop/web-2", ["app": "web"]) },
            { $0.policy("shop/q", Self.spec(from: anyone, port: 443)) },
            {
                $0.policy(
                    "shop/p",
                    [
                        "podSelector": ["matchLabels": ["app": "web"]],
                        "ingress": [["from": [client], "ports": [["port": 80, "endPort": 90]]]],
                    ])
            },
            {
                $0.policy(
                    "shop/p",
                    [
                        "podSelector": ["matchLabels": ["app": "web"]],
                        "ingress": [["from": [anyone, client], "ports": [[:]]]],
                    ])
            },
            { $0.policy("shop/p", ["podSelector": ["matchLabels": ["app": "web"]], "ingress": [["ports": [[:]]]]]) },
            { $0.pod("lab/bystander", ["app": "client"], on: "n2") },
            {
                $0.removePolicy("shop/p"); $0.removePolicy("shop/q")
            },
            { $0.policy("lab/nobody-here", ["podSelector": [:]]) },
        ]
        for (index, step) in steps.enumerated() {
            let update = update(step)
            #expect(!update.isRestrictive, "step \(index)")
        }
    }

    @Test mutating func `a pod that merely goes, and a policy of no consequence, disturb nobody`() {
        #expect(!update { $0.removePod("shop/client") }.isRestrictive)
        #expect(
            !update {
                $0.pod("shop/web", ["app": "web"]) { $0.metadata.deletionTimestamp = Timestamp(secondsSince1970: 1) }
            }.isRestrictive)
        #expect(!update { $0.pod("shop/web", ["app": "web"]) { $0.phase = .failed } }.isRestrictive)
        #expect(!update { $0.policy("elsewhere/p", ["policyTypes": ["Ingress", "Egress"]]) }.isRestrictive)
    }

    private static let revocations: [@Sendable (inout Cluster) -> Void] = [
        // a pod that was free is isolated, in either direction
        { $0.policy("shop/q", ["podSelector": ["matchLabels": ["app": "web"]], "policyTypes": ["Egress"]]) },
        // a peer loses its label, or its namespace does
        { $0.pod("shop/client", ["app": "other"], on: "n2") },
        // a rule goes, gets narrower, or gets another peer or port
        { $0.policy("shop/p", ["podSelector": ["matchLabels": ["app": "web"]]]) },
        {
            $0.policy(
                "shop/p",
                RevocationTests.spec(from: ["podSelector": ["matchLabels": ["app": "client", "tier": "x"]]], port: 80))
        },
        {
            $0.policy(
                "shop/p", RevocationTests.spec(from: ["podSelector": ["matchLabels": ["app": "client"]]], port: 81))
        },
        {
            $0.policy(
                "shop/p", RevocationTests.spec(from: ["podSelector": ["matchLabels": ["app": "client"]]], port: "http"))
        },
        // a pod's labels bring it under a policy
        { cluster in
            cluster.policy("shop/new", ["podSelector": ["matchLabels": ["app": "web"]], "policyTypes": ["Egress"]])
        },
    ]

    @Test(arguments: revocations.indices) mutating func `what is taken away swaps the epoch, once`(index: Int) {
        let update = update(Self.revocations[index])
        #expect(update.isRestrictive)
        #expect(compiler.takeContributions().isEmpty)
    }

    @Test mutating func `a namespace that loses a label takes it from its pods`() {
        let science: FieldValue = ["namespaceSelector": ["matchLabels": ["team": "science"]]]
        #expect(!update { $0.policy("shop/q", Self.spec(from: science, port: 80)) }.isRestrictive)
        #expect(!update { $0.namespace("lab", ["team": "science"]) }.isRestrictive)
        #expect(update { $0.namespace("lab", ["team": "arts"]) }.isRestrictive)
    }

    @Test mutating func `an address that comes back with less is not served by what it left in conntrack`() {
        let address = cluster.address("shop/client")
        #expect(!update { $0.removePod("shop/client") }.isRestrictive)
        // The next pod with the address is nobody's client.
        #expect(update { cluster in cluster.pod("lab/next", on: "n2") { $0.addresses = [address] } }.isRestrictive)
        #expect(!update { $0.removePod("lab/next") }.isRestrictive)
        #expect(
            !update { cluster in cluster.pod("shop/client", ["app": "client"], on: "n2") { $0.addresses = [address] } }
                .isRestrictive)
        #expect(!update { $0.removePod("shop/client") }.isRestrictive)
        #expect(
            !update { cluster in cluster.pod("shop/client-2", ["app": "client"], on: "n2") { $0.addresses = [address] }
            }.isRestrictive)
    }

    @Test mutating func `a local address that comes back under stricter policies is judged again`() {
        let address = cluster.address("shop/web")
        #expect(!update { $0.removePod("shop/web") }.isRestrictive)
        #expect(
            !update { cluster in cluster.pod("shop/web-2", ["app": "web"]) { $0.addresses = [address] } }.isRestrictive)
        #expect(!update { $0.removePod("shop/web-2") }.isRestrictive)
        let strict: FieldValue = [
            "podSelector": ["matchLabels": ["app": "strict"]], "policyTypes": ["Ingress", "Egress"],
        ]
        #expect(!update { $0.policy("shop/strict", strict) }.isRestrictive)
        #expect(
            update { cluster in cluster.pod("shop/strict", ["app": "strict"]) { $0.addresses = [address] } }
                .isRestrictive)
    }

    @Test(arguments: [true, false])
    mutating func `a pod that comes back finds its old connections without those who are no peers any more`(
        isRelabelled: Bool
    ) {
        let (web, client) = (cluster.address("shop/web"), cluster.address("shop/client"))
        // With the last pod under the policy nobody asks any more who its peers are.
        #expect(!update { $0.removePod("shop/web") }.isRestrictive)
        let change: (inout Cluster) -> Void = { cluster in
            if isRelabelled { return cluster.pod("shop/client", ["app": "other"], on: "n2") }
            cluster.removePod("shop/client")
            cluster.pod("lab/next", on: "n2") { $0.addresses = [client] }
        }
        #expect(!update(change).isRestrictive)
        #expect(update { cluster in cluster.pod("shop/web", ["app": "web"]) { $0.addresses = [web] } }.isRestrictive)
    }

    @Test mutating func `a pod outside the closed gate may have spoken before it was isolated`() {
        let (inside, outside) = ([IPAddress("10.244.1.77")!], [IPAddress("192.168.5.5")!])
        #expect(!update { cluster in cluster.pod("shop/in", ["app": "web"]) { $0.addresses = inside } }.isRestrictive)
        #expect(update { cluster in cluster.pod("shop/out", ["app": "web"]) { $0.addresses = outside } }.isRestrictive)
    }

    @Test mutating func `a gate that closes more swaps the epoch, one that opens does not`() {
        func networks(_ texts: String...) -> (inout Cluster) -> Void {
            { cluster in
                let node = Node(
                    metadata: ObjectMetadata(name: "n1", namespace: ""), podCIDRs: texts.map { IPPrefix($0)! })
                cluster.snapshot.apply(.set(.node(node)))
            }
        }
        let narrower = update(networks("10.244.1.0/24"))
        #expect(!narrower.isRestrictive && narrower.frameChains.keys.sorted() == ["evaluate"])
        #expect(update(networks("10.244.1.0/24", "10.99.0.0/16")).isRestrictive)
    }

    @Test mutating func `work is for those concerned: a pod in no group, and news of no matter, cost nothing`() {
        #expect(update { $0.pod("lab/new", ["app": "x"], on: "n2") }.isEmpty)
        #expect(update { $0.pod("shop/client", ["app": "client"], on: "n2") { $0.readyCondition = true } }.isEmpty)
        #expect(update { $0.policy("lab/p", ["policyTypes": ["Ingress", "Egress"]]) }.isEmpty)
        #expect(update { $0.namespace("lab", ["team": "science"]) }.isEmpty)
        let owners = update { $0.pod("shop/client-2", ["app": "client"], on: "n2") }.contributions.map(
            \.owner.description)
        #expect(owners == ["pod shop/client-2"])
    }
}
