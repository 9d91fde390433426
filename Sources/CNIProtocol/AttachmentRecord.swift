public import NetworkAddresses

/// What the node agent is told about an attachment: the content of one file in the `attachments` state folder.
///
/// The plugin writes the file before ADD returns; the agent watches the folder and admits the pod's addresses to its
/// policy. DEL renames it first (`withdrawn`) and removes it last, so that nothing is left on a node without something
/// that tells of it. Readers find what they need inside, not in the file's name.
public struct AttachmentRecord: Hashable, Sendable {
    public var attachment: AttachmentID
    /// The name of the network, which GC goes by.
    public var network: String
    /// The path of the pod's network namespace.
    public var namespacePath: String
    /// From the runtime's `CNI_ARGS`; each empty where the runtime is no Kubernetes one.
    public var podNamespace: String
    public var podName: String
    public var podUID: String
    public var addresses: [IPAddress]
    /// The host's end of the pod's veth.
    public var hostInterface: InterfaceName
    public var hostMAC: MACAddress
    public var podMAC: MACAddress
    /// The number of the pod's network namespace, by which it is told from a later one of the same path; nil in records
    /// of older plugins.
    public var namespaceInode: UInt64?
    /// The configuration that ADD came with, so that what a DEL needs is known when no runtime sends one; nil in records
    /// of older plugins.
    public var configuration: JSONObject?

    public init(
        attachment: AttachmentID, network: String, namespacePath: String, podNamespace: String = "",
        podName: String = "",
        podUID: String = "", addresses: [IPAddress], hostInterface: InterfaceName, hostMAC: MACAddress,
        podMAC: MACAddress, namespaceInode: UInt64? = nil, configuration: JSONObject? = nil
    ) {
        self.attachment = attachment
        self.network = network
        self.namespacePath = namespacePath
        self.podNamespace = podNamespace
        self.podName = podName
        self.podUID = podUID
        self.addresses = addresses
        self.hostInterface = hostInterface
        self.hostMAC = hostMAC
        self.podMAC = podMAC
        self.namespaceInode = namespaceInode
        self.configuration = configuration
    }

    /// The folder of the records inside a state folder.
    public static let folder = "attachments"

    /// How the names of records end.
    public static let suffix = ".json"
    /// How they end once DEL has begun: the attachment is nobody's any more, and not yet removed as a whole.
    public static let withdrawnSuffix = ".gone"

    /// What a record is called once it is withdrawn; nil for a name that is no record's.
    public static func withdrawn(_ name: String) -> String? {
        name.hasSuffix(suffix) ? name.dropLast(suffix.utf8.count) + withdrawnSuffix : nil
    }

    /// Whether a file of that name in the folder is a record of a living attachment.
    public static func isLiving(_ name: String) -> Bool { name.hasSuffix(suffix) && !name.hasPrefix(".") }

    /// Whether it is that of an attachment whose DEL has begun, and was cut short if it is still there after a while.
    public static func isWithdrawn(_ name: String) -> Bool { name.hasSuffix(withdrawnSuffix) && !name.hasPrefix(".") }

    /// The name of an attachment's file: `<container id>-<interface>.json`.
    ///
    /// Where that would be ambiguous (a `-` in the interface's name) or longer than a file's name may be, the
    /// interface's place is taken by 16 hexadecimal digits, which no interface's name is long enough to be.
    public static func fileName(of attachment: AttachmentID) -> String {
        let interface = attachment.interface.description
        let plain = "\(attachment.containerID)-\(interface).json"
        guard plain.utf8.count > 255 || interface.utf8.contains(UInt8(ascii: "-")) else { return plain }
        let digits = String(attachment.fingerprint, radix: 16)
        let padded = String(repeating: "0", count: 16 - digits.count) + digits
        return "\(attachment.containerID.prefix(200))-\(padded).json"
    }
}

extension AttachmentRecord {
    public init(json text: String) throws(CNIError) {
        let value: JSONValue
        do { value = try JSONValue(parsing: text) } catch {
            throw CNIError(.undecodable, "attachment record: \(error)")
        }
        guard let object = value.object else {
            throw CNIError(.undecodable, "attachment record: expected an object, found \(value.brief)")
        }
        let reader = ConfigurationReader(object, path: "attachment record")
        var addresses: [IPAddress] = []
        for text in try reader.strings("addresses") {
            guard let address = IPAddress(text) else {
                throw reader.fault("addresses", "\(JSONValue.string(text).brief) is no IP address")
            }
            addresses.append(address)
        }
        self.init(
            attachment: AttachmentID(
                containerID: try reader.required("containerID"), interface: try reader.required("ifname")),
            network: try reader.string("network") ?? "", namespacePath: try reader.string("netns") ?? "",
            podNamespace: try reader.string("podNamespace") ?? "", podName: try reader.string("podName") ?? "",
            podUID: try reader.string("podUID") ?? "", addresses: addresses,
            hostInterface: try reader.required("hostInterface"), hostMAC: try reader.required("hostMAC"),
            podMAC: try reader.required("podMAC"),
            namespaceInode: try reader.integer("netnsInode").flatMap(UInt64.init(exactly:)),
            configuration: object["configuration"]?.object)
    }

    public var json: String {
        var members: [(String, JSONValue)] = [
            ("containerID", .string(attachment.containerID)), ("ifname", .string(attachment.interface.description)),
            ("network", .string(network)), ("netns", .string(namespacePath)), ("podNamespace", .string(podNamespace)),
            ("podName", .string(podName)), ("podUID", .string(podUID)),
            ("addresses", .array(addresses.map { .string($0.description) })),
            ("hostInterface", .string(hostInterface.description)), ("hostMAC", .string(hostMAC.description)),
            ("podMAC", .string(podMAC.description)),
        ]
        if let inode = namespaceInode.flatMap(Int.init(exactly:)) {
            members.append(("netnsInode", .number(JSONNumber(inode))))
        }
        if let configuration { members.append(("configuration", .object(configuration))) }
        return JSONValue.object(JSONObject(members)).text + "\n"
    }
}

extension AttachmentRecord {
    /// The configuration as a request would have it; nil where the record has none, or none that is understood.
    public var networkConfiguration: NetworkConfiguration? {
        guard let configuration, let version = SpecVersion(configuration["cniVersion"]?.string ?? "") else {
            return nil
        }
        return NetworkConfiguration(json: configuration, version: version, name: network)
    }
}

extension ConfigurationReader {
    fileprivate func required<Value: LosslessStringConvertible>(_ key: String) throws(CNIError) -> Value {
        guard let value: Value = try text(key, as: "value for it") else { throw fault(key, "missing") }
        return value
    }
}

extension AttachmentID {
    /// A number that stands for the attachment: the same in every process and at every boot.
    ///
    /// FNV-1a over both names with a byte between that neither can hold, mixed so that every bit counts in any part of
    /// it. Names of interfaces and Ethernet addresses are made of it, so that DEL finds them with nothing but the
    /// request.
    public var fingerprint: UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for part in [containerID, "\0", interface.description] {
            for byte in part.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        }
        hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 33) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ hash >> 33
    }
}
