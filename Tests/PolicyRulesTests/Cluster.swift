import KubernetesObjects
import NetworkAddresses
import Nftables
import PacketPath
import Testing

@testable import PolicyRules

/// A cluster of two nodes in a few lines, whose answers come from the rules and are checked by the oracle.
///
/// Pods are named `shop/web` and have addresses of their node's networks, in order: 10.244.1.1 and fd00:10:244:1::1 is
/// the first of node n1.
struct Cluster {
    var snapshot = ClusterSnapshot()
    var attachments: [LocalAttachment] = []
    private var count: [String: Int] = [:]

    init() {
        for number in 1...2 {
            let metadata = ObjectMetadata(name: "n\(number)", namespace: "")
            snapshot.apply(
                .set(
                    .node(
                        Node(
                            metadata: metadata,
                            podCIDRs: [IPPrefix("10.244.\(number).0/24")!, IPPrefix("fd00:10:244:\(number)::/64")!]))))
        }
    }

    mutating func namespace(_ name: String, _ labels: [String: String] = [:]) {
        snapshot.apply(.set(.namespace(Namespace(name: name, labels: labels))))
    }

    /// Adds a pod, or changes its labels.
    mutating func pod(
        _ name: String, _ labels: [String: String] = [:], on node: String = "n1", ports: [ContainerPort] = [],
        _ adjust: (inout Pod) -> Void = { _ in }
    ) {
        let key = NamespacedName(name)
        var pod = snapshot.pods[key] ?? makePod(key, on: node)
        pod.metadata.labels = labels
        if !ports.isEmpty { pod.spec.containers = [Container(name: "c", ports: ports)] }
        adjust(&pod)
        snapshot.apply(.set(.pod(pod)))
    }

    private mutating func makePod(_ key: NamespacedName, on node: String) -> Pod {
        count[node, default: 0] += 1
        let addresses = ["10.244.\(node.dropFirst()).", "fd00:10:244:\(node.dropFirst())::"]
        return Pod(
            metadata: ObjectMetadata(name: key.name, namespace: key.namespace), spec: PodSpec(nodeName: node),
            addresses: addresses.map { IPAddress($0 + String(count[node]!))! })
    }

    mutating func removePod(_ name: String) {
        snapshot.apply(.removed(ObjectReference(.pod, NamespacedName(name))))
    }

    mutating func removePolicy(_ name: String) {
        snapshot.apply(.removed(ObjectReference(.networkPolicy, NamespacedName(name))))
    }

    /// Reads a policy as the API server would send it.
    ///
    /// What could not be read of it is returned.
    @discardableResult mutating func policy(_ name: String, _ spec: FieldValue) -> [String] {
        let key = NamespacedName(name)
        let decoded = KubernetesObject.decode(
            [
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": ["namespace": .string(key.namespace), "name": .string(key.name)], "spec": spec,
            ], source: "")
        for object in decoded.objects { snapshot.apply(.set(object)) }
        return decoded.notes.map(\.description)
    }

    func table(_ node: String = "n1") -> Ruleset {
        PolicyTable.whole(snapshot, attachments: attachments, nodeName: node, epoch: PolicyEpoch(1)!)
    }

    // MARK: - Questions

    /// Whether the rules of both ends' nodes let the connection through; the oracle must agree.
    ///
    /// Ends are pods or addresses. A connection to a pod goes to its own port, as it does behind any service.
    func allows(
        _ source: String, _ destination: String, _ port: Int? = 80, _ number: UInt8 = 6, family: AddressFamily = .ipv4,
        location: SourceLocation = #_sourceLocation
    ) -> Bool {
        let ends = [source, destination].map { address($0, family) }
        let port = port.flatMap { Port($0) }
        let nodes = Set([source, destination].compactMap { snapshot.pods[NamespacedName($0)]?.spec.nodeName })
        let verdict = nodes.allSatisfy { table($0).allows(from: ends[0], to: ends[1], number, port) }
        let expected = Oracle(cluster: snapshot).allows(from: ends[0], to: ends[1], number, port)
        #expect(
            verdict == expected,
            "\(source) to \(destination) \(number)/\(port?.description ?? "-"): the oracle says \(expected)",
            sourceLocation: location)
        return verdict
    }

    func address(_ end: String, _ family: AddressFamily = .ipv4) -> IPAddress {
        IPAddress(end) ?? snapshot.pods[NamespacedName(end)]!.addresses.first { $0.family == family }!
    }
}

extension NamespacedName {
    init(_ text: String) {
        let parts = text.split(separator: "/").map(String.init)
        self.init(namespace: parts.count == 2 ? parts[0] : "", name: parts.last ?? "")
    }
}

extension ContainerPort {
    init(_ name: String, _ number: Int, _ transport: TransportProtocol = .tcp) {
        self.init(name: name, number: Port(number)!, protocol: transport)
    }
}

extension Ruleset {
    /// Whether the table lets a connection's first packet through.
    func allows(from source: IPAddress, to destination: IPAddress, _ number: UInt8, _ port: Port?) -> Bool {
        decide(from: source, to: destination, number, port).outcome == .accept
    }

    /// What the table does with a packet of a connection, which so far has the mark given.
    ///
    /// - Parameter virtual: the address the client knows the server by, where that is another.
    /// - Parameter isAnswer: whether the packet goes from the server to the client.
    func decide(
        from source: IPAddress, to destination: IPAddress, _ number: UInt8 = 6, _ port: Port? = Port(80),
        virtual: IPAddress? = nil, isAnswer: Bool = false, state: ConntrackStates = .new, mark: UInt32 = 0
    ) -> Evaluation {
        let clientPort = port == nil ? nil : Port(40_000)
        let sent = ConnectionTuple(source: source, clientPort, destination: destination, port, number)
        var packet = Packet(from: source, clientPort, to: destination, port, protocolNumber: number)
        if isAnswer {
            packet = Packet(from: destination, port, to: source, clientPort, protocolNumber: number)
            packet.opensConnection = false
        }
        var original = sent
        if let virtual { original.destination = virtual }
        let connection = Connection(
            original: original, reply: sent.inverted, state: state, direction: isAnswer ? .reply : .original, mark: mark
        )
        let evaluations = RulesetEvaluator(self, in: RulesetElements([self]))
            .evaluate(chain: PolicyTable.forward, packet, connection)
        #expect(evaluations.count == 1)
        return evaluations[0]
    }
}

/// A generator whose numbers repeat with its seed (xorshift64*).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
}
