public import NetworkAddresses

/// What an ADD has made: the specification's result, in the newest version's terms.
///
/// Keys that the specification does not know are kept beside the known ones and printed again, so that a result passed
/// through a chain loses nothing.
public struct AttachmentResult: Hashable, Sendable {
    public var interfaces: [Interface]
    public var addresses: [Address]
    public var routes: [Route]
    public var nameService: NameService
    var extra: JSONObject = [:]

    public struct Interface: Hashable, Sendable {
        public var name: String
        /// As text, because other plugins' interfaces need not be Ethernet.
        public var mac: String
        /// The path of the namespace that holds the interface; empty on the host.
        public var sandbox: String
        public var mtu: Int?
        var socketPath: String = ""
        var pciID: String = ""
        var extra: JSONObject = [:]

        public init(name: String, mac: String = "", sandbox: String = "", mtu: Int? = nil) {
            self.name = name
            self.mac = mac
            self.sandbox = sandbox
            self.mtu = mtu
        }
    }

    public struct Address: Hashable, Sendable {
        /// The address with the prefix length of its network.
        public var prefix: IPPrefix
        public var gateway: IPAddress?
        /// The place in `interfaces` of the interface that has the address.
        public var interface: Int?
        var extra: JSONObject = [:]

        public init(_ prefix: IPPrefix, gateway: IPAddress? = nil, interface: Int? = nil) {
            self.prefix = prefix
            self.gateway = gateway
            self.interface = interface
        }
    }

    public struct Route: Hashable, Sendable {
        public var destination: IPPrefix
        public var gateway: IPAddress?
        public var mtu: Int?
        public var advertisedSegmentSize: Int?
        public var priority: Int?
        public var table: Int?
        public var scope: Int?
        var extra: JSONObject = [:]

        public init(to destination: IPPrefix, via gateway: IPAddress? = nil) {
            self.destination = destination
            self.gateway = gateway
        }
    }

    public init(
        interfaces: [Interface] = [], addresses: [Address] = [], routes: [Route] = [],
        nameService: NameService = NameService()
    ) {
        self.interfaces = interfaces
        self.addresses = addresses
        self.routes = routes
        self.nameService = nameService
    }
}

/// How a container resolves names: the specification's `dns`.
public struct NameService: Hashable, Sendable {
    public var nameservers: [String] = []
    public var domain: String = ""
    public var search: [String] = []
    public var options: [String] = []

    public init() {}

    public init(parsing reader: ConfigurationReader) throws(CNIError) {
        nameservers = try reader.strings("nameservers")
        domain = try reader.string("domain") ?? ""
        search = try reader.strings("search")
        options = try reader.strings("options")
    }

    /// Reads the capability `dns`, which has names of its own for the same things.
    init(runtime reader: ConfigurationReader) throws(CNIError) {
        nameservers = try reader.strings("servers")
        search = try reader.strings("searches")
        options = try reader.strings("options")
    }

    public var isEmpty: Bool { self == NameService() }

    /// Reads `resolv.conf` notation; what is none of its keywords is skipped.
    public init(resolvConf text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard words.count >= 2, words[0].first != "#", words[0].first != ";" else { continue }
            switch words[0] {
            case "nameserver": nameservers.append(words[1])
            case "domain": domain = words[1]
            case "search": search += words[1...]
            case "options": options += words[1...]
            default: break
            }
        }
    }

    var json: JSONValue {
        var object: JSONObject = [:]
        if !nameservers.isEmpty { object["nameservers"] = .array(nameservers.map(JSONValue.string)) }
        if !domain.isEmpty { object["domain"] = .string(domain) }
        if !search.isEmpty { object["search"] = .array(search.map(JSONValue.string)) }
        if !options.isEmpty { object["options"] = .array(options.map(JSONValue.string)) }
        return .object(object)
    }
}
