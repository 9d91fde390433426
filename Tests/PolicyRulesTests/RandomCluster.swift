import KubernetesObjects
import NetworkAddresses

@testable import PolicyRules

/// Objects drawn from little: few names, labels, addresses and ports, so that they meet often.
struct RandomCluster {
    var random: SeededGenerator
    /// Whether pods may share addresses, end, be on the host's network and be attached without being known.
    let isUnruly: Bool

    static let namespaces = ["a", "b", "c"]
    static let addresses = (1...6).flatMap { number in
        [
            "10.244.1.\(number)", "10.244.2.\(number)", "192.168.0.\(number)", "fd00:10:244:1::\(number)",
            "fd00:2::\(number)",
        ]
        .map { IPAddress($0)! }
    }
    static let outside = ["198.51.100.1", "10.0.0.1", "2001:db8::1"].map { IPAddress($0)! }

    init(seed: Int, isUnruly: Bool) {
        random = SeededGenerator(seed: UInt64(seed))
        self.isUnruly = isUnruly
    }

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

    mutating func one<Item>(_ items: [Item]) -> Item { items.randomElement(using: &random)! }

    mutating func some<Item>(_ items: [Item], upTo limit: Int) -> [Item] {
        (0..<Int.random(in: 0...limit, using: &random)).map { _ in one(items) }
    }

    // MARK: - Objects

    mutating func labels() -> [String: String] {
        Dictionary(some(["app", "tier", "team"], upTo: 3).map { ($0, one(["x", "y"])) }) { first, _ in first }
    }

    mutating func namespace() -> Namespace { Namespace(name: one(Self.namespaces), labels: labels()) }

    mutating func pod(_ key: NamespacedName, addresses: [IPAddress]) -> Pod {
        let ports = some([80, 81, 8080], upTo: 2).map { number in
            ContainerPort(one(["http", "admin"]), number, one([.tcp, .tcp, .udp]))
        }
        var pod = Pod(
            metadata: ObjectMetadata(name: key.name, namespace: key.namespace, labels: labels()),
            spec: PodSpec(nodeName: one(["n1", "n1", "n2"]), containers: [Container(name: "c", ports: ports)]),
            addresses: addresses)
        guard isUnruly else { return pod }
        if chance(10) { pod.phase = one([.succeeded, .failed, .pending]) }
        if chance(10) { pod.spec.isHostNetwork = true }
        if chance(15) { pod.metadata.deletionTimestamp = Timestamp(secondsSince1970: 1) }
        if chance(50) { pod.metadata.creationTimestamp = Timestamp(secondsSince1970: one([1, 2, 3])) }
        return pod
    }

    mutating func selector() -> LabelSelector {
        LabelSelector(
            some(["app", "tier", "team", Namespace.nameLabel], upTo: 2).map { key in
                switch one([0, 0, 0, 1, 2, 3]) {
                case 0: LabelSelector.Requirement(key, .in, some(["x", "y", "a", "b"], upTo: 2) + ["x"])
                case 1: LabelSelector.Requirement(key, .notIn, ["x"])
                case 2: LabelSelector.Requirement(key, .exists)
                default: LabelSelector.Requirement(key, .doesNotExist)
                }
            })
    }

    mutating func policy(_ key: NamespacedName) -> NetworkPolicy {
        NetworkPolicy(
            metadata: ObjectMetadata(name: key.name, namespace: key.namespace), podSelector: selector(),
            directions: one([[.ingress], [.egress], [.ingress, .egress]]),
            ingress: (0..<one([0, 1, 1, 2])).map { _ in rule() }, egress: (0..<one([0, 1, 1, 2])).map { _ in rule() })
    }

    private mutating func rule() -> PolicyRule {
        PolicyRule(
            peers: chance(25) ? .any : .only((0..<one([0, 1, 1, 2])).map { _ in peer() }),
            ports: chance(35) ? .any : .only((0..<one([0, 1, 1, 2])).map { _ in port() }))
    }

    private mutating func peer() -> PolicyPeer {
        if chance(30) {
            let blocks = [
                "0.0.0.0/0", "10.0.0.0/8", "10.244.1.0/24", "10.244.2.1/32", "::/0", "fd00::/8", "192.168.0.0/29",
            ]
            return .block(
                IPBlock(
                    cidr: IPPrefix(one(blocks))!,
                    except: some(
                        ["10.244.1.2/31", "10.244.0.0/16", "fd00:2::/127", "0.0.0.0/0", "192.168.0.3/32"], upTo: 2
                    )
                    .map { IPPrefix($0)! }))
        }
        return .pods(selector(), in: chance(50) ? .own : .matching(selector()))
    }

    private mutating func port() -> PolicyPort {
        let transport = one([TransportProtocol.tcp, .tcp, .udp])
        switch one([0, 1, 1, 2, 2]) {
        case 0: return PolicyPort(protocol: transport)
        case 1: return PolicyPort(protocol: transport, .named(one(["http", "admin", "nope"])))
        default:
            return PolicyPort(
                protocol: transport,
                .range(one([Port(80)!...Port(80)!, Port(80)!...Port(81)!, Port(81)!...Port(8080)!])))
        }
    }

    /// Nine pods with addresses of their own, and some policies.
    mutating func cluster() -> ClusterSnapshot {
        var cluster = ClusterSnapshot()
        for name in Self.namespaces where chance(70) {
            cluster.apply(.set(.namespace(Namespace(name: name, labels: labels()))))
        }
        var free = Self.addresses.shuffled(using: &random)
        for number in 1...9 {
            let key = NamespacedName(namespace: one(Self.namespaces), name: "p\(number)")
            cluster.apply(.set(.pod(pod(key, addresses: (0..<one([1, 2])).map { _ in free.removeLast() }))))
        }
        for number in 1...one([3, 5, 8]) {
            let key = NamespacedName(namespace: one(Self.namespaces), name: "p\(number)")
            cluster.apply(.set(.networkPolicy(policy(key))))
        }
        return cluster
    }

    mutating func attachments() -> [LocalAttachment] {
        (0..<one([0, 1, 2, 4])).map { number in
            LocalAttachment(
                containerID: String(number), podNamespace: one(Self.namespaces + [""]),
                podName: one(["p1", "p2", "ghost"]),
                addresses: some(Self.addresses, upTo: 2))
        }
    }

    /// A change of any kind of object: added, changed or removed.
    mutating func event() -> ObjectEvent {
        let key = NamespacedName(namespace: one(Self.namespaces), name: "p\(one(Array(1...5)))")
        switch one([0, 1, 1, 1, 1, 1, 2, 2, 3]) {
        case 0:
            return chance(30)
                ? .removed(ObjectReference(.namespace, NamespacedName(namespace: "", name: key.namespace)))
                : .set(.namespace(namespace()))
        case 1:
            return chance(30)
                ? .removed(ObjectReference(.pod, key)) : .set(.pod(pod(key, addresses: some(Self.addresses, upTo: 3))))
        case 2:
            return chance(40)
                ? .removed(ObjectReference(.networkPolicy, key)) : .set(.networkPolicy(policy(key)))
        default:
            let networks = ["10.244.1.0/24", "10.244.1.0/25", "fd00:10:244:1::/64"].map { IPPrefix($0)! }
            let node = Node(
                metadata: ObjectMetadata(name: one(["n1", "n2"]), namespace: ""), podCIDRs: some(networks, upTo: 2))
            return chance(10)
                ? .removed(ObjectReference(kind: .node, namespace: nil, name: node.name)) : .set(.node(node))
        }
    }
}
