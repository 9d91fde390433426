import NetworkAddresses
import Testing

@testable import AddressAllocation
@testable import CNIProtocol

private func configuration(
    _ text: String, arguments: String = "", version: SpecVersion = .v1_1_0
) throws -> HostLocalConfiguration {
    let object = try #require(try JSONValue(parsing: text).object)
    return try HostLocalConfiguration(
        NetworkConfiguration(json: object, version: version, name: "net"), arguments: CNIArguments(parsing: arguments))
}

@Suite struct HostLocalConfigurationTests {
    @Test func `the runtime's ranges come first, then the flat one, then the list`() throws {
        let configuration = try configuration(
            """
            {
                "ipam": {
                    "subnet": "10.2.0.0/24", "rangeStart": "10.2.0.10", "gateway": "10.2.0.254", "rangeEnd": "",
                    "ranges": [[{"Subnet": "10.3.0.0/24"}, {"subnet": "10.4.0.0/24"}], [{"subnet": "fd00::/64"}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd01::/64", "gw": "fd00::9", "mtu": 1400}],
                    "resolvConf": "/etc/resolv.conf", "coolDownSeconds": 5
                },
                "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}
            }
            """)
        #expect(
            configuration.request.sets.map(\.description) == [
                "10.1.0.1-10.1.0.254", "10.2.0.10-10.2.0.254", "10.3.0.1-10.3.0.254,10.4.0.1-10.4.0.254",
                "fd00::1-fd00::ffff:ffff:ffff:ffff",
            ])
        #expect(configuration.routes.map(\.gateway) == [nil, IPAddress("fd00::9")])
        #expect(configuration.routes.map(\.mtu) == [nil, 1400])
        #expect(configuration.resolvConf == "/etc/resolv.conf" && configuration.coolDown.rest == .seconds(5))
    }

    @Test func `addresses are asked for in three places`() throws {
        let configuration = try configuration(
            """
            {
                "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}]]},
                "args": {"cni": {"ips": ["10.1.0.7/24"]}}, "runtimeConfig": {"ips": ["fd00::7", ""]}
            }
            """, arguments: "IP=10.2.0.7")
        #expect(configuration.request.named == ["10.1.0.7", "10.2.0.7", "fd00::7"].map { IPAddress($0) })
    }

    @Test(arguments: [
        ("{}", "IPAM config missing 'ipam' key"), (#"{"ipam": {}}"#, "no IP ranges specified"),
        (#"{"ipam": []}"#, "ipam: expected an object, found an array"),
        (#"{"ipam": {"ranges": [{"subnet": "10.1.0.0/24"}]}}"#, "ipam.ranges[0]: expected an array, found an object"),
        (#"{"ipam": {"ranges": [[]]}}"#, "invalid range set 0: empty range set"),
        (#"{"ipam": {"ranges": [[{}]]}}"#, "ipam.ranges[0][0].subnet: missing"),
        (#"{"ipam": {"ranges": [[{"subnet": "10.1.0.0"}]]}}"#, #"ipam.ranges[0][0].subnet: "10.1.0.0" is no address"#),
        (#"{"ipam": {"ranges": [[{"subnet": "10.1.0.0/31"}]]}}"#, "invalid range set 0: Network 10.1.0.0/31 too small"),
        (#"{"ipam": {"subnet": "10.1.0.0/24", "gateway": "10.1"}}"#, #"ipam.gateway: "10.1" is no IP address"#),
        (
            #"{"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/16"}]]}}"#,
            "range set 0 overlaps with 1"
        ),
        (
            #"{"ipam": {"subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["x"]}}"#,
            "runtimeConfig.ips: invalid IP address x"
        ),
        (
            #"{"ipam": {"subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.2.0.1"]}}"#,
            "failed to allocate all requested IPs: 10.2.0.1"
        ),
        (#"{"ipam": {"subnet": "10.1.0.0/24", "routes": [{"gw": "10.1.0.1"}]}}"#, "ipam.routes[0].dst: missing"),
        (#"{"ipam": {"subnet": "10.1.0.0/24", "coolDownSeconds": -1}}"#, "ipam.coolDownSeconds: -1"),
    ])
    func `what cannot be used is named`(text: String, message: String) {
        let error = #expect(throws: CNIError.self) { try configuration(text) }
        #expect(error?.code == .invalidConfiguration && error?.message.hasPrefix(message) == true)
    }

    @Test func `old versions have one address of each family`() throws {
        let text =
            #"{"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}], [{"subnet": "10.2.0.0/24"}]]}}"#
        let error = #expect(throws: CNIError.self) { try configuration(text, version: .v0_1_0) }
        #expect(error?.message == "CNI version 0.1.0 does not support more than 1 address per family")
        #expect(try configuration(text, version: .v0_3_0).request.sets.count == 3)
    }
}
