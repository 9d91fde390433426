internal import NetworkAddresses
internal import Nftables

/// The chains and sets of one service port with `sessionAffinity: ClientIP`.
///
/// Each endpoint has a set of the clients that were sent to it, which forgets a client when the timeout has passed since
/// its last new connection, and a chain that remembers the client and translates. The set and chain are named by the
/// endpoint, so they outlive changes of the others, and go with it. Where a set is full, a client is sent on unremembered.
struct SessionAffinity {
    /// The chain to begin with.
    let entry: String
    private(set) var chains: [String: Chain] = [:]
    private(set) var sets: [String: NamedSet] = [:]

    /// - Parameters:
    ///   - service: the service port's name in the kernel, `namespace/name/port/protocol`.
    ///   - transport: that protocol.
    ///   - timeout: seconds.
    ///   - endpoints: targets of one family with their names, at least one.
    init(
        service: String, transport: TransportProtocol, timeout: UInt64,
        endpoints: [(target: SocketAddress, name: String)]
    ) {
        let family = endpoints[0].target.address.family
        let suffix = String(service.prefix(100))
        var remembered: [Rule] = []
        var choices: [Element] = []
        for (index, endpoint) in endpoints.enumerated() {
            let digits = StableHash(service, "\(timeout)", endpoint.target.description).digits
            let (clients, chain) = ("clients-\(digits)-\(suffix)", "endpoint-\(digits)-\(suffix)")
            sets[clients] = NamedSet(SetDefinition(key: [.address(family)], expiry: timeout))
            chains[chain] = Chain(
                [
                    // On the rule and not on the chain: another pod may get the address, and only rules can be edited.
                    Rule(.remember(.source(family), set: clients), comment: endpoint.name),
                    Rule(
                        .match(.transportProtocol, .transport(transport)), .destinationNATTo(endpoint.target)),
                ])
            remembered.append(Rule(.lookup([.source(family)], set: clients), .verdict(.goto(chain))))
            choices.append(Element(ElementKey(.number(UInt32(index))), .verdict(.goto(chain)), comment: endpoint.name))
        }
        // Named by all that is in them: equal names must mean equal content.
        var hash = StableHash(service, "\(timeout)")
        for endpoint in endpoints { hash.combine(endpoint.target.description) }
        let map = "choices-\(hash.digits)-\(suffix)"
        sets[map] = NamedSet(SetDefinition(key: [.number], data: .verdict), choices)
        entry = "sticky-\(hash.digits)-\(suffix)"
        chains[entry] = Chain(
            comment: "svc \(service)",
            remembered + [Rule(.dispatch([.random(below: UInt32(endpoints.count))], map: map))])
    }
}
