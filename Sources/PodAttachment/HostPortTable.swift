internal import CNIProtocol
public import NetworkAddresses
public import Nftables

/// The table `inet fairlead-hostports`: what leads from the node's ports to the pods'.
///
/// A mapping is one element. The rules are the same for any number of them, and use no packet mark: what has to be
/// masqueraded is decided from what the connection table remembers of the first packet.
public enum HostPortTable {
    public static let name = TableName(.inet, "fairlead-hostports")

    /// `protocol . port` of all the node's addresses, to a pod's address and port.
    static func ports(_ family: AddressFamily) -> String { "ports\(family.digit)" }
    /// `address . protocol . port` of one address of the node, to a pod's address and port.
    static func bound(_ family: AddressFamily) -> String { "bound\(family.digit)" }
    /// Ports whose mapping is there for some packets only, to the chain that says for which. Keys as in the two above.
    static func portConditions(_ family: AddressFamily) -> String { "port-conditions\(family.digit)" }
    static func boundConditions(_ family: AddressFamily) -> String { "bound-conditions\(family.digit)" }
    /// Pods that may reach themselves: `address . the same address`.
    static func hairpin(_ family: AddressFamily) -> String { "hairpin\(family.digit)" }
    /// Pods that share a network with others, to the chain that masquerades connections from that network.
    static func neighbors(_ family: AddressFamily) -> String { "neighbors\(family.digit)" }
    /// `pod's address . protocol . host port` of mappings whose every connection is masqueraded.
    static func always(_ family: AddressFamily) -> String { "always\(family.digit)" }

    /// The table without any mapping.
    public static let frame: Ruleset = {
        var table = Ruleset(name)
        for family in AddressFamily.allCases {
            let address = KeyType.address(family)
            let target = SetDefinition.Data.values([address, .port])
            table.sets[ports(family)] = NamedSet(.init(key: [.transportProtocol, .port], data: target))
            table.sets[bound(family)] = NamedSet(.init(key: [address, .transportProtocol, .port], data: target))
            table.sets[portConditions(family)] = NamedSet(
                .init(key: [.transportProtocol, .port], data: .verdict))
            table.sets[boundConditions(family)] = NamedSet(
                .init(key: [address, .transportProtocol, .port], data: .verdict))
            table.sets[hairpin(family)] = NamedSet(.init(key: [address, address]))
            table.sets[neighbors(family)] = NamedSet(.init(key: [address], data: .verdict))
            table.sets[always(family)] = NamedSet(.init(key: [address, .transportProtocol, .port]))
        }
        // One behind the services' table, so that which of the two decides does not hang on who came first.
        table.chains["prerouting"] = Chain(hook: Hook(.nat, .prerouting, priority: -99), translationRules)
        table.chains["output"] = Chain(hook: Hook(.nat, .output, priority: -99), translationRules)
        table.chains["postrouting"] = Chain(hook: Hook(.nat, .postrouting, priority: 100), masqueradeRules)
        table.chains["guard"] = Chain(hook: Hook(.filter, .prerouting, priority: -300), guardRules)
        return table
    }()

    private static var translationRules: [Rule] {
        AddressFamily.allCases.flatMap { family -> [Rule] in
            var conditions: [Statement] = [
                .match(.networkProtocol, .family(family)), .match(.destinationAddressType, .local),
            ]
            // The kernel routes nothing from ::1 to a pod: what listens there stays reachable.
            if family == .ipv6 { conditions.append(.match(.destination(.ipv6), .address(loopback6), negated: true)) }
            let port: [Field] = [.transportProtocol, .destinationPort]
            let bound = [.destination(family)] + port
            return [
                Rule(conditions + [.dispatch(bound, map: boundConditions(family))]),
                Rule(conditions + [.destinationNAT(family, bound, map: self.bound(family))]),
                Rule(conditions + [.dispatch(port, map: portConditions(family))]),
                Rule(conditions + [.destinationNAT(family, port, map: ports(family))]),
            ]
        }
    }

    private static var masqueradeRules: [Rule] {
        let translated = Statement.match(.conntrackStatus, .destinationTranslated)
        let fromLoopback = Rule(
            translated, .match(.source(.ipv4), .prefix(loopback4)),
            .match(.outputInterfaceName, .interface(loopbackInterface), negated: true), .masquerade,
            comment: "a program of the node by way of 127.0.0.1")
        return [fromLoopback]
            + AddressFamily.allCases.flatMap { family -> [Rule] in
                [
                    Rule(
                        translated, .lookup([.source(family), .destination(family)], set: hairpin(family)),
                        .masquerade, comment: "a pod that reached itself by a port of the node"),
                    Rule(translated, .dispatch([.destination(family)], map: neighbors(family))),
                ]
                    // nft 1.0.6 reads a port of the conntrack tuple back only behind the protocol's name.
                    + TransportProtocol.allCases.map { transport in
                        Rule(
                            translated, .match(.transportProtocol, .transport(transport)),
                            .lookup(
                                [.destination(family), .transportProtocol, .originalDestinationPort],
                                set: always(family)),
                            .masquerade, comment: "masqAll")
                    }
            }
    }

    /// Connections from 127.0.0.1 to pods need `route_localnet`, which would also let a pod send to 127.0.0.1.
    private static var guardRules: [Rule] {
        [Field.destination(.ipv4), .source(.ipv4)].map { field in
            Rule(
                .match(.inputInterfaceName, .interface(loopbackInterface), negated: true),
                .match(field, .prefix(loopback4)), .drop, comment: "127.0.0.0/8 is on no network")
        }
    }

    /// What a pod's mappings add to the table.
    ///
    /// - Parameter addresses: the pod's: one of each family at most, with the length of the network it is on.
    public static func contribution(
        of configuration: HostPortConfiguration, to addresses: [IPPrefix], for tag: AttachmentTag
    ) -> Contribution {
        var contribution = Contribution()
        func add(_ key: [KeyPart], _ value: Element.Value? = nil, in set: String) {
            contribution.members.append(.init(Element(ElementKey(key), value, comment: tag.description), in: set))
        }
        for pod in addresses {
            let family = pod.family
            let mappings = configuration.mappings.filter { $0.applies(to: family) }
            guard !mappings.isEmpty else { continue }
            for mapping in mappings {
                let port: [KeyPart] = [.transport(mapping.transport), .port(mapping.hostPort)]
                let target = Element.Value.data(ElementKey(.address(pod.address), .port(mapping.podPort)))
                let boundTo = mapping.isBound ? mapping.hostAddress : nil
                let key = (boundTo.map { [.address($0)] } ?? []) + port
                add(key, target, in: boundTo == nil ? ports(family) : bound(family))
                if let conditions = configuration.conditions[family] {
                    let chain = conditionChain(conditions)
                    contribution.chains[chain.name] = chain.chain
                    add(
                        key, .verdict(.jump(chain.name)),
                        in: boundTo == nil ? portConditions(family) : boundConditions(family))
                }
                if configuration.masqueradesAll { add([.address(pod.address)] + port, in: always(family)) }
            }
            guard configuration.masquerades else { continue }
            if pod.length == family.bitWidth {
                add([.address(pod.address), .address(pod.address)], in: hairpin(family))
            } else {
                // A neighbour's answer would go straight to the pod that asked, which knows only the node's address.
                let chain = "from-\(pod.network.chainText)"
                contribution.chains[chain] = Chain([Rule(.match(.source(family), .prefix(pod.network)), .masquerade)])
                add([.address(pod.address)], .verdict(.jump(chain)), in: neighbors(family))
            }
        }
        return contribution
    }

    /// The chain that lets packets go on to their mapping which meet the conditions, and others past this table.
    private static func conditionChain(_ conditions: [Statement]) -> (name: String, chain: Chain) {
        let text = conditions.map(\.text).joined(separator: " ")
        return (
            "only-\(String(StableHash(text).value, radix: 16))",
            Chain([Rule(conditions + [.return]), Rule(.accept, comment: "not \(text)")])
        )
    }

    private static let loopback6 = IPAddress.v6(IPv6Address(rawValue: 1))
}

let loopbackInterface: InterfaceName = {
    guard let name = InterfaceName("lo") else { preconditionFailure("lo is a name") }
    return name
}()

let loopback4: IPPrefix = {
    guard let prefix = IPPrefix("127.0.0.0/8") else { preconditionFailure("127.0.0.0/8 is a prefix") }
    return prefix
}()

extension AddressFamily {
    var digit: Int { self == .ipv4 ? 4 : 6 }
}

extension IPPrefix {
    /// The prefix as it may stand in a chain's name, where nft reads no colons.
    var chainText: String { description.split(separator: ":", omittingEmptySubsequences: false).joined(separator: "_") }
}
