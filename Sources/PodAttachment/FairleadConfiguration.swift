public import CNIProtocol
public import NetworkAddresses

/// The keys of the `fairlead` plugin.
public struct FairleadConfiguration: Sendable {
    /// Taken as it is where it is set; otherwise what the underlay carries less the overlay's overhead.
    public var mtu: Int?
    public var overlay: Overlay
    public var stateFolder: StateFolder
    public var policyGate: PolicyGate
    public var addressPlugin: String
    /// The Ethernet address asked for.
    public var mac: MACAddress?
    public var nameService: NameService
    public var hostPorts: HostPortConfiguration
    public var bandwidth: BandwidthConfiguration

    /// What happens before the node agent has admitted a pod to its policy.
    public enum PolicyGate: Hashable, Sendable {
        /// ADD returns at once; the agent's table keeps the address closed until the agent admits it.
        case closed
        /// ADD waits until the address is admitted, and fails when that takes too long.
        case wait(atMost: Duration)
        /// ADD returns at once, and the agent's absence is nothing to wait for.
        case open
    }

    public init(_ configuration: NetworkConfiguration, arguments: CNIArguments) throws(CNIError) {
        let reader = configuration.reader
        mtu = try configuredMTU(reader)
        overlay = try Self.overlay(reader)
        stateFolder = try StateFolder(configuration)
        policyGate = try Self.policyGate(reader)
        guard let plugin = try configuration.addressPlugin() else {
            throw try reader.object("ipam").fault("type", "missing: a pod needs addresses, for example of host-local")
        }
        addressPlugin = plugin
        mac = try configuration.requestedMAC(arguments)
        nameService = try configuration.nameService()
        hostPorts = try HostPortConfiguration(configuration)
        bandwidth = try BandwidthConfiguration(configuration)
    }

    private static func overlay(_ reader: ConfigurationReader) throws(CNIError) -> Overlay {
        switch try reader.string("overlay") ?? "" {
        case "", "none", "direct": return .direct
        case "vxlan": return .vxlan
        case let other: throw reader.fault("overlay", "\"\(other)\" is none of none, direct and vxlan")
        }
    }

    private static func policyGate(_ reader: ConfigurationReader) throws(CNIError) -> PolicyGate {
        let milliseconds = try reader.integer("policyGateTimeout") ?? 5000
        guard (0...600_000).contains(milliseconds) else {
            throw reader.fault("policyGateTimeout", "\(milliseconds) is not within 0…600000 milliseconds")
        }
        switch try reader.string("policyGate") ?? "" {
        case "", "closed": return .closed
        case "wait": return .wait(atMost: .milliseconds(milliseconds))
        case "open": return .open
        case let other: throw reader.fault("policyGate", "\"\(other)\" is none of closed, wait and open")
        }
    }
}

/// The folder that plugins and agent share: the key `stateDir`.
public struct StateFolder: Hashable, Sendable {
    public var path: String

    public init(_ configuration: NetworkConfiguration) throws(CNIError) {
        let path = try configuration.reader.string("stateDir") ?? ""
        guard path.isEmpty || path.utf8.first == UInt8(ascii: "/") else {
            throw configuration.reader.fault("stateDir", "\"\(path)\" does not begin with /")
        }
        self.path = path.isEmpty ? "/run/fairlead" : path
    }

    /// The folder of the attachment records.
    public var attachments: String { "\(path)/\(AttachmentRecord.folder)" }
}
