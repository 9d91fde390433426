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
    public var masquerading: Masquerading

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
        bandwidth = try BandwidthConfiguration(configuration, readingAnnotations: true)
        masquerading = try Masquerading(reader)
    }

    private static func overlay(_ reader: ConfigurationReader) throws(CNIError) -> Overlay {
        switch try reader.string("overlay") ?? "" {
        case "", "none", "direct": return .direct
        // Where some nodes are reached through the tunnel, no packet may be too large for it.
        case "vxlan", "cross-subnet": return .vxlan
        case let other: throw reader.fault("overlay", "\"\(other)\" is none of none, direct, cross-subnet and vxlan")
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

/// Where pods' connections leave under the node's address: the keys `ipMasq` and `clusterCIDRs`.
///
/// A network outside the cluster knows no way back to a pod. The pods of the other nodes do, and must see the pod's own
/// address, for policies are about it; so nothing is masqueraded before the ranges of the whole cluster are known.
public struct Masquerading: Hashable, Sendable {
    /// The networks that reach pods by their own addresses; none where nothing is masqueraded.
    public var clusterRanges: [IPPrefix]
    /// Whether a pod's address of a family without a range is a mistake.
    private var isRequired: Bool

    public init(_ reader: ConfigurationReader) throws(CNIError) {
        var ranges: [IPPrefix] = []
        for text in try reader.strings("clusterCIDRs") {
            guard let range = IPPrefix(text) else {
                throw reader.fault("clusterCIDRs", "\"\(text)\" is no network such as 10.244.0.0/16")
            }
            if !ranges.contains(range.network) { ranges.append(range.network) }
        }
        let wish = try reader.bool("ipMasq")
        if wish == true, ranges.isEmpty {
            throw reader.fault(
                "ipMasq", "true needs clusterCIDRs, the ranges of all pods of the cluster: they keep their addresses")
        }
        isRequired = wish == true
        clusterRanges = wish == false ? [] : ranges
    }

    /// What to masquerade of a pod's addresses: those of the families that have a range.
    public func sources(of addresses: [IPAddress]) throws(CNIError) -> [MasqueradeTable.Source] {
        var sources: [MasqueradeTable.Source] = []
        for address in addresses {
            let inside = clusterRanges.filter { $0.family == address.family }
            guard !inside.isEmpty else {
                guard !isRequired else {
                    throw CNIError(
                        .invalidConfiguration,
                        "clusterCIDRs: no range of the family of \(address), and ipMasq is true")
                }
                continue
            }
            sources.append(.init(address, inside: inside))
        }
        return sources
    }
}

/// The folder that plugins and agent share: the key `stateDir`.
public struct StateFolder: Hashable, Sendable {
    public var path: String

    public init(path: String) { self.path = path }

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
