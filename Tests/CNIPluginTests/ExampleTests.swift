import CNIProtocol
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Testing

@testable import fairlead_cni

/// The configurations that `cni-conf` offers, as they are but for the folders.
@Suite(.needsRoot) struct ExampleTests {
    private func example(_ name: String) throws -> JSONObject {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let folder = try StateDirectory.open("\(root)/cni-conf", create: false)
        let bytes = try #require(try folder.read(name, limit: 1 << 16))
        return try #require(try JSONValue(parsing: bytes).object)
    }

    @Test(arguments: ["10-fairlead.conflist", "10-bridge.conflist"])
    func `a list attaches a pod in both families`(name: String) throws {
        let node = try Node()
        let pod = try node.pod()
        let list = try example(name)
        // What a runtime does with a list: each plugin gets the list's name and version.
        var configuration = try #require(list["plugins"]?.array?.first?.object)
        for key in ["name", "cniVersion"] { configuration[key] = list[key] }
        configuration["stateDir"] = .string("\(node.folder)/state")
        var addresses = try #require(configuration["ipam"]?.object)
        addresses["dataDir"] = .string("\(node.folder)/leases")
        configuration["ipam"] = .object(addresses)
        let plugin = try #require(configuration["type"]?.string)
        let added = try node.run(plugin, "ADD", configuration, netns: pod.path)
        #expect(added.isSuccess, "\(added.outcome.output)")
        #expect(added.hosts.compactMap { IPAddress($0)?.family } == [.ipv4, .ipv6])
        #expect(try pod.addresses() == added.addresses)
        #expect(try node.run(plugin, "DEL", configuration, netns: pod.path).outcome == Outcome())
    }

    @Test func `the loopback configuration sets lo up`() throws {
        let node = try Node()
        let pod = try node.pod()
        #expect(try node.run("loopback", "ADD", example("99-loopback.conf"), netns: pod.path).isSuccess)
        #expect(try pod.links().map(\.isUp) == [true])
    }
}
