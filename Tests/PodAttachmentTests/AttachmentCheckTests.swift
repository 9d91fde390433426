import CNIProtocol
import NetworkAddresses
import PodAttachment
import RouteNetlink
import Testing

private let podMAC = MACAddress("02:00:00:00:00:02")!
private let hostMAC = MACAddress("02:00:00:00:00:01")!

private func previous(host: String) -> AttachmentResult {
    AttachmentResult(
        interfaces: [
            .init(name: host, mac: hostMAC.description),
            .init(name: "eth0", mac: podMAC.description, sandbox: "/run/netns/pod"),
        ],
        addresses: [.init(IPPrefix("10.1.2.3/32")!, interface: 1), .init(IPPrefix("10.7.7.7/32")!, interface: 0)],
        routes: [
            .init(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("169.254.1.1")),
            .init(to: IPPrefix("10.9.0.0/16")!, via: IPAddress("10.1.2.1")),
        ])
}

/// An attachment as it should be.
private func observed(host: InterfaceName) -> ObservedAttachment {
    var observed = ObservedAttachment()
    observed.podInterface = Link(index: 2, name: attachment.interface, kind: .veth, mac: podMAC, peerIndex: 12)
    observed.podAddresses = [IPPrefix("10.1.2.3/32")!, IPPrefix("fe80::1/64")!]
    observed.podRoutes = [
        Route(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("10.1.2.1"), link: 2),
        Route(to: IPPrefix("10.9.0.0/16")!, via: IPAddress("10.1.2.1"), link: 2),
        Route(to: IPPrefix("10.8.0.0/16")!, link: 2),
    ]
    observed.hostInterface = Link(index: 12, name: host, kind: .veth, mac: hostMAC, bridge: 5, peerIndex: 2)
    observed.hostRoutes = [
        Route(to: IPPrefix("10.1.2.3/32")!, link: 12), Route(to: IPPrefix("10.7.7.7/32")!, link: 12),
    ]
    observed.hostNeighbors = ["10.1.2.3", "10.7.7.7"].map { Neighbor(IPAddress($0)!, mac: podMAC, link: 12) }
    observed.bridge = Link(index: 5, name: InterfaceName("br0")!, kind: .bridge)
    return observed
}

/// The fault that is found after `change`, nil where none is.
private func fault(_ change: (inout ObservedAttachment) -> Void) throws -> String? {
    let host = attachment.routedHostInterface
    let request = try request("")
    var found = observed(host: host)
    change(&found)
    do throws(CNIError) {
        let previous = previous(host: host.description)
        try found.checkPod(of: request, against: previous)
        try found.checkRouted(attachment, against: previous)
        try found.checkBridged(attachment, bridge: InterfaceName("br0")!, against: previous)
        return nil
    } catch { return error.message }
}

@Suite struct AttachmentCheckTests {
    @Test func `an attachment as ADD made it has no fault`() throws {
        #expect(try fault { _ in } == nil)
    }

    @Test func `each thing that is missing is a fault by name`() throws {
        #expect(try fault { $0.podInterface = nil } == "Interface name eth0 not found")
        #expect(try fault { $0.podInterface?.kind = .bridge } == "Error: Container interface eth0 not of type veth")
        #expect(
            try fault { $0.podInterface?.mac = hostMAC }?.hasPrefix("Interface eth0 Mac \(podMAC) doesn't match")
                == true)
        #expect(
            try fault { $0.podAddresses = [IPPrefix("10.1.2.3/24")!] }
                == "Failed to match addr 10.1.2.3/32 on interface eth0")
        #expect(
            try fault { $0.podRoutes.remove(at: 1) }
                == "Expected Route 10.9.0.0/16 via 10.1.2.1 not found in routing table")
        #expect(try fault { $0.podRoutes.remove(at: 0) }?.hasPrefix("Expected Route 0.0.0.0/0") == true)
        #expect(try fault { $0.hostInterface = nil } == "Interface name fld162ccb905e not found")
        #expect(try fault { $0.hostInterface?.peerIndex = 3 }?.contains("is not the other end") == true)
        #expect(try fault { $0.podInterface?.peerIndex = 13 }?.contains("is not the other end") == true)
        #expect(try fault { $0.hostInterface?.isUp = false } == "Interface fld162ccb905e is down")
        #expect(try fault { $0.hostInterface?.mac = podMAC }?.hasPrefix("Interface fld162ccb905e Mac") == true)
        #expect(try fault { $0.hostRoutes.remove(at: 0) }?.hasPrefix("Expected Route 10.1.2.3 on") == true)
        #expect(try fault { $0.hostNeighbors[0].mac = hostMAC }?.hasPrefix("neighbour 10.1.2.3") == true)
        #expect(try fault { $0.bridge = nil } == "Interface name br0 not found")
        #expect(try fault { $0.bridge?.kind = .veth } == "Interface br0 does not have link type of bridge")
        #expect(try fault { $0.hostInterface?.bridge = 6 } == "CNI veth created for bridge br0 was not found")
    }

    @Test func `the previous result must speak of this pod`() throws {
        let request = try request("")
        var result = previous(host: "x")
        result.interfaces[1].sandbox = "/run/netns/other"
        let elsewhere = #expect(throws: CNIError.self) {
            try observed(host: attachment.interface).checkPod(of: request, against: result)
        }
        #expect(
            elsewhere?.message
                == "Sandbox in prevResult /run/netns/other doesn't match configured netns: /run/netns/pod")
        result.interfaces.removeLast()
        let nowhere = #expect(throws: CNIError.self) {
            try observed(host: attachment.interface).checkPod(of: request, against: result)
        }
        #expect(nowhere?.message == "Interface eth0 is expected to be in a sandbox")
    }
}
