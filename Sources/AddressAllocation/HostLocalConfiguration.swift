public import CNIProtocol
internal import NetworkAddresses

/// The keys of the `host-local` IPAM plugin.
public struct HostLocalConfiguration: Sendable {
    public var request: AddressRequest
    /// Copied into the result as they are.
    public var routes: [AttachmentResult.Route]
    /// The path of a `resolv.conf` to take the result's DNS settings from.
    public var resolvConf: String?
    public var coolDown: CoolDown

    /// Reads the `ipam` object, the addresses asked for and the runtime's ranges.
    public init(_ configuration: NetworkConfiguration, arguments: CNIArguments) throws(CNIError) {
        guard let ipam = try configuration.reader.optionalObject("ipam") else {
            throw CNIError(.invalidConfiguration, "IPAM config missing 'ipam' key")
        }
        let runtime = try configuration.reader.object("runtimeConfig")

        // The runtime's ranges come first, then the one written flat into `ipam`, then the list.
        var sets = try Self.sets(runtime, "ipRanges")
        if try ipam.string("subnet") != nil { sets.append([try Self.range(ipam)]) }
        sets += try Self.sets(ipam, "ranges")
        let requested = try Self.requestedAddresses(configuration, arguments: arguments)
        request = try Self.checked(sets, requested: requested, version: configuration.version)

        var routes: [AttachmentResult.Route] = []
        for route in try ipam.objects("routes") { routes.append(try AttachmentResult.Route(parsing: route)) }
        self.routes = routes
        let resolvConf = try ipam.string("resolvConf")
        self.resolvConf = resolvConf?.isEmpty == false ? resolvConf : nil
        let rest = try ipam.integer("coolDownSeconds")
        if let rest, !(0...86_400).contains(rest) {
            throw ipam.fault("coolDownSeconds", "\(rest) is not within 0…86400")
        }
        coolDown = rest.map { CoolDown(rest: .seconds($0)) } ?? .standard
    }

    /// The folder that holds a folder of leases for each network.
    public static func dataDirectory(_ configuration: NetworkConfiguration) throws(CNIError) -> String {
        let path = try configuration.reader.object("ipam").string("dataDir") ?? ""
        return path.isEmpty ? "/var/lib/cni/networks" : path
    }

    /// Whether leases hold beyond a reboot, for containers that come back with the addresses they had.
    public static func keepsLeasesOverReboot(_ configuration: NetworkConfiguration) throws(CNIError) -> Bool {
        try configuration.reader.object("ipam").bool("keepLeasesOverReboot") ?? false
    }

    private static func sets(
        _ reader: ConfigurationReader, _ key: String
    ) throws(CNIError) -> [[Result<AddressRange, RangeError>]] {
        var sets: [[Result<AddressRange, RangeError>]] = []
        for list in try reader.objectLists(key) {
            var set: [Result<AddressRange, RangeError>] = []
            for entry in list { set.append(try range(entry)) }
            sets.append(set)
        }
        return sets
    }

    /// A range as the keys of `reader` describe it; what makes no range is kept until its place in the list is known.
    private static func range(_ reader: ConfigurationReader) throws(CNIError) -> Result<AddressRange, RangeError> {
        guard let subnet = try reader.prefix("subnet") else { throw reader.fault("subnet", "missing") }
        let first = try reader.address("rangeStart")
        let last = try reader.address("rangeEnd")
        let gateway = try reader.address("gateway")
        do {
            return .success(try AddressRange(subnet: subnet, first: first, last: last, gateway: gateway))
        } catch {
            return .failure(error)
        }
    }

    private static func checked(
        _ lists: [[Result<AddressRange, RangeError>]], requested: [IPAddress], version: SpecVersion
    ) throws(CNIError) -> AddressRequest {
        guard !lists.isEmpty else { throw CNIError(.invalidConfiguration, "no IP ranges specified") }
        var sets: [RangeSet] = []
        for (index, list) in lists.enumerated() {
            do throws(RangeError) {
                var ranges: [AddressRange] = []
                for range in list { ranges.append(try range.get()) }
                sets.append(try RangeSet(ranges))
            } catch {
                throw CNIError(.invalidConfiguration, "invalid range set \(index): \(error)")
            }
        }
        if version.hasOneAddressPerFamily,
            AddressFamily.allCases.contains(where: { family in sets.count { $0.family == family } > 1 })
        {
            throw CNIError(
                .invalidConfiguration, "CNI version \(version) does not support more than 1 address per family")
        }
        do throws(RangeError) {
            try RangeSet.checkDisjoint(sets)
            return try AddressRequest(sets: sets, requested: requested)
        } catch {
            throw CNIError(.invalidConfiguration, error.description)
        }
    }

    /// The addresses asked for: in `CNI_ARGS`, in `args.cni` and by the runtime.
    private static func requestedAddresses(
        _ configuration: NetworkConfiguration, arguments: CNIArguments
    ) throws(CNIError) -> [IPAddress] {
        var addresses = try [arguments.requestedAddress()].compactMap(\.self)
        let args = try configuration.reader.object("args").object("cni")
        for reader in [args, try configuration.reader.object("runtimeConfig")] {
            for text in try reader.strings("ips") where !text.isEmpty {
                guard let address = IPAddress(text) ?? IPPrefix(text)?.address else {
                    throw reader.fault("ips", "invalid IP address \(text)")
                }
                addresses.append(address)
            }
        }
        return addresses
    }
}
