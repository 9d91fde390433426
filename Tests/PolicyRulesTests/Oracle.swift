import KubernetesObjects
import NetworkAddresses

/// Whether NetworkPolicy lets a connection through: its definition read out loud, with no rules, groups or hashes.
struct Oracle {
    let cluster: ClusterSnapshot

    /// - Parameter number: the IP protocol.
    /// - Parameter port: of the pod that is connected to; nil for protocols without ports.
    func allows(from source: IPAddress, to destination: IPAddress, _ number: UInt8, _ port: Port?) -> Bool {
        let (client, server) = (pod(at: source), pod(at: destination))
        // Only behind a service does a pod meet itself on the node.
        if client != nil, source == destination { return true }
        let question = Question(source: source, destination: destination, number: number, port: port)
        return permits(.egress, client, server, question) && permits(.ingress, server, client, question)
    }

    struct Question {
        var source: IPAddress
        var destination: IPAddress
        var number: UInt8
        var port: Port?
    }

    /// The pod that has the address for itself.
    private func pod(at address: IPAddress) -> Pod? {
        cluster.pods.values.first { !$0.hasEnded && !$0.spec.isHostNetwork && $0.addresses.contains(address) }
    }

    private func permits(
        _ direction: NetworkPolicy.Direction, _ subject: Pod?, _ other: Pod?, _ question: Question
    ) -> Bool {
        guard let subject else { return true }
        let isolating = cluster.networkPolicies.values.filter {
            $0.metadata.namespace == subject.metadata.namespace && $0.podSelector.matches(subject.metadata.labels)
                && $0.directions.contains(direction)
        }
        return isolating.isEmpty
            || isolating.contains { policy in
                policy.rules(direction).contains { rule in
                    let address = direction == .ingress ? question.source : question.destination
                    let server = direction == .ingress ? subject : other
                    return matches(rule.peers, policy.metadata.namespace, address, other)
                        && matches(rule.ports, question, server)
                }
            }
    }

    private func matches(
        _ peers: PolicyChoice<PolicyPeer>, _ namespace: String, _ address: IPAddress, _ pod: Pod?
    ) -> Bool {
        guard case .only(let peers) = peers else { return true }
        return peers.contains { peer in
            switch peer {
            case .block(let block):
                return block.cidr.contains(address) && !block.except.contains { $0.contains(address) }
            case .pods(let selector, in: let namespaces):
                guard let pod, selector.matches(pod.metadata.labels) else { return false }
                switch namespaces {
                case .own: return pod.metadata.namespace == namespace
                case .matching(let selector):
                    let name = pod.metadata.namespace
                    return selector.matches((cluster.namespaces[name] ?? Namespace(name: name)).labels)
                }
            }
        }
    }

    private func matches(_ ports: PolicyChoice<PolicyPort>, _ question: Question, _ server: Pod?) -> Bool {
        guard case .only(let ports) = ports else { return true }
        return ports.contains { port in
            guard port.protocol.rawValue == question.number else { return false }
            switch port.match {
            case .any: return true
            case .range(let range): return question.port.map(range.contains) ?? false
            case .named(let name):
                guard let number = server?.spec.port(named: name, protocol: port.protocol) else { return false }
                return question.port == number
            }
        }
    }
}
