public import KubernetesObjects
internal import NetworkAddresses

/// The policy rule that came closest to admitting a refused connection, and what it lacked.
///
/// Computed from the objects; the refusal itself was the kernel's.
public struct NearMiss: Hashable, Sendable {
    /// One thing a rule asks for, and whether the connection has it.
    public struct Check: Hashable, Sendable {
        public enum Kind: String, Hashable, Sendable {
            case podSelector, namespaceSelector, namespace, ipBlock, ports, rules
        }

        public var kind: Kind
        /// What is asked: `podSelector app=front`.
        public var text: String
        public var holds: Bool
        /// What there is instead; empty where the check holds.
        public var instead: String
    }

    public var policy: NamespacedName
    public var direction: NetworkPolicy.Direction
    /// Nil where the policy has no rule at all in the direction.
    public var rule: Int?
    public var peer: Int?
    public var checks: [Check]
    /// What would have to change, each enough by itself unless it says otherwise.
    public var options: [String]

    public var failed: [Check] { checks.filter { !$0.holds } }

    /// `ingress[0].from[1]`.
    public var rulePath: String? { rule.map { direction.path(rule: $0, peer: peer) } }

    /// In one line, with a mark behind each check.
    public var text: String {
        let place = rulePath.map { "\(policy) \($0)" } ?? "\(policy)"
        return place + ": "
            + checks.map { check in
                check.text + (check.holds ? " ✓" : " ✗" + (check.instead.isEmpty ? "" : " (\(check.instead))"))
            }.joined(separator: ", ")
    }
}

extension NearMiss {
    /// The nearest rule of the policies that refused; nil where the objects no longer tell of them.
    init?(_ denial: PolicyDenial, in cluster: any PathCluster) {
        let subject = denial.pod.flatMap { cluster.objects.pods[$0] }
        let search = NearMissSearch(denial: denial, subject: subject, cluster: cluster)
        let candidates = denial.policies.compactMap { cluster.objects.networkPolicies[$0] }.flatMap(search.candidates)
        // The fewest failures; among equals the first policy and its first rule. One without rules is the last resort.
        guard let best = candidates.min(by: { $0.distance < $1.distance }) else { return nil }
        self = best
        options = search.options(for: best)
    }

    private var distance: Int { rule == nil ? .max : failed.count }
}

/// The looking for it: one refusal, compared with every rule.
private struct NearMissSearch {
    var denial: PolicyDenial
    /// The isolated pod.
    var subject: Pod?
    var cluster: any PathCluster

    /// The other end's address: on ingress who sends, on egress who is reached.
    var peerAddress: IPAddress { denial.direction == .ingress ? denial.packet.source : denial.packet.destination }
    var peerKey: NamespacedName? { cluster.pod(at: peerAddress)?.key }
    var peer: Pod? { peerKey.flatMap { cluster.objects.pods[$0] } }

    func namespace(_ name: String) -> Namespace { cluster.objects.namespaces[name] ?? Namespace(name: name) }

    /// The policy's rules, each with its nearest peer.
    func candidates(_ policy: NetworkPolicy) -> [NearMiss] {
        let rules = policy.rules(denial.direction)
        func miss(_ rule: Int?, _ peer: Int?, _ checks: [NearMiss.Check]) -> NearMiss {
            NearMiss(
                policy: policy.key, direction: denial.direction, rule: rule, peer: peer, checks: checks, options: [])
        }
        guard !rules.isEmpty else {
            return [
                miss(
                    nil, nil,
                    [
                        .init(
                            kind: .rules, text: "has no \(denial.direction.word) rule, so it admits nothing",
                            holds: false, instead: "")
                    ])
            ]
        }
        return rules.enumerated().flatMap { index, rule -> [NearMiss] in
            let ports = checks(of: rule.ports)
            switch rule.peers {
            case .any: return [miss(index, nil, ports)]
            case .only(let peers):
                return peers.enumerated().map { number, peer in
                    miss(index, number, checks(of: peer, in: policy.key.namespace) + ports)
                }
            }
        }
    }

    private func checks(of choice: PolicyPeer, in own: String) -> [NearMiss.Check] {
        switch choice {
        case .block(let block):
            let excepted = block.except.first { $0.contains(peerAddress) }
            let holds = block.cidr.contains(peerAddress) && excepted == nil
            let elsewhere = peerKey.map { "\($0) is \(peerAddress)" } ?? "\(peerAddress) is outside it"
            return [
                .init(
                    kind: .ipBlock, text: "ipBlock \(block.cidr)", holds: holds,
                    instead: holds ? "" : excepted.map { "\(peerAddress) is in its exception \($0)" } ?? elsewhere)
            ]
        case .pods(let selector, let namespaces):
            guard let peerKey else {
                return [
                    .init(
                        kind: .podSelector, text: "podSelector \(selector)", holds: false,
                        instead: "\(peerAddress) is no pod")
                ]
            }
            let labels = peer?.metadata.labels ?? [:]
            var checks = [
                NearMiss.Check(
                    kind: .podSelector, text: "podSelector \(selector)", holds: selector.matches(labels),
                    instead: selector.lack(in: labels, of: "\(peerKey)"))
            ]
            switch namespaces {
            case .own:
                checks.append(
                    .init(
                        kind: .namespace, text: "namespace \(own)", holds: peerKey.namespace == own,
                        instead: peerKey.namespace == own ? "" : "\(peerKey) is in \(peerKey.namespace)"))
            case .matching(let wanted):
                let labels = namespace(peerKey.namespace).labels
                checks.append(
                    .init(
                        kind: .namespaceSelector, text: "namespaceSelector \(wanted)", holds: wanted.matches(labels),
                        instead: wanted.lack(in: labels, of: peerKey.namespace)))
            }
            return checks
        }
    }

    private func checks(of ports: PolicyChoice<PolicyPort>) -> [NearMiss.Check] {
        guard case .only(let list) = ports else { return [] }
        let packet = denial.packet
        let holds = list.contains { wanted in
            guard wanted.protocol == packet.transport else { return false }
            switch wanted.match {
            case .any: return true
            case .range(let range): return packet.destinationPort.map(range.contains) ?? false
            case .named(let name):
                let owner = denial.direction == .ingress ? subject : peer
                return owner?.spec.port(named: name, protocol: wanted.protocol) == packet.destinationPort
            }
        }
        let names = list.map(\.text).joined(separator: ", ")
        return [
            .init(
                kind: .ports, text: "port \(names.isEmpty ? "none" : names)", holds: holds,
                instead: holds ? "" : "not \(packet.portText)")
        ]
    }

    // MARK: - What would help

    func options(for miss: NearMiss) -> [String] {
        let packet = denial.packet
        let peers = miss.rulePath(field: miss.direction.peerField)
        guard let rule = miss.rule else {
            return [
                "add an \(miss.direction.word) rule to \(miss.policy), or a policy beside it, that admits "
                    + "\(peerDescription) on \(packet.portText)"
            ]
        }
        var options: [String] = []
        let failed = miss.failed
        let peerFailures = failed.filter { $0.kind != .ports }
        let portFails = failed.contains { $0.kind == .ports }
        let also = portFails ? ", and port \(packet.portText) to its ports" : ""
        if peerFailures.isEmpty, portFails {
            options.append("add port \(packet.portText) to \(miss.policy) \(miss.direction.word)[\(rule)].ports")
        }
        if !peerFailures.isEmpty {
            options.append("add a peer for \(peerDescription) to \(miss.policy) \(peers)\(also)")
        }
        if peerFailures.count == 1, !portFails, let peerKey, let choice = choice(of: miss) {
            switch (peerFailures[0].kind, choice) {
            case (.podSelector, .pods(let selector, _)):
                // A label that has another value says what the pod is; changing it would make it something else.
                let isFree = selector.requirements.allSatisfy { peer?.metadata.labels[$0.key] == nil }
                if isFree, let labels = selector.simplestLabels { options.append("label pod \(peerKey) \(labels)") }
            case (.namespaceSelector, .pods(_, .matching(let selector))):
                if let labels = selector.simplestLabels {
                    options.append("label namespace \(peerKey.namespace) \(labels)")
                }
            default: break
            }
        }
        return options
    }

    private func choice(of miss: NearMiss) -> PolicyPeer? {
        guard let rule = miss.rule, let peer = miss.peer,
            case .only(let peers)? = cluster.objects.networkPolicies[miss.policy]?.rules(miss.direction)[rule].peers
        else { return nil }
        return peers[peer]
    }

    /// `shop/web-0 (namespace shop, podSelector app=web)`, or an address's prefix.
    private var peerDescription: String {
        guard let peerKey else { return "\(peerAddress.hostPrefix)" }
        let labels = peer?.metadata.labels ?? [:]
        let best = ["app", "app.kubernetes.io/name", "k8s-app"].first { labels[$0] != nil } ?? labels.keys.min()
        let selector = best.map { ", podSelector \(LabelSelector(matchLabels: [$0: labels[$0]!]))" } ?? ""
        return "\(peerKey) (namespace \(peerKey.namespace)\(selector))"
    }
}

extension NearMiss {
    /// `ingress[0].from`.
    fileprivate func rulePath(field: String) -> String { "\(direction.word)[\(rule ?? 0)].\(field)" }
}

extension LabelSelector {
    /// What of the labels does not meet the selector: `shop has team=store`; empty where all does.
    fileprivate func lack(in labels: [String: String], of owner: String) -> String {
        guard let first = requirements.first(where: { !$0.matches(labels) }) else { return "" }
        return labels[first.key].map { "\(owner) has \(first.key)=\($0)" } ?? "\(owner) has no label \(first.key)"
    }

    /// Labels that would meet the selector, where they are easily said.
    fileprivate var simplestLabels: String? {
        let pairs = requirements.map { requirement -> String? in
            requirement.operator == .in ? "\(requirement.key)=\(requirement.values[0])" : nil
        }
        return pairs.contains(nil) || pairs.isEmpty ? nil : pairs.compactMap(\.self).joined(separator: " ")
    }
}

extension PolicyPort {
    /// `8080/tcp`, `8000-8010/tcp`, `http/tcp`, `any/udp`.
    fileprivate var text: String {
        switch match {
        case .any: "any/\(`protocol`)"
        case .range(let range):
            (range.lowerBound == range.upperBound ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)")
                + "/\(`protocol`)"
        case .named(let name): "\(name)/\(`protocol`)"
        }
    }
}
