internal import NetworkAddresses
internal import Nftables

/// Where a local pod's packets of one direction are sent.
enum Dispatch {
    case nowhere
    case closed
    case profile(name: String, ProfileChain)

    var verdict: Verdict? {
        switch self {
        case .nowhere: nil
        case .closed: .jump(PolicyTable.closed)
        case .profile(let name, _): .jump(name)
        }
    }
}

extension Contribution {
    /// What a pod, or a container without one, adds to the table.
    ///
    /// - Parameter groups: the numbers of the groups it is in.
    /// - Parameter local: those of the addresses that are on this node.
    init(
        of owner: PolicyOwner, addresses: [IPAddress], groups: [UInt32], local: [IPAddress], egress: Dispatch,
        ingress: Dispatch
    ) {
        self.init()
        let name = owner.description
        for address in addresses {
            let (family, part) = (address.family, KeyPart.address(address))
            func add(_ key: ElementKey, _ value: Element.Value? = nil, to set: String) {
                members.append(Member(Element(key, value, comment: name), in: set))
            }
            for group in groups { add(ElementKey(.number(group), part), to: PolicyTable.members(family)) }
            guard local.contains(address) else { continue }
            add(ElementKey(part), to: PolicyTable.localPods(family))
            if let verdict = egress.verdict { add(ElementKey(part), .verdict(verdict), to: PolicyTable.egress(family)) }
            if let verdict = ingress.verdict {
                add(ElementKey(part), .verdict(verdict), to: PolicyTable.ingress(family))
            }
            if egress.verdict != nil || ingress.verdict != nil {
                add(ElementKey(part, part), to: PolicyTable.hairpin(family))
            }
        }
        guard !local.isEmpty else { return }
        for case .profile(let name, let profile) in [egress, ingress] {
            chains[name] = profile.chain
            sets.merge(profile.sets) { first, _ in first }
        }
    }
}
