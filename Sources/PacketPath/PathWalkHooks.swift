internal import KubernetesObjects
internal import NetworkAddresses
internal import Nftables
internal import PolicyRules
internal import RouteNetlink
internal import ServiceRules

extension PathWalk {
    /// Takes the packet through one of the place's hooks and tells what mattered there.
    func traverse(
        _ point: Hook.Point, _ journey: Journey, at place: Place, _ view: any NamespaceView
    ) -> [Journey] {
        do {
            let rulesets = try view.rulesets()
            // Tables of devices see the packet before and after all hooks, and are not modelled.
            if point == .prerouting || point == .output,
                let device = rulesets.first(where: { $0.isOfDevices && $0.chains.values.contains { $0.hook != nil } })
            {
                return journey.inconclusive(
                    .rules, "table \(device.table) filters on devices, which is not understood here", at: place)
            }
            var journey = journey
            let connection = journey.track(point, at: place)
            let results = HookTraversal(rulesets, in: ViewEnvironment(view: view)).traverse(
                point, journey.packet, connection)
            let generation = try view.generation()
            if point == .forward, !journey.isReply, !rulesets.contains(where: { $0.table == PolicyTable.name }) {
                for report in missingPolicyTable(journey, connection, at: place) {
                    journey.add(report, at: place, Evidence(.kernelLookup), hook: nil)
                }
            }
            return results.flatMap { tell($0, journey, at: place, generation) }
        } catch {
            return journey.inconclusive(.rules, "\(error)", at: place)
        }
    }

    /// The journey after a hook, with a hop for every chain that had something to say.
    private func tell(
        _ result: HookTraversal.Result, _ journey: Journey, at place: Place, _ generation: UInt32
    ) -> [Journey] {
        var journey = journey
        journey.remember(result.connection, at: place)
        let before = journey.packet
        for passage in result.passages where passage.evaluation.outcome == .accept {
            let evidence = Evidence(
                passage.evaluation.deciding, table: passage.table, chain: passage.chain, generation: generation)
            if let translation = passage.evaluation.translation {
                journey.packet = result.packet
                tell(translation, passage, &journey, before: before, at: place, evidence)
            } else if passage.table == PolicyTable.name {
                for report in policyReports(passage, at: place) {
                    journey.add(
                        report, at: place, self.evidence(of: report.hit, passage, like: evidence), hook: passage.hook)
                }
            }
        }
        journey.packet = result.packet
        // An answer is translated by the connection, not by a rule.
        if journey.isReply, before.tuple != result.packet.tuple {
            let text =
                before.source != result.packet.source || before.sourcePort != result.packet.sourcePort
                ? "\(before.sourceText) is \(result.packet.sourceText) again"
                : "to \(before.destinationText) is to \(result.packet.destinationText) again"
            journey.add(.service, text, at: place, Evidence(.computed), before: before)
        }
        guard result.outcome != .accept, let last = result.passages.last else { return [journey] }
        return stop(result.outcome, last, journey, at: place, generation)
    }

    private func tell(
        _ translation: Evaluation.Translation, _ passage: HookTraversal.Passage, _ journey: inout Journey,
        before: Packet, at place: Place, _ evidence: Evidence
    ) {
        switch translation {
        case .destination:
            var owners: [Owner] = []
            var details: [String] = []
            var backend = Backend(name: journey.packet.destinationText, number: 1, count: 1)
            for comment in passage.evaluation.hits.flatMap(\.elements).compactMap(\.element.comment).map(
                RuleComment.init)
            {
                switch comment {
                case .service(let key, let port):
                    backend.service = key
                    owners.append(Owner(ObjectReference(.service, key), .selects))
                    details.append("svc \(key):\(port)")
                case .pod(let key):
                    backend.pod = key
                    backend.name = key.description
                    owners.append(Owner(ObjectReference(.pod, key), .chosen))
                    details.append("endpoint \(key)")
                default: continue
                }
            }
            if let draw = passage.evaluation.draws.last {
                backend.number = Int(draw.number) + 1
                backend.count = Int(draw.below)
                details.append("\(backend.number) of \(backend.count)")
            }
            if backend.service != nil { journey.backend = backend }
            journey.add(
                .service,
                "\(before.destinationText) → \(journey.packet.destinationText)"
                    + (details.isEmpty ? "" : "  [\(details.joined(separator: ", "))]"),
                at: place, evidence, owners: owners, before: before, hook: passage.hook)
        case .masquerade:
            journey.add(
                .masquerade,
                "from \(before.sourceText) becomes from \(journey.packet.source)"
                    + (passage.evaluation.deciding?.rule.comment.map { "  [\($0)]" } ?? ""),
                at: place, evidence, before: before, hook: passage.hook)
        }
    }

    /// The journey's end in a chain that does not let it pass.
    private func stop(
        _ outcome: Evaluation.Outcome, _ passage: HookTraversal.Passage, _ journey: Journey, at place: Place,
        _ generation: UInt32
    ) -> [Journey] {
        let evidence = Evidence(
            passage.evaluation.deciding, table: passage.table, chain: passage.chain, generation: generation)
        if case .unknown(let reason) = outcome {
            return journey.ended(
                .inconclusive, .inconclusive, .rules, reason, at: place, evidence,
                cause: "\(place): \(reason)", hook: passage.hook)
        }
        if passage.table == ServiceTable.name { return stopAtService(passage, journey, at: place, evidence) }
        if passage.table == PolicyTable.name { return stopAtPolicy(passage, journey, at: place, evidence) }
        let verb = outcome == .reject ? "rejects" : "drops"
        let how =
            passage.evaluation.wasDecidedByRule
            ? passage.evaluation.deciding?.rule.comment.map { " (\($0))" } ?? "" : " by its policy"
        let text =
            "chain \(passage.chain) of table \(passage.table) \(verb) it\(how)  "
            + "[\(passage.hook.point) priority \(passage.hook.priority), not one of ours]"
        return journey.ended(.broken, .foreignChainDrop, .firewall, text, at: place, evidence, hook: passage.hook)
    }

    private func stopAtService(
        _ passage: HookTraversal.Passage, _ journey: Journey, at place: Place, _ evidence: Evidence
    ) -> [Journey] {
        let packet = journey.packet
        let elements = passage.evaluation.hits.flatMap(\.elements)
        var key: NamespacedName?
        for comment in elements.compactMap(\.element.comment) {
            if case .service(let found, _) = RuleComment(comment) { key = found }
        }
        let isFrontend = elements.contains { $0.set.hasPrefix("frontends") }
        let owners = key.map { [Owner(ObjectReference(.service, $0), .selects)] } ?? []
        func end(_ reason: ReasonCode, _ text: String) -> [Journey] {
            journey.ended(
                .broken, reason, .service, text, at: place, evidence, cause: text, owners: owners, hook: passage.hook)
        }
        if let key, isFrontend, case .reject = passage.evaluation.outcome {
            return end(.noEndpoints, "Service \(key) has no endpoint that takes connections" + lackOfEndpoints(key))
        }
        if let key, isFrontend {
            return end(
                .noLocalEndpoints,
                "Service \(key) takes connections only on nodes with an endpoint of its own, and \(place) has none")
        }
        if let missing = unprogrammedPort(packet) { return end(.rulesNotProgrammed, missing) }
        if let service = cluster.service(at: packet.destination) {
            let ports = service.ports.map { "\($0.number)/\($0.protocol)" }.joined(separator: ", ")
            return end(
                .noSuchPort,
                "Service \(service.key) has no port \(packet.portText); it has \(ports.isEmpty ? "none" : ports)")
        }
        return end(.noSuchService, "no service has the address \(packet.destination)")
    }

    /// A port that an object says there is, but the kernel's rules do not.
    private func unprogrammedPort(_ packet: Packet) -> String? {
        guard let service = cluster.service(at: packet.destination),
            service.ports.contains(where: { $0.number == packet.destinationPort && $0.protocol == packet.transport })
        else { return nil }
        return "the kernel's rules know no port \(packet.portText) at \(packet.destination), although Service "
            + "\(service.key) has it; is the node's agent running?"
    }

    /// Why, as far as the objects tell.
    private func lackOfEndpoints(_ key: NamespacedName) -> String {
        guard let service = cluster.objects.services[key] else { return "" }
        guard !service.selector.isEmpty else { return "; it selects no pods, so its endpoints are made by hand" }
        let selector = LabelSelector(matchLabels: service.selector)
        let matching = cluster.objects.pods.values.filter {
            $0.metadata.namespace == key.namespace && selector.matches($0.metadata.labels)
        }
        guard !matching.isEmpty else { return ": no pod of \(key.namespace) is labelled \(selector)" }
        let ready = matching.filter { $0.isReady && !$0.hasEnded }
        let pods = matching.count == 1 ? "1 pod is" : "\(matching.count) pods are"
        return ready.isEmpty ? ": \(pods) labelled \(selector), none of them ready" : ": \(pods) labelled \(selector)"
    }
}

extension Packet {
    /// `80/tcp`.
    var portText: String { (destinationPort.map { "\($0)/" } ?? "") + protocolName }

    var protocolName: String {
        transport?.description ?? [1: "icmp", 58: "icmpv6"][protocolNumber] ?? "protocol \(protocolNumber)"
    }
}

extension Journey {
    mutating func add(_ report: PathWalk.PolicyReport, at place: Place, _ evidence: Evidence, hook: Hook?) {
        add(
            .policy, report.text, at: place, evidence, status: report.isDrift ? .warning : .ok, owners: report.owners,
            hook: hook)
        if report.isDrift { findings.append(Finding(reason: .rulesNotProgrammed, text: "\(place): \(report.text)")) }
    }
}

extension Ruleset {
    /// Whether its base chains belong to devices or bridges rather than to the routed path.
    fileprivate var isOfDevices: Bool {
        table.family == .netdev || chains.values.contains { $0.hook?.point == .ingress }
    }
}

/// A place's kernel as the environment of its own rules.
private struct ViewEnvironment: RulesetEnvironment {
    let view: any NamespaceView

    func element(_ key: ElementKey, of set: String, in table: TableName) throws -> Element? {
        try view.element(key, of: set, in: table)
    }

    func addressType(of address: IPAddress) throws -> UInt32 {
        if address.isLoopback { return 2 }
        if address.isMulticast { return 5 }
        let addresses = try view.addresses()
        if addresses.contains(where: { $0.prefix.address == address }) { return 2 }
        let isBroadcast = addresses.contains {
            $0.prefix.family == .ipv4 && $0.prefix.length < 31 && $0.prefix.last == address
        }
        return isBroadcast ? 3 : 1
    }

    /// What the kernel would choose.
    ///
    /// IPv4: of the interface's addresses one in whose network the destination is, or else the first; or else another
    /// interface's (`inet_select_addr`). IPv6: the interface's own before others', then the one that has most in common
    /// with the destination (RFC 6724, as far as addresses of a cluster differ).
    func masqueradeAddress(on interface: PacketInterface, towards destination: IPAddress) throws -> IPAddress? {
        let candidates = try view.addresses().filter {
            $0.prefix.family == destination.family && !$0.prefix.address.isLoopback && !$0.prefix.address.isLinkLocal
        }
        let own = candidates.filter { $0.link == interface.index }
        switch destination.family {
        case .ipv4:
            let chosen = own.first { $0.prefix.contains(destination) } ?? own.first ?? candidates.first
            return chosen?.prefix.address
        case .ipv6:
            let eligible = own.isEmpty ? candidates : own
            return eligible.max { $0.prefix.commonLength(destination) < $1.prefix.commonLength(destination) }?.prefix
                .address
        }
    }
}

extension IPPrefix {
    /// How many leading bits the addresses share, no more than the prefix has.
    fileprivate func commonLength(_ other: IPAddress) -> Int {
        min((address.number ^ other.number).leadingZeroBitCount, length)
    }
}

extension IPAddress {
    /// Whether no packet that is routed may carry the address as its source (`fe80::/10`).
    fileprivate var isLinkLocal: Bool {
        if case .v6(let address) = self { address.isLinkLocal } else { false }
    }
}
