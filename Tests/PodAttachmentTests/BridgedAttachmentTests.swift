import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment
import RouteNetlink
import Testing

private func bridged(
    _ leased: AttachmentResult, _ keys: String = "", bridge: BridgedAttachment.ObservedBridge? = nil
) throws -> BridgedAttachment {
    let ipam = leased.addresses.isEmpty ? "" : #", "ipam": {"type": "host-local"}"#
    let request = try request(#""bridge": "br0"\#(keys)\#(ipam)"#)
    let configuration = try BridgeConfiguration(request.configuration, arguments: CNIArguments())
    return try BridgedAttachment(
        attachment, leased: leased, configuration: configuration, bridge: bridge,
        newBridgeMAC: MACAddress("02:00:00:00:00:aa")!, underlay: Underlay(mtu: 1500, family: .ipv4))
}

private func existing(
    _ addresses: String..., kind: Link.Kind = .bridge, isUp: Bool = true
) -> BridgedAttachment.ObservedBridge {
    .init(
        link: Link(index: 7, name: InterfaceName("br0")!, kind: kind, isUp: isUp),
        addresses: addresses.map { IPPrefix($0)! })
}

@Suite struct BridgedAttachmentTests {
    @Test func `only who makes something of the node's part must be alone`() throws {
        let leased = leased("10.1.2.2/24")
        let gateway = #", "isGateway": true"#
        #expect(try bridged(leased, gateway).makesNodesPart())
        #expect(try bridged(leased, gateway, bridge: existing()).makesNodesPart())
        #expect(try !bridged(leased, gateway, bridge: existing("10.1.2.1/24")).makesNodesPart())
        // Raising it twice is no more than raising it once.
        #expect(try !bridged(leased, gateway, bridge: existing("10.1.2.1/24", isUp: false)).makesNodesPart())
        #expect(
            try bridged(leased, gateway + #", "forceAddress": true"#, bridge: existing("10.1.2.9/24")).makesNodesPart())
        #expect(try !bridged(leased, bridge: existing()).makesNodesPart())
    }

    @Test func `a gateway bridge and its first pod take these steps`() throws {
        let plan = try bridged(
            leased("10.1.2.2/24", "fd00::2/64 fd00::1"), #", "isDefaultGateway": true, "hairpinMode": true"#)
        #expect(
            try plan.steps().map(\.description) == [
                "make bridge br0", "set net/ipv6/conf/br0/accept_dad = 0", "set net/ipv6/conf/br0/accept_ra = 0",
                "set br0 up", "make veth vethd162ccb905e to the pod's eth0 on bridge br0",
                "label vethd162ccb905e pods/c1/eth0", "set port vethd162ccb905e hairpin",
                "set net/ipv6/conf/vethd162ccb905e/accept_ra = 0", "set net/ipv6/conf/lo/disable_ipv6 = 0 in the pod",
                "set net/ipv6/conf/eth0/disable_ipv6 = 0 in the pod",
                "set net/ipv6/conf/eth0/accept_dad = 0 in the pod",
                "set net/ipv6/conf/eth0/keep_addr_on_down = 1 in the pod",
                "set net/ipv4/conf/eth0/arp_notify = 1 in the pod", "add address 10.1.2.2/24 to the pod's eth0",
                "add address fd00::2/64 to the pod's eth0", "set the pod's eth0 up", "add address 10.1.2.1/24 to br0",
                "pin the Ethernet address of br0", "add address fd00::1/64 to br0", "pin the Ethernet address of br0",
                "set net/ipv4/ip_forward = 1", "set net/ipv6/conf/all/forwarding = 1",
                "add route 0.0.0.0/0 via 10.1.2.1 on the pod's eth0", "add route ::/0 via fd00::1 on the pod's eth0",
                "forget neighbour 10.1.2.2 on br0", "forget neighbour fd00::2 on br0",
                "wait for vethd162ccb905e to run",
                "wait for the pod to take in packets to fd00::2", "wait for the host to take in packets to fd00::1",
            ])
    }

    @Test func `every step that outlives the pod can be taken back`() throws {
        let plan = try bridged(
            leased("10.1.2.2/24"), #", "isGateway": true, "forceAddress": true"#,
            bridge: existing("10.9.9.1/24", isUp: false))
        let bridge = Place.host(InterfaceName("br0")!)
        #expect(
            try plan.steps().compactMap(\.undo) == [
                .removeLink(attachment.bridgedHostInterface), .addAddress(IPPrefix("10.9.9.1/24")!, bridge),
                .removeAddress(IPPrefix("10.1.2.1/24")!, bridge),
            ])
        #expect(try bridged(leased()).steps().compactMap(\.undo).first == .removeBridge(InterfaceName("br0")!))
    }

    @Test func `a second pod leaves the bridge as it is`() throws {
        let plan = try bridged(
            leased("10.1.2.3/24"), #", "isGateway": true"#, bridge: existing("10.1.2.1/24", "fe80::1/64"))
        let steps = try plan.steps().map(\.description)
        #expect(
            !steps.contains {
                $0.hasPrefix("make bridge") || $0.hasPrefix("add address 10.1.2.1") || $0.hasPrefix("pin")
            })
    }

    @Test func `a plain layer 2 network gets an interface that is up`() throws {
        let plan = try bridged(leased(), #", "portIsolation": true, "promiscMode": true"#)
        #expect(
            try plan.steps().map(\.description) == [
                "make bridge br0", "set net/ipv6/conf/br0/accept_dad = 0", "set net/ipv6/conf/br0/accept_ra = 0",
                "set br0 up", "set br0 promiscuous",
                "make veth vethd162ccb905e to the pod's eth0 on bridge br0",
                "label vethd162ccb905e pods/c1/eth0", "set port vethd162ccb905e isolated",
                "set net/ipv6/conf/vethd162ccb905e/accept_ra = 0", "set the pod's eth0 up",
                "wait for vethd162ccb905e to run",
            ])
        let left = try bridged(leased(), #", "disableContainerInterface": true"#).steps().map(\.description)
        #expect(!left.contains("set the pod's eth0 up") && !left.contains { $0.hasPrefix("wait") })
    }

    @Test func `the result has bridge, host's end and pod's end, in that order`() throws {
        let plan = try bridged(
            leased("10.1.2.2/24", routes: [.init(to: IPPrefix("10.0.0.0/8")!)]), #", "isDefaultGateway": true"#)
        #expect(
            try plan.result(sandbox: "/run/netns/pod", bridgeMAC: MACAddress("02:00:00:00:00:bb")).json(as: .v1_0_0)
                == [
                    "cniVersion": "1.0.0",
                    "interfaces": [
                        ["name": "br0", "mac": "02:00:00:00:00:bb"],
                        ["name": "vethd162ccb905e", "mac": "22:e9:d3:34:6f:a1"],
                        ["name": "eth0", "mac": "de:16:2c:cb:90:5e", "sandbox": "/run/netns/pod"],
                    ],
                    "ips": [["interface": 2, "address": "10.1.2.2/24", "gateway": "10.1.2.1"]],
                    "routes": [["dst": "10.0.0.0/8"], ["dst": "0.0.0.0/0", "gw": "10.1.2.1"]],
                ])
    }

    @Test func `routes without a gateway go by the family's first one`() throws {
        let plan = try bridged(
            leased(
                "10.1.2.2/24 10.1.2.254", "fd00::2/64",
                routes: [.init(to: IPPrefix("10.0.0.0/8")!), .init(to: IPPrefix("fd01::/64")!)]))
        let routes = try plan.steps().map(\.description).filter { $0.hasPrefix("add route") }
        #expect(
            routes == [
                "add route 10.0.0.0/8 via 10.1.2.254 on the pod's eth0", "add route fd01::/64 on the pod's eth0",
            ])
    }

    @Test func `a default route of the IPAM plugin's is the default route`() throws {
        let routes = [AttachmentResult.Route(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("10.1.2.99"))]
        #expect(try bridged(leased("10.1.2.2/24", routes: routes), #", "isDefaultGateway": true"#).routes == routes)
    }

    @Test func `another address on the bridge is in the way of IPv4 always, of IPv6 only when they overlap`() throws {
        let message = { (address: String, bridge: String) in
            do {
                _ = try bridged(leased(address), #", "isGateway": true"#, bridge: existing(bridge)).steps()
                return nil as String?
            } catch { return (error as? CNIError)?.message }
        }
        #expect(
            message("10.1.2.2/24", "10.9.9.1/24")
                == #"failed to set bridge addr: "br0" already has an IP address different from 10.1.2.1/24"#)
        #expect(
            message("fd00::2/64", "fd00::9/64")
                == #"failed to set bridge addr: "br0" already has an IP address different from fd00::1/64"#)
        #expect(message("fd00::2/64", "fd01::1/64") == nil)
    }

    @Test func `an interface of that name that is no bridge is refused`() {
        let error = #expect(throws: CNIError.self) { try bridged(leased(), bridge: existing(kind: .veth)) }
        #expect(error?.message == #"failed to create bridge "br0": "br0" already exists but is not a bridge"#)
    }

    @Test(arguments: [
        (
            #", "hairpinMode": true, "promiscMode": true"#, 7,
            "cannot set hairpin mode and promiscuous mode at the same time"
        ),
        (#", "ipMasq": 1"#, 7, "ipMasq: expected true or false"),
        (#", "vlan": 4095"#, 7, "vlan: invalid VLAN ID 4095 (must be between 0 and 4094)"),
        (#", "vlan": 1000, "bridge": "twelve-bytes""#, 7, "vlan: twelve-bytes.1000"),
        (#", "vlanTrunk": [{"id": 5}, {"id": 0}]"#, 7, "vlanTrunk[1].id: incorrect trunk id parameter"),
        (#", "vlanTrunk": [{"minID": 5}]"#, 7, "vlanTrunk[0].maxID: minID and maxID should be configured"),
        (#", "vlanTrunk": [{"maxID": 5}]"#, 7, "vlanTrunk[0].minID: minID and maxID should be configured"),
        (#", "vlanTrunk": [{"minID": 5, "maxID": 4}]"#, 7, "vlanTrunk[0].minID: minID is greater than maxID"),
        (#", "enabledad": 1"#, 7, "enabledad: expected true or false"),
        (#", "isGateway": "yes""#, 7, #"isGateway: expected true or false, found "yes""#),
        (#", "BRIDGE": "a/b""#, 7, #"bridge: "a/b""#),
        (#", "disableContainerInterface": true"#, 7, "cannot use IPAM when DisableContainerInterface flag is set"),
    ])
    func `what cannot be done is refused by key`(keys: String, code: UInt, message: String) {
        let error = #expect(throws: CNIError.self) { try bridged(leased("10.1.2.2/24"), keys) }
        #expect(error?.code.rawValue == code && error?.message.hasPrefix(message) == true, "\(error?.message ?? "")")
    }

    @Test func `a port of a VLAN takes these steps, and the gateway is on a port of its own`() throws {
        let trunk = #", "vlanTrunk": [{"id": 7}, {"minID": 200, "maxID": 202}, {"id": 203}]"#
        let plan = try bridged(
            leased("10.1.2.2/24"), #", "isGateway": true, "vlan": 100"# + trunk, bridge: existing("10.9.9.1/24"))
        let steps = try plan.steps().map(\.description)
        #expect(
            steps.filter { $0.contains("VLAN") || $0.contains("br0.100") || $0.contains("10.1.2.1") } == [
                "filter VLANs on bridge br0", "set port vethd162ccb905e's VLAN 100, tagged 7 200-203",
                "make veth br0.100 to port veth991af769671 of bridge br0", "set port veth991af769671's VLAN 100",
                "set net/ipv6/conf/br0.100/accept_dad = 0", "set br0.100 up", "add address 10.1.2.1/24 to br0.100",
                "pin the Ethernet address of br0.100", "forget neighbour 10.1.2.2 on br0.100",
            ])
        #expect(try plan.steps().compactMap(\.undo).contains(.removeLink(InterfaceName("br0.100")!)))
        // The bridge's own address is in no VLAN's way.
        var second = plan
        second.vlanGateway = existing("10.1.2.1/24")
        #expect(try !second.steps().contains { $0.description.contains("make veth br0.100") })
        let result = plan.result(
            sandbox: "/x", bridgeMAC: nil, vlanGatewayMAC: MACAddress("02:00:00:00:00:cc"))
        #expect(result.interfaces.map(\.name) == ["br0", "vethd162ccb905e", "eth0", "br0.100"])
        #expect(result.addresses.map(\.interface) == [2])
    }

    @Test func `a trunk alone has VLAN 1 for what has no tag, and keeps the bridge's own if it shall`() throws {
        let steps = try bridged(leased(), #", "vlanTrunk": [{"id": 5}], "preserveDefaultVlan": true"#).steps()
        #expect(
            steps.contains {
                $0.description == "set port vethd162ccb905e's VLAN 1, tagged 5, the bridge's as well"
            })
    }

    @Test func `addresses are asked for first where enabledad says so`() throws {
        let steps = try bridged(leased("10.1.2.2/24", "fd00::2/64"), #", "enabledad": true"#).steps()
        let pod = Place.pod(attachment.interface)
        #expect(steps.contains(.addAddress(IPPrefix("fd00::2/64")!, pod, askingFirst: true)))
        #expect(
            steps.map(\.description).filter { $0.contains("_dad") && $0.contains("in the pod") } == [
                "set net/ipv6/conf/eth0/enhanced_dad = 1 in the pod",
                "set net/ipv6/conf/eth0/accept_dad = 1 in the pod",
            ])
    }

    @Test func `the spoof check's table, with a port`() throws {
        let part = SpoofCheckTable.contribution(
            of: attachment.bridgedHostInterface, mac: attachment.podMAC,
            for: AttachmentTag(network: "pods", attachment))
        var table = Ruleset(SpoofCheckTable.name)
        for change in try SpoofCheckTable.frame.adding(part, of: .init(network: "pods", attachment), to: nil) {
            table.apply(change)
        }
        #expect(
            table.text == """
                table bridge fairlead-spoofcheck {
                    set addresses {
                        type ifname . ether_addr
                        elements = {
                            "vethd162ccb905e" . de:16:2c:cb:90:5e comment "pods/c1/eth0",
                        }
                    }

                    set ports {
                        type ifname
                        elements = {
                            "vethd162ccb905e" comment "pods/c1/eth0",
                        }
                    }

                    chain prerouting {
                        type filter hook prerouting priority -300; policy accept;
                        iifname @ports iifname . ether saddr != @addresses drop comment "not the pod's Ethernet address"
                    }
                }
                """)
    }

    @Test func `keys that ask for nothing are fine`() throws {
        #expect(throws: Never.self) {
            try bridged(
                leased("10.1.2.2/24"), #", "ipMasq": false, "vlan": 0, "vlanTrunk": [], "preserveDefaultVlan": true"#)
        }
    }
}
