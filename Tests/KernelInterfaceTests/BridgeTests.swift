import NetworkAddresses
import RouteNetlink
import SystemPackage
import Testing

@testable import KernelInterface

/// The messages about VLANs, byte by byte: what `bridge` and `ip` of iproute2 6.1 send, seen by strace.
@Suite struct BridgeMessageTests {
    @Test func `a port's own VLAN is the one of what has no tag`() {
        // struct ifinfomsg of AF_BRIDGE, IFLA_AF_SPEC, IFLA_BRIDGE_VLAN_INFO: PVID | UNTAGGED, 100.
        #expect(
            BridgeMessages.joinVLANs(PortVLANs(untagged: 100), port: 3) == [
                44, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                12, 0, 26, 0x80, 8, 0, 2, 0, 6, 0, 100, 0,
            ])
    }

    @Test func `a run of VLANs is its two ends`() {
        let message = BridgeMessages.joinVLANs(PortVLANs(untagged: nil, tagged: [5...7, 9...9]), port: 3)
        #expect(
            Array(message.dropFirst(32)) == [
                28, 0, 26, 0x80, 8, 0, 2, 0, 8, 0, 5, 0, 8, 0, 2, 0, 16, 0, 7, 0, 8, 0, 2, 0, 0, 0, 9, 0,
            ])
    }

    @Test func `leaving a VLAN is the removal of it`() {
        let message = BridgeMessages.leaveVLAN(1, port: 3)
        #expect(Array(message[4..<6]) == [17, 0])
        #expect(Array(message.dropFirst(32)) == [12, 0, 26, 0x80, 8, 0, 2, 0, 0, 0, 1, 0])
    }

    @Test func `filtering is switched on in the bridge's own description`() {
        let message = BridgeMessages.filterVLANs(on: 2)
        #expect(Array(message[4..<6]) == [16, 0] && message[16] == 0 && message[20] == 2)
        #expect(
            Array(message.dropFirst(32)) == [
                28, 0, 18, 0x80, 11, 0, 1, 0, 98, 114, 105, 100, 103, 101, 0, 0, 12, 0, 2, 0x80, 5, 0, 7, 0, 1, 0, 0,
                0,
            ])
    }
}

@Suite(.needsRoot) struct BridgeTests {
    /// Where the kernel has the option, the settings are read back from `bridge`; where it has not, it says so.
    @Test func `VLANs of a port are set, or the kernel says that it has none`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try socket.addBridge(NewLink(InterfaceName("br0")!))
        let bridge = try #require(try socket.link(named: InterfaceName("br0")!)).index
        try socket.addVeth(NewLink(InterfaceName("port")!, bridge: bridge), peer: NewLink(InterfaceName("far")!))
        let port = try #require(try socket.link(named: InterfaceName("port")!)).index
        do {
            try socket.filterVLANs(on: bridge)
        } catch {
            #expect(error.errno == .notSupportedOnSocket && error.operation == "filter VLANs on bridge br0")
            #expect(errno { try socket.setVLANs(of: port, PortVLANs(untagged: 100)) } == .notSupportedOnSocket)
            return
        }
        try socket.setVLANs(of: port, PortVLANs(untagged: 100, tagged: [5...7]))
        let shown = try namespace.output(of: "bridge", "vlan", "show", "dev", "port")
        #expect(shown.contains("100 PVID Egress Untagged") && shown.contains("5") && !shown.contains("1 PVID"))
    }

    @Test func `what is no bridge's port has no VLANs`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let error = #expect(throws: KernelError.self) { try socket.setVLANs(of: 1, PortVLANs(untagged: 100)) }
        #expect(error?.kernelMessage == "it is no bridge's port")
    }
}
