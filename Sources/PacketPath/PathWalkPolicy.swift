internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables

extension PathWalk {
    /// What the policy table said about one direction, for a hop of its own.
    struct PolicyReport {
        var text: String
        var owners: [Owner] = []
        /// The rule that decided.
        var hit: RuleHit?
        /// Whether the kernel lacks what the objects ask for.
        var isDrift = false
    }

    /// What a pass through the policy table comes to: a line for each of this node's pods that the connection concerns.
    ///
    /// - Parameter denied: The direction that was refused; only what was passed before it is told.
    func policyReports(
        _ passage: HookTraversal.Passage, at place: Place, before denied: NetworkPolicy.Direction? = nil
    ) -> [PolicyReport] {
        let hits = passage.evaluation.hits
        for hit in hits {
            switch hit.rule.comment.map(RuleComment.init) {
            case .established?: return [PolicyReport(text: "part of a connection that was let through", hit: hit)]
            case .own?: return [PolicyReport(text: "a pod that reaches itself is never policed", hit: hit)]
            default: continue
            }
        }
        guard let connection = passage.evaluation.connection else { return [] }
        return NetworkPolicy.Direction.inOrder.prefix { $0 != denied }.compactMap { direction in
            let address = direction == .egress ? connection.original.source : connection.reply.source
            guard let pod = cluster.pod(at: address), pod.node == place.node else { return nil }
            guard let entry = hits.firstIndex(where: { $0.dispatches(direction) }) else {
                return drift(pod, direction)
                    ?? PolicyReport(text: "\(direction.word): no policy isolates \(pod.key)")
            }
            // From its dispatch on to the other direction's, the hits are of this pod's profile.
            let profile = hits[(entry + 1)...].prefix { !$0.dispatchesAnything }
            for hit in profile.reversed() {
                guard case .admits(let policy, direction, let rule, let peer)? = hit.rule.comment.map(RuleComment.init)
                else { continue }
                let path = direction.path(rule: rule, peer: peer)
                return PolicyReport(
                    text: "\(direction.word): allowed by \(policy) \(path)",
                    owners: [Owner(ObjectReference(.networkPolicy, policy), .admits, rulePath: path)], hit: hit)
            }
            return PolicyReport(
                text: "\(direction.word): \(pod.key)'s rules let it pass", hit: profile.last ?? hits[entry])
        }
    }

    /// What a node without a policy table lets pass though policies of its pods would not.
    func missingPolicyTable(_ journey: Journey, _ connection: Connection, at place: Place) -> [PolicyReport] {
        NetworkPolicy.Direction.inOrder.compactMap { direction in
            let address = direction == .egress ? connection.original.source : connection.reply.source
            guard let pod = cluster.pod(at: address), pod.node == place.node else { return nil }
            return drift(pod, direction)
        }
    }

    private func drift(_ pod: RunningPod, _ direction: NetworkPolicy.Direction) -> PolicyReport? {
        let policies = isolating(pod.key, direction)
        guard !policies.isEmpty else { return nil }
        return PolicyReport(
            text: "\(direction.word): the kernel has no rules for \(pod.key), although \(policies.policyList) "
                + "\(policies.count == 1 ? "isolates" : "isolate") it", isDrift: true)
    }

    /// The journey's end at a rule of the policy table.
    func stopAtPolicy(
        _ passage: HookTraversal.Passage, _ journey: Journey, at place: Place, _ evidence: Evidence
    ) -> [Journey] {
        let comment = passage.evaluation.deciding?.rule.comment
        switch comment.map(RuleComment.init) {
        case .isolates(let direction, let named, let isComplete)?:
            let connection = passage.evaluation.connection
            let address = direction == .egress ? connection?.original.source : connection?.reply.source
            let pod = address.flatMap { cluster.pod(at: $0) }
            // A comment has no room for very many names; the objects know the rest.
            let policies = isComplete ? named : pod.map { isolating($0.key, direction) } ?? named
            let subject = pod?.key.description ?? address?.description ?? "the pod"
            let denial = PolicyDenial(direction: direction, pod: pod?.key, policies: policies, packet: journey.packet)
            var journey = journey
            for report in policyReports(passage, at: place, before: direction) {
                journey.add(
                    report, at: place, self.evidence(of: report.hit, passage, like: evidence), hook: passage.hook)
            }
            return journey.ended(
                .denied, .policyImplicitDeny, .policy,
                "\(direction.word): no rule admits it; \(subject) is isolated by \(policies.policyList)", at: place,
                evidence,
                cause: "\(subject) is isolated by \(policies.policyList); no rule admits "
                    + admitted(direction, journey.packet, connection),
                owners: policies.map { Owner(ObjectReference(.networkPolicy, $0), .isolates) }, hook: passage.hook,
                denial: denial)
        case .closed(let why)?:
            let text = "the policy gate of \(place) is closed for this packet: \(why)"
            return journey.ended(
                .denied, .closedGate, .policy, text, at: place, evidence,
                cause: text + "; is the node's agent running?", hook: passage.hook)
        case .invalid(let why)?:
            return journey.ended(
                .broken, .invalidConnection, .policy, "dropped as \(why), as \(place) sees it", at: place, evidence,
                hook: passage.hook)
        default:
            return journey.inconclusive(
                .policy, "a rule of \(passage.table) drops it without saying why" + (comment.map { " (\($0))" } ?? ""),
                at: place)
        }
    }

    /// Evidence of another rule of the same passage.
    func evidence(of hit: RuleHit?, _ passage: HookTraversal.Passage, like other: Evidence) -> Evidence {
        Evidence(hit, table: passage.table, chain: passage.chain, generation: other.generation)
    }

    /// Who would have to be admitted: `shop/web-0 on 8080/tcp`, `to shop/db-0 on 5432/tcp`.
    private func admitted(
        _ direction: NetworkPolicy.Direction, _ packet: Packet, _ connection: Connection?
    ) -> String {
        let peer = direction == .ingress ? connection?.original.source ?? packet.source : packet.destination
        let name = cluster.label(peer)
        return direction == .ingress ? "\(name) on \(packet.portText)" : "\(packet.portText) to \(name)"
    }

    /// The policies that isolate the pod in the direction, as the objects have it.
    func isolating(_ pod: NamespacedName, _ direction: NetworkPolicy.Direction) -> [NamespacedName] {
        guard let labels = cluster.objects.pods[pod]?.metadata.labels else { return [] }
        return cluster.objects.networkPolicies.values.filter {
            $0.metadata.namespace == pod.namespace && $0.directions.contains(direction)
                && $0.podSelector.matches(labels)
        }.map(\.key).sorted()
    }
}

extension NetworkPolicy.Direction {
    /// As the kernel judges them: who sends, then who is reached.
    static var inOrder: [Self] { [.egress, .ingress] }
}

extension [NamespacedName] {
    /// `NetworkPolicy shop/a`, `NetworkPolicies shop/a and shop/b`.
    var policyList: String {
        switch count {
        case 0: return "policies that are not known any more"
        case 1: return "NetworkPolicy \(self[0])"
        default:
            return "NetworkPolicies " + dropLast().map(\.description).joined(separator: ", ")
                + " and \(self[count - 1])"
        }
    }
}

extension RuleHit {
    /// Whether the rule led to the profile of a pod for the direction.
    fileprivate func dispatches(_ direction: NetworkPolicy.Direction) -> Bool {
        elements.contains { $0.set.hasPrefix(direction.word) }
    }

    fileprivate var dispatchesAnything: Bool { dispatches(.ingress) || dispatches(.egress) }
}
