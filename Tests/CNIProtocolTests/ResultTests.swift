import NetworkAddresses
import Testing

@testable import CNIProtocol

@Suite struct ResultTests {
    static let dualStack = {
        var result = AttachmentResult(
            interfaces: [
                .init(name: "cni0", mac: "02:00:00:00:00:01"),
                .init(name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/run/netns/pod", mtu: 1450),
            ],
            addresses: [
                .init(IPPrefix("10.1.2.3/24")!, gateway: IPAddress("10.1.2.1"), interface: 1),
                .init(IPPrefix("fd00::3/64")!, interface: 1), .init(IPPrefix("10.9.9.9/24")!, interface: 1),
            ],
            routes: [.init(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("10.1.2.1")), .init(to: IPPrefix("::/0")!)])
        result.routes[0].mtu = 1400
        result.nameService.nameservers = ["10.96.0.10"]
        return result
    }()

    @Test func `version 1 1 0 has it all`() throws {
        #expect(
            try Self.dualStack.json(as: .v1_1_0) == [
                "cniVersion": "1.1.0",
                "interfaces": [
                    ["name": "cni0", "mac": "02:00:00:00:00:01"],
                    ["name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/pod", "mtu": 1450],
                ],
                "ips": [
                    ["interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1"],
                    ["interface": 1, "address": "fd00::3/64"], ["interface": 1, "address": "10.9.9.9/24"],
                ],
                "routes": [["dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400], ["dst": "::/0"]],
                "dns": ["nameservers": ["10.96.0.10"]],
            ])
    }

    @Test(arguments: ["0.3.0", "0.3.1", "0.4.0"])
    func `versions 0 3 0 to 0 4 0 state each address's family and no MTU`(version: String) throws {
        let json = try Self.dualStack.json(as: SpecVersion(version)!)
        #expect(json.object?["cniVersion"] == .string(version))
        #expect(
            json.object?["ips"]?.array?.map { $0.object?["version"] } == ["4", "6", "4"])
        #expect(
            json.object?["interfaces"]?.array?.last == [
                "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/pod",
            ])
    }

    @Test(arguments: ["0.1.0", "0.2.0"])
    func `versions before 0 3 0 have one address per family`(version: String) throws {
        #expect(
            try Self.dualStack.json(as: SpecVersion(version)!) == [
                "cniVersion": .string(version),
                "ip4": [
                    "ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [["dst": "0.0.0.0/0", "gw": "10.1.2.1"]],
                ],
                "ip6": ["ip": "fd00::3/64", "routes": [["dst": "::/0"]]], "dns": ["nameservers": ["10.96.0.10"]],
            ])
    }

    @Test func `an interface without an address cannot be said before 0 3 0`() throws {
        let result = AttachmentResult(interfaces: [.init(name: "eth0")])
        let error = #expect(throws: CNIError.self) { try result.json(as: .v0_1_0) }
        #expect(error?.message == "cannot convert: no valid IP addresses")
        #expect(try result.json(as: .v0_4_0).object?["ips"] == nil)
    }

    /// Everything that a runtime's cached result may hold, with keys of the future.
    static let cached = """
        {
            "cniVersion": "1.1.0",
            "interfaces": [
                {
                    "name": "eth0",
                    "mac": "02:00:00:00:00:02",
                    "sandbox": "/run/netns/pod",
                    "mtu": 9000,
                    "socketPath": "/run/vhost.sock",
                    "pciID": "0000:00:1f.6",
                    "vendor/hint": [
                        1
                    ]
                }
            ],
            "ips": [
                {
                    "interface": 0,
                    "address": "10.1.2.3/24",
                    "gateway": "10.1.2.1",
                    "lifetime": 1.5
                }
            ],
            "routes": [
                {
                    "dst": "0.0.0.0/0",
                    "mtu": 1,
                    "advmss": 2,
                    "priority": 3,
                    "table": 4,
                    "scope": 253,
                    "note": "x"
                }
            ],
            "dns": {
                "domain": "example.org"
            },
            "futureKey": {
                "a": null
            }
        }
        """

    @Test func `a result passed through keeps what nobody understands`() throws {
        let object = try #require(try JSONValue(parsing: Self.cached).object)
        let result = try AttachmentResult(parsing: ConfigurationReader(object), unlessStated: .v0_4_0)
        #expect(try sorted(result.json(as: .v1_1_0)) == sorted(.object(object)))
    }

    @Test(arguments: SpecVersion.supported)
    func `what is printed in a version is read again in it`(version: SpecVersion) throws {
        var expected = Self.dualStack
        if version < .v1_0_0 { expected.interfaces[1].mtu = nil }
        if version.hasOneAddressPerFamily {
            expected.interfaces = []
            expected.addresses = [
                .init(IPPrefix("10.1.2.3/24")!, gateway: IPAddress("10.1.2.1")), .init(IPPrefix("fd00::3/64")!),
            ]
            expected.routes[0].mtu = nil
        }
        let object = try #require(try Self.dualStack.json(as: version).object)
        for stated in [object, object.dropping(["cniVersion"])] {
            #expect(try AttachmentResult(parsing: ConfigurationReader(stated), unlessStated: version) == expected)
        }
    }

    @Test(arguments: [
        (#"{"ips":[{"address":"10.1.2.3"}]}"#, "ips[0].address"), (#"{"ips":{}}"#, "ips: expected an array"),
        (#"{"ips":[1]}"#, "ips[0]: expected an object, found 1"), (#"{"ips":[{}]}"#, "ips[0].address: missing"),
        (#"{"interfaces":[{"name":7}]}"#, "interfaces[0].name: expected a string, found 7"),
        (#"{"routes":[{"dst":"0.0.0.0/0","gw":"fe80::1"}]}"#, "routes[0].gw"),
        (#"{"cniVersion":"9.9.9"}"#, "cniVersion"), (#"{"dns":{"search":"x"}}"#, "dns.search"),
        (#"{"cniVersion":"0.2.0","ip4":{"ip":"fd00::1/64"}}"#, "ip4.ip"),
    ])
    func `a previous result that cannot be used is refused by name`(text: String, name: String) throws {
        let object = try #require(try JSONValue(parsing: text).object)
        let error = #expect(throws: CNIError.self) {
            try AttachmentResult(parsing: ConfigurationReader(object), unlessStated: .v1_0_0)
        }
        #expect(error?.code == .invalidConfiguration && error?.message.hasPrefix(name) == true)
    }

    @Test func `resolv conf is read as the reference plugin reads it`() {
        let dns = NameService(
            resolvConf: """
                # comment
                ; comment
                nameserver 10.0.0.1
                nameserver\tfd00::1
                domain example.org
                search a.example b.example
                search c.example
                options ndots:5 edns0
                nameserver
                sortlist 10.0.0.0
                """)
        #expect(dns.nameservers == ["10.0.0.1", "fd00::1"] && dns.domain == "example.org")
        #expect(dns.search == ["a.example", "b.example", "c.example"] && dns.options == ["ndots:5", "edns0"])
    }
}

/// The value with every object's members in the order of their keys, for comparisons that do not mean the order.
func sorted(_ value: JSONValue) -> JSONValue {
    switch value {
    case .object(let object):
        .object(JSONObject(object.members.sorted { $0.key < $1.key }.map { ($0.key, sorted($0.value)) }))
    case .array(let elements): .array(elements.map(sorted))
    default: value
    }
}
