import CLinux
import Glibc
public import NetworkAddresses

/// What links leave to the hardware beneath them (ethtool's features).
public struct LinkFeatures: ~Copyable, Sendable {
    private let socket: Descriptor

    /// Opens a socket of the calling thread's network namespace, whose links it is about.
    public static func open() throws(KernelError) -> LinkFeatures {
        let raw = try systemCall("open a socket for link features") { fairlead_socket(AF_INET, 1, 0) }
        return LinkFeatures(socket: Descriptor(owning: raw))
    }

    private init(socket: consuming Descriptor) { self.socket = socket }

    /// Whether checksums of what a link transmits are left to the hardware; `EOPNOTSUPP` for links that know no such
    /// thing. Equivalent to the line `tx-checksumming` of `ethtool -k LINK` (`ETHTOOL_GTXCSUM`).
    public func transmitChecksumOffload(of link: InterfaceName) throws(KernelError) -> Bool {
        let raw = socket.rawValue
        return try systemCall("ask for the checksum offload of \(link)") {
            fairlead_transmit_checksum(raw, link.description)
        } == 1
    }

    /// Switches that. Equivalent to `ethtool -K LINK tx on|off` (`ETHTOOL_STXCSUM`).
    public func setTransmitChecksumOffload(of link: InterfaceName, to isOn: Bool) throws(KernelError) {
        let raw = socket.rawValue
        try systemCall("switch the checksum offload of \(link) \(isOn ? "on" : "off")") {
            fairlead_set_transmit_checksum(raw, link.description, isOn ? 1 : 0)
        }
    }
}
