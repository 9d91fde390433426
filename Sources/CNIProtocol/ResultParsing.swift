internal import NetworkAddresses

extension AttachmentResult {
    /// Reads a result of any version.
    ///
    /// - Parameter version: what to take it for where it does not say; older results need not, or write `CNIVersion`.
    init(parsing reader: ConfigurationReader, unlessStated version: SpecVersion) throws(CNIError) {
        var version = version
        if let text = try reader.string("cniVersion"), !text.isEmpty {
            guard let stated = SpecVersion(text), SpecVersion.supported.contains(stated) else {
                throw reader.fault("cniVersion", "\(JSONValue.string(text).brief) is no version that this plugin knows")
            }
            version = stated
        }
        self.init()
        if version.hasOneAddressPerFamily {
            try readFamily("ip4", .ipv4, of: reader)
            try readFamily("ip6", .ipv6, of: reader)
            extra = reader.object.dropping(["cniVersion", "ip4", "ip6", "dns"])
        } else {
            for entry in try reader.objects("interfaces") { interfaces.append(try Interface(parsing: entry)) }
            for entry in try reader.objects("ips") { addresses.append(try Address(parsing: entry)) }
            for entry in try reader.objects("routes") { routes.append(try Route(parsing: entry)) }
            extra = reader.object.dropping(["cniVersion", "interfaces", "ips", "routes", "dns"])
        }
        nameService = try NameService(parsing: reader.object("dns"))
    }

    /// Reads what another plugin printed.
    public init(printedBy plugin: String, output: [UInt8], for version: SpecVersion) throws(CNIError) {
        let value: JSONValue
        do { value = try JSONValue(parsing: output) } catch {
            throw CNIError(.undecodable, "result of plugin \(plugin): \(error)")
        }
        guard let object = value.object else {
            throw CNIError(.undecodable, "result of plugin \(plugin): expected an object, found \(value.brief)")
        }
        try self.init(parsing: ConfigurationReader(object, path: "result of plugin \(plugin)"), unlessStated: version)
    }

    private mutating func readFamily(
        _ key: String, _ family: AddressFamily, of reader: ConfigurationReader
    ) throws(CNIError) {
        guard let entry = try reader.optionalObject(key) else { return }
        guard let prefix = try entry.prefix("ip"), prefix.family == family else {
            throw entry.fault("ip", "expected an \(family) address with a prefix length")
        }
        addresses.append(Address(prefix, gateway: try entry.address("gateway")))
        for route in try entry.objects("routes") { routes.append(try Route(parsing: route)) }
    }
}

extension AttachmentResult.Interface {
    init(parsing reader: ConfigurationReader) throws(CNIError) {
        self.init(
            name: try reader.string("name") ?? "", mac: try reader.string("mac") ?? "",
            sandbox: try reader.string("sandbox") ?? "", mtu: try reader.integer("mtu"))
        socketPath = try reader.string("socketPath") ?? ""
        pciID = try reader.string("pciID") ?? ""
        extra = reader.object.dropping(["name", "mac", "sandbox", "mtu", "socketPath", "pciID"])
    }
}

extension AttachmentResult.Address {
    init(parsing reader: ConfigurationReader) throws(CNIError) {
        guard let prefix = try reader.prefix("address") else { throw reader.fault("address", "missing") }
        self.init(prefix, gateway: try reader.address("gateway"), interface: try reader.integer("interface"))
        extra = reader.object.dropping(["version", "address", "gateway", "interface"])
    }
}

extension AttachmentResult.Route {
    /// Reads a route of a result or of a configuration's `ipam.routes`.
    public init(parsing reader: ConfigurationReader) throws(CNIError) {
        guard let destination = try reader.prefix("dst") else { throw reader.fault("dst", "missing") }
        self.init(to: destination, via: try reader.address("gw"))
        if let gateway, gateway.family != destination.family {
            throw reader.fault("gw", "\(gateway) is not of the family of \(destination)")
        }
        mtu = try reader.integer("mtu")
        advertisedSegmentSize = try reader.integer("advmss")
        priority = try reader.integer("priority")
        table = try reader.integer("table")
        scope = try reader.integer("scope")
        extra = reader.object.dropping(["dst", "gw", "mtu", "advmss", "priority", "table", "scope"])
    }
}
