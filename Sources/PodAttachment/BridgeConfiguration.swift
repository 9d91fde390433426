public import CNIProtocol
public import NetworkAddresses

/// The keys of the `bridge` plugin.
public struct BridgeConfiguration: Sendable {
    /// The name of the network.
    public var network: String
    public var bridge: InterfaceName
    public var isGateway: Bool
    public var isDefaultGateway: Bool
    public var forceAddress: Bool
    public var mtu: Int?
    public var hairpin: Bool
    public var promiscuous: Bool
    public var portIsolation: Bool
    /// Whether the pod may send under its own Ethernet address only.
    public var checksSpoofing: Bool
    /// Whether the pod's IPv6 addresses are asked for on the bridge before they serve.
    public var detectsDuplicates: Bool
    /// Nil for a bridge whose ports are all in one network.
    public var vlans: BridgeVLANs?
    /// Whether what the pod sends out of its network gets the node's address.
    public var masquerades: Bool
    /// The pod's end stays down and without addresses, for somebody else to finish.
    public var leavesPodInterfaceDown: Bool
    /// Nil where the network is a plain layer 2 one.
    public var addressPlugin: String?
    public var mac: MACAddress?
    public var nameService: NameService
    public var stateFolder: StateFolder

    public init(_ configuration: NetworkConfiguration, arguments: CNIArguments) throws(CNIError) {
        let reader = configuration.reader
        network = configuration.name
        bridge = try Self.bridgeName(reader)
        isDefaultGateway = try reader.isTrue("isDefaultGateway")
        let isGateway = try reader.isTrue("isGateway")
        self.isGateway = isGateway || isDefaultGateway
        forceAddress = try reader.isTrue("forceAddress")
        mtu = try configuredMTU(reader)
        hairpin = try reader.isTrue("hairpinMode")
        promiscuous = try reader.isTrue("promiscMode")
        portIsolation = try reader.isTrue("portIsolation")
        checksSpoofing = try reader.isTrue("macspoofchk")
        detectsDuplicates = try reader.isTrue("enabledad")
        vlans = try BridgeVLANs(reader, bridge: bridge)
        masquerades = try reader.isTrue("ipMasq")
        leavesPodInterfaceDown = try reader.isTrue("disableContainerInterface")
        addressPlugin = try configuration.addressPlugin()
        mac = try configuration.requestedMAC(arguments)
        nameService = try configuration.nameService()
        stateFolder = try StateFolder(configuration)
        guard !(hairpin && promiscuous) else {
            throw CNIError(
                .invalidConfiguration, "cannot set hairpin mode and promiscuous mode at the same time",
                details: "hairpinMode and promiscMode are both true")
        }
        guard !(leavesPodInterfaceDown && addressPlugin != nil) else {
            throw CNIError(
                .invalidConfiguration, "cannot use IPAM when DisableContainerInterface flag is set",
                details: "disableContainerInterface is true and ipam.type is set")
        }
    }

    /// The interface of the node that has the gateways' addresses.
    public var gatewayInterface: InterfaceName { vlans?.gateway ?? bridge }

    /// The bridge's name; CHECK and DEL need nothing else of the configuration.
    public static func bridgeName(_ reader: ConfigurationReader) throws(CNIError) -> InterfaceName {
        guard let name = try reader.text("bridge", as: "interface name", InterfaceName.self) ?? InterfaceName("cni0")
        else {
            throw reader.fault("bridge", "missing")
        }
        return name
    }
}

extension ConfigurationReader {
    /// Whether the key is there and true.
    func isTrue(_ key: String) throws(CNIError) -> Bool { try bool(key) ?? false }
}
