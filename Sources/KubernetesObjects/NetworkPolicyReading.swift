import NetworkAddresses

// Every doubt is settled against the connection: what cannot be read matches nothing, so that a typing error never
// opens what a correct policy would have kept closed.

extension NetworkPolicy {
    init(reading root: FieldReader, metadata: ObjectMetadata) throws(FieldError) {
        let spec = try root["spec"]
        guard !spec.isAbsent else { throw spec.error("is missing") }
        let selector = try spec["podSelector"]
        let unknown = try spec.unknownKey(besides: ["podSelector", "policyTypes", "ingress", "egress"])
        if let unknown, selector.isAbsent {
            // It may have been meant as the selector; without one the policy is about all pods.
            throw FieldError(field: unknown, message: "is no field of a NetworkPolicy, and podSelector is missing")
        }
        self.init(
            metadata: metadata,
            podSelector: try selector.readIfPresent() ?? .everything,
            ingress: Self.rules(reading: try spec["ingress"], peers: "from"),
            egress: Self.rules(reading: try spec["egress"], peers: "to"))
        directions = Self.directions(reading: try spec["policyTypes"]) ?? directions
        if let unknown {
            spec.problems.add(
                FieldError(field: unknown, message: "is no field of a NetworkPolicy; pods are isolated both ways"))
            directions = [.ingress, .egress]
        }
    }

    /// The directions that are named; nil where none are; both where one cannot be read.
    private static func directions(reading field: FieldReader) -> Set<Direction>? {
        do throws(FieldError) {
            let types = try field.elements()
            guard !types.isEmpty else { return nil }
            var directions: Set<Direction> = []
            for type in types {
                guard !type.isAbsent else { throw type.error("is missing") }
                directions.insert(try type.choice(["Ingress": .ingress, "Egress": .egress], default: .ingress))
            }
            return directions
        } catch {
            field.problems.add(error.adding("pods are isolated both ways"))
            return [.ingress, .egress]
        }
    }

    private static func rules(reading list: FieldReader, peers: String) -> [PolicyRule] {
        do throws(FieldError) {
            return try list.elements().map { rule in
                rule.noting { () throws(FieldError) in try PolicyRule(reading: rule, peers: peers) } ?? .nothing
            }
        } catch {
            list.problems.add(error.adding("nothing is allowed"))
            return [.nothing]
        }
    }
}

extension PolicyRule {
    init(reading field: FieldReader, peers: String) throws(FieldError) {
        // An empty list element reads as null; the API server would take it for {}, which allows everything.
        guard !field.isAbsent else { throw field.error("is empty; the rule matches nothing") }
        if let unknown = try field.unknownKey(besides: [peers, "ports"]) {
            throw FieldError(field: unknown, message: "is no field of this rule; the rule matches nothing")
        }
        self.peers = PolicyChoice(reading: try field[peers])
        self.ports = PolicyChoice(reading: try field["ports"])
    }
}

extension PolicyChoice where Item: FieldReadable {
    init(reading list: FieldReader) {
        let elements = list.noting { () throws(FieldError) in try list.elements() }
        guard let elements else {
            self = .only([])
            return
        }
        guard !elements.isEmpty else {
            self = .any
            return
        }
        self = .only(elements.compactMap { element in element.noting { () throws(FieldError) in try element.read() } })
    }
}

extension PolicyPeer: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        if let unknown = try field.unknownKey(besides: ["podSelector", "namespaceSelector", "ipBlock"]) {
            throw FieldError(field: unknown, message: "is no field of a peer; the peer matches nothing")
        }
        let pods: LabelSelector? = try field["podSelector"].readIfPresent()
        let namespaces: LabelSelector? = try field["namespaceSelector"].readIfPresent()
        let block: IPBlock? = try field["ipBlock"].readIfPresent()
        switch (pods, namespaces, block) {
        case (nil, nil, let block?): self = .block(block)
        case (_, _, .some): throw field.error("has a selector beside ipBlock; the peer matches nothing")
        case (nil, nil, nil): throw field.error("names no peer; it matches nothing")
        case (let pods, let namespaces, nil):
            self = .pods(pods ?? .everything, in: namespaces.map(PolicyNamespaces.matching) ?? .own)
        }
    }
}

extension IPBlock: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        if let unknown = try field.unknownKey(besides: ["cidr", "except"]) {
            throw FieldError(field: unknown, message: "is no field of an ipBlock; the peer matches nothing")
        }
        cidr = try field["cidr"].read()
        except = try field["except"].readIfPresent() ?? []
        for (element, excepted) in zip(try field["except"].elements(), except)
        where !cidr.contains(excepted) || cidr == excepted {
            field.problems.add(element.error("\(excepted) is no part of \(cidr)"))
        }
    }
}

extension PolicyPort: FieldReadable {
    public init(reading field: FieldReader) throws(FieldError) {
        if let unknown = try field.unknownKey(besides: ["protocol", "port", "endPort"]) {
            throw FieldError(field: unknown, message: "is no field of a port; it matches nothing")
        }
        guard try field.map() != nil else { throw field.error("is empty; it matches nothing") }
        self.init(protocol: try field["protocol"].readIfPresent() ?? .tcp)
        let port = try field["port"]
        let endField = try field["endPort"]
        let end: Port? = try endField.readIfPresent()
        switch (port.value, end) {
        case (.null, nil): match = .any
        case (.null, .some): throw endField.error("needs a port to begin at")
        case (.string, nil): match = .named(try port.read(as: PortName.self).text)
        case (.string, .some): throw endField.error("needs a port that is a number")
        case (_, let end):
            let first: Port = try port.read()
            let last = end ?? first
            guard first <= last else { throw endField.error("\(last) is below the port, \(first)") }
            match = .range(first...last)
        }
    }
}
