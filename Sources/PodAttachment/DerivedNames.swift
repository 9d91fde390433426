public import CNIProtocol
public import NetworkAddresses

extension AttachmentID {
    /// The name of the host's end of a veth: a prefix and 44 bits of the attachment's fingerprint.
    ///
    /// Made of the request alone, so that DEL finds the interface when the pod's namespace is long gone.
    func hostInterface(prefix: String) -> InterfaceName {
        let digits = String(fingerprint & 0xfff_ffff_ffff, radix: 16)
        guard let name = InterfaceName(prefix + String(repeating: "0", count: 11 - digits.count) + digits) else {
            preconditionFailure("a prefix of up to four letters and eleven digits is a name")
        }
        return name
    }

    /// The host's end of a routed attachment.
    public var routedHostInterface: InterfaceName { hostInterface(prefix: "fl") }

    /// The host's end of a bridged attachment: network managers leave alone what is called `veth`.
    public var bridgedHostInterface: InterfaceName { hostInterface(prefix: "veth") }

    /// The device that holds back what a pod sends; the prefix is the reference plugin's.
    public var intermediateBlock: InterfaceName { hostInterface(prefix: "bwp") }

    /// Whether a name was made of some attachment, as the first two above are.
    public static func isHostInterface(_ name: InterfaceName) -> Bool {
        let text = name.description
        guard let prefix = ["fl", "veth"].first(where: text.hasPrefix) else { return false }
        let digits = text.dropFirst(prefix.count)
        return digits.count == 11 && digits.allSatisfy(\.isHexDigit)
    }

    /// The Ethernet address of the pod's end, unless the request names one.
    public var podMAC: MACAddress { MACAddress(locallyAdministered: fingerprint) }

    /// The Ethernet address of the host's end; every bit differs from the pod's that may.
    public var hostMAC: MACAddress { MACAddress(locallyAdministered: ~fingerprint) }
}

extension NetworkConfiguration {
    /// The Ethernet address asked for: in `CNI_ARGS`, overruled by `args.cni`, overruled by the runtime.
    func requestedMAC(_ arguments: CNIArguments) throws(CNIError) -> MACAddress? {
        var mac = try arguments.requestedMAC()
        for reader in [try reader.object("args").object("cni"), try reader.object("runtimeConfig")] {
            if let named: MACAddress = try reader.text("mac", as: "Ethernet address") { mac = named }
        }
        if let mac, mac.bytes[0] & 1 == 1 || mac.rawValue == 0 {
            throw reader.fault("mac", "\(mac) is not the address of one interface")
        }
        return mac
    }
}
