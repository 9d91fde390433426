public import NetworkAddresses

/// What a container runtime names an attachment by: a container and an interface in it.
public struct AttachmentID: Hashable, Sendable {
    public var containerID: String
    public var interface: InterfaceName

    public init(containerID: String, interface: InterfaceName) {
        self.containerID = containerID
        self.interface = interface
    }
}

/// A request about a network as a whole: GC and STATUS, and the part of every other request.
public struct NetworkRequest: Sendable {
    public var configuration: NetworkConfiguration
    /// The bytes of the configuration as they came, for the plugins that we delegate to.
    public var input: [UInt8]
    /// The whole environment, for the plugins that we delegate to.
    public var environment: [String: String]

    /// The folders of `CNI_PATH` in order.
    public var pluginFolders: [String] {
        (environment["CNI_PATH"] ?? "").split(separator: ":").map(String.init)
    }
}

/// A request about one attachment: ADD, DEL and CHECK.
public struct AttachmentRequest: Sendable {
    public var network: NetworkRequest
    public var attachment: AttachmentID
    /// The path of the container's network namespace; empty where DEL came without one.
    public var namespacePath: String

    public var configuration: NetworkConfiguration { network.configuration }

    /// The pairs of `CNI_ARGS`.
    ///
    /// Parsed on demand, so that a DEL, which needs none of them, never fails for one.
    public func arguments() throws(CNIError) -> CNIArguments {
        try CNIArguments(parsing: network.environment["CNI_ARGS"] ?? "")
    }
}

/// The configuration of one plugin of a network, as the runtime hands it over.
public struct NetworkConfiguration: Sendable {
    public let json: JSONObject
    public let version: SpecVersion
    public let name: String

    init(json: JSONObject, version: SpecVersion, name: String) {
        self.json = json
        self.version = version
        self.name = name
    }

    public var reader: ConfigurationReader { ConfigurationReader(json) }

    /// The type of the IPAM plugin, or nil where addresses are none of this network's business.
    public func addressPlugin() throws(CNIError) -> String? {
        let type = try reader.object("ipam").string("type")
        return type?.isEmpty == false ? type : nil
    }

    /// The result of the plugins before this one, or of the ADD that a CHECK is about.
    public func previousResult() throws(CNIError) -> AttachmentResult? {
        guard let object = try reader.optionalObject("prevResult") else { return nil }
        return try AttachmentResult(parsing: object, unlessStated: version)
    }

    /// The previous result where there must be one, as for CHECK.
    public func requiredPreviousResult() throws(CNIError) -> AttachmentResult {
        guard let result = try previousResult() else {
            throw CNIError(.invalidConfiguration, "Required prevResult missing")
        }
        return result
    }

    /// The DNS settings that take the place of the IPAM plugin's: the runtime's (capability `dns`), or else the
    /// configuration's own.
    public func nameService() throws(CNIError) -> NameService {
        let runtime = try NameService(runtime: reader.object("runtimeConfig").object("dns"))
        return runtime.isEmpty ? try NameService(parsing: reader.object("dns")) : runtime
    }

    /// The attachments that GC must keep.
    ///
    /// An absent list is an empty one: the reference runtime library leaves the key out when nothing is valid. The list
    /// also has an older name. What is no list is refused, because taking it for an empty one would free everything.
    public func validAttachments() throws(CNIError) -> Set<AttachmentID> {
        let key = json["cni.dev/valid-attachments"] != nil ? "cni.dev/valid-attachments" : "cni.dev/attachments"
        var attachments: Set<AttachmentID> = []
        for entry in try reader.objects(key) {
            guard let containerID = try entry.string("containerID"), !containerID.isEmpty else {
                throw entry.fault("containerID", "missing")
            }
            guard let interface = try entry.text("ifname", as: "interface name", InterfaceName.self) else {
                throw entry.fault("ifname", "missing")
            }
            attachments.insert(AttachmentID(containerID: containerID, interface: interface))
        }
        return attachments
    }
}
