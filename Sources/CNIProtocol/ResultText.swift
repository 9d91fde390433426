internal import NetworkAddresses

extension AttachmentResult {
    /// The result in the shape of `version`.
    public func json(as version: SpecVersion) throws(CNIError) -> JSONValue {
        var object: JSONObject = ["cniVersion": .string(version.description)]
        if version.hasOneAddressPerFamily {
            // Refused as the reference plugins do: the old shape cannot say that an interface has no address.
            guard interfaces.isEmpty || !addresses.isEmpty else {
                throw CNIError(.internal, "cannot convert: no valid IP addresses")
            }
            object["ip4"] = family(.ipv4)
            object["ip6"] = family(.ipv6)
        } else {
            object.setList("interfaces", interfaces.map { $0.json(as: version) })
            object.setList("ips", addresses.map { $0.json(as: version) })
            object.setList("routes", routes.map(\.json))
        }
        if version < .v1_0_0 || !nameService.isEmpty { object["dns"] = nameService.json }
        object.append(extra)
        return .object(object)
    }

    /// The first address of a family with the family's routes, as versions before 0.3.0 print them.
    private func family(_ family: AddressFamily) -> JSONValue? {
        guard let first = addresses.first(where: { $0.prefix.family == family }) else { return nil }
        var object: JSONObject = ["ip": .string(first.prefix.description)]
        if let gateway = first.gateway { object["gateway"] = .string(gateway.description) }
        object.setList("routes", routes.filter { $0.destination.family == family }.map(\.destinationAndGateway))
        return .object(object)
    }
}

extension AttachmentResult.Interface {
    fileprivate func json(as version: SpecVersion) -> JSONValue {
        var object: JSONObject = ["name": .string(name)]
        if !mac.isEmpty { object["mac"] = .string(mac) }
        if !sandbox.isEmpty { object["sandbox"] = .string(sandbox) }
        if version >= .v1_0_0 {
            if let mtu, mtu != 0 { object["mtu"] = .number(JSONNumber(mtu)) }
            if !socketPath.isEmpty { object["socketPath"] = .string(socketPath) }
            if !pciID.isEmpty { object["pciID"] = .string(pciID) }
        }
        object.append(extra)
        return .object(object)
    }
}

extension AttachmentResult.Address {
    fileprivate func json(as version: SpecVersion) -> JSONValue {
        var object: JSONObject = [:]
        if version < .v1_0_0 { object["version"] = prefix.family == .ipv4 ? "4" : "6" }
        if let interface { object["interface"] = .number(JSONNumber(interface)) }
        object["address"] = .string(prefix.description)
        if let gateway { object["gateway"] = .string(gateway.description) }
        object.append(extra)
        return .object(object)
    }
}

extension AttachmentResult.Route {
    fileprivate var destinationAndGateway: JSONValue {
        var object: JSONObject = ["dst": .string(destination.description)]
        if let gateway { object["gw"] = .string(gateway.description) }
        return .object(object)
    }

    fileprivate var json: JSONValue {
        var object = destinationAndGateway.object ?? [:]
        for (key, number) in [
            ("mtu", mtu), ("advmss", advertisedSegmentSize), ("priority", priority), ("table", table), ("scope", scope),
        ] {
            if let number { object[key] = .number(JSONNumber(number)) }
        }
        object.append(extra)
        return .object(object)
    }
}

extension JSONObject {
    /// Sets `key` unless the list is empty: the specification leaves empty lists out.
    fileprivate mutating func setList(_ key: String, _ elements: [JSONValue]) {
        if !elements.isEmpty { self[key] = .array(elements) }
    }

    fileprivate mutating func append(_ other: JSONObject) {
        for member in other.members where self[member.key] == nil { self[member.key] = member.value }
    }
}
