public import CNIProtocol
internal import NetworkAddresses

/// The keys of the `static` IPAM plugin.
public struct StaticConfiguration: Sendable {
    /// Every address in the configuration, with the gateway that is on its network.
    public var addresses: [AttachmentResult.Address]
    public var routes: [AttachmentResult.Route]
    public var nameService: NameService

    /// Reads the `ipam` object; `CNI_ARGS` adds addresses, and `args.cni` and the runtime put theirs in place of all.
    public init(_ configuration: NetworkConfiguration, arguments: CNIArguments) throws(CNIError) {
        guard let ipam = try configuration.reader.optionalObject("ipam") else {
            throw CNIError(.invalidConfiguration, "IPAM config missing 'ipam' key")
        }
        var addresses: [AttachmentResult.Address] = []
        for entry in try ipam.objects("addresses") {
            guard let text = try entry.string("address"), let prefix = IPPrefix(text) else {
                let found = try entry.string("address") ?? ""
                throw entry.fault("address", "the 'address' field is expected to be in CIDR notation, got: '\(found)'")
            }
            addresses.append(.init(prefix, gateway: try entry.address("gateway")))
        }
        try Self.append(arguments, to: &addresses)
        let args = try configuration.reader.object("args").object("cni")
        for reader in [args, try configuration.reader.object("runtimeConfig")] {
            let texts = try reader.strings("ips")
            guard !texts.isEmpty else { continue }
            addresses = []
            for text in texts {
                guard let prefix = IPPrefix(text) else {
                    throw reader.fault("ips", "an entry in the 'ips' field is NOT in CIDR notation, got: '\(text)'")
                }
                addresses.append(.init(prefix))
            }
        }
        if configuration.version.hasOneAddressPerFamily,
            AddressFamily.allCases.contains(where: { family in addresses.count { $0.prefix.family == family } > 1 })
        {
            throw CNIError(
                .invalidConfiguration,
                "CNI version \(configuration.version) does not support more than 1 address per family")
        }
        for (index, address) in addresses.enumerated() {
            if let gateway = address.gateway, gateway.family != address.prefix.family {
                throw ipam.fault("addresses[\(index)].gateway", "\(gateway) is not of the family of \(address.prefix)")
            }
        }
        self.addresses = addresses
        var routes: [AttachmentResult.Route] = []
        for route in try ipam.objects("routes") { routes.append(try AttachmentResult.Route(parsing: route)) }
        self.routes = routes
        nameService = try NameService(parsing: ipam.object("dns"))
    }

    /// Adds the addresses of `IP`, and gives each address of a network the gateway in `GATEWAY` that is on it.
    private static func append(
        _ arguments: CNIArguments, to addresses: inout [AttachmentResult.Address]
    ) throws(CNIError) {
        for text in list(arguments["IP"]) {
            guard let prefix = IPPrefix(text) else {
                throw CNIError(
                    .invalidEnvironment,
                    "CNI_ARGS: the 'ip' field is expected to be in CIDR notation, got: '\(text)'")
            }
            addresses.append(.init(prefix))
        }
        for text in list(arguments["GATEWAY"]) {
            guard let gateway = IPAddress(text) else {
                throw CNIError(.invalidEnvironment, "CNI_ARGS: invalid gateway address: \(text)")
            }
            for index in addresses.indices where addresses[index].prefix.contains(gateway) {
                addresses[index].gateway = gateway
            }
        }
    }

    private static func list(_ text: String?) -> [String] {
        (text ?? "").split(separator: ",").map { String($0.filter { !$0.isWhitespace }) }
    }
}
