import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import Nftables
import RouteNetlink
import Testing

@testable import fairlead_cni

extension Trait where Self == ConditionTrait {
    /// Attachments are made in real network namespaces, which only root may make; elsewhere these tests are skipped.
    static var needsRoot: Self { .enabled(if: geteuid() == 0, "making network namespaces needs root") }
}

/// The built binary, which lies beside the test bundle.
let binary: String = {
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
    return bundle.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/fairlead-cni"
}()

/// A node of a test's own: a network namespace for the host and a folder for all state; both go with it.
final class Node {
    let namespace: NetworkNamespace
    let folder: String
    private let folderName: String
    private let podPrefix: String
    /// Kept, so that no pod's path goes before its node.
    private var pods: [Pod] = []

    init() throws {
        folderName = "fairlead-cni-\(UInt64.random(in: .min ... .max))"
        podPrefix = "fl-test-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        folder = "/tmp/\(folderName)"
        _ = try StateDirectory.open(folder, create: true, mode: 0o700)
        namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let loopback = try #require(try socket.link(named: name("lo")))
        try socket.change(link: loopback.index, LinkChange(isUp: true))
    }

    deinit { _ = try? StateDirectory.open("/tmp", create: false).removeSubdirectory(folderName) }

    /// A fresh pod's namespace.
    func pod() throws -> Pod {
        let pod = try Pod(named: "\(podPrefix)-\(pods.count)")
        pods.append(pod)
        return pod
    }

    /// A configuration whose state lies in the node's folder.
    ///
    /// - Parameters:
    ///   - ranges: subnets, each a range set.
    ///   - keys: an `ipam` among them that names no type adds to the one of the ranges.
    func configuration(
        version: String = "1.1.0", ranges: [String] = ["10.88.0.0/24", "fd00:88::/64"], _ keys: JSONObject = [:],
        ipam: JSONObject = [:]
    ) -> JSONObject {
        let families = Set(ranges.compactMap { IPPrefix($0)?.family })
        var addresses: JSONObject = [
            "type": "host-local", "dataDir": .string("\(folder)/leases"), "coolDownSeconds": 0,
            "ranges": .array(ranges.map { [["subnet": .string($0)]] }),
        ]
        for member in ipam.members { addresses[member.key] = member.value }
        var keys = keys
        if let more = keys["ipam"]?.object, more["type"] == nil, !more.isEmpty {
            for member in more.members where addresses[member.key] == nil { addresses[member.key] = member.value }
            // Routes only of the families that the pod has addresses of.
            addresses["routes"] = addresses["routes"]?.array.map { routes in
                .array(
                    routes.filter { route in
                        route.object?["dst"]?.string.flatMap { IPPrefix($0) }.map { families.contains($0.family) }
                            ?? true
                    })
            }
            keys["ipam"] = nil
        }
        var object: JSONObject = [
            "cniVersion": .string(version), "name": "pods", "stateDir": .string("\(folder)/state"),
            "ipam": .object(addresses),
        ]
        for member in keys.members { object[member.key] = member.value }
        return object
    }

    /// Runs a plugin in this process with the calling thread on the node.
    func run(
        _ plugin: String, _ command: String, _ configuration: JSONObject, id: String = "c1", interface: String = "eth0",
        netns: String = "", environment: [String: String] = [:]
    ) throws -> Answer {
        let variables = self.environment(command, id: id, interface: interface, netns: netns)
            .merging(environment) { $1 }
        let invocation = Invocation(arguments: ["/opt/cni/bin/\(plugin)"], environment: variables)
        return try Answer(
            try namespace.withEntered { () throws(KernelError) in
                invocation.outcome { Array(JSONValue.object(configuration).text.utf8) }
            })
    }

    /// Runs a plugin that a test has prepared.
    func run(
        _ plugin: any Plugin, _ command: String, _ configuration: JSONObject, id: String = "c1", netns: String
    ) throws -> Answer {
        let variables = environment(command, id: id, interface: "eth0", netns: netns)
        return try Answer(
            try namespace.withEntered { () throws(KernelError) in
                CNIProtocol.run(
                    plugin, environment: variables, input: { Array(JSONValue.object(configuration).text.utf8) },
                    isOwnNamespace: { _ in false })
            })
    }

    func environment(_ command: String, id: String, interface: String, netns: String) -> [String: String] {
        [
            "CNI_COMMAND": command, "CNI_CONTAINERID": id, "CNI_IFNAME": interface, "CNI_NETNS": netns,
            "CNI_PATH": "\(folder)/plugins:/nowhere",
        ]
    }

    /// What is on the node that an attachment could have left: links, their addresses, leases, records.
    func remains() throws -> [String] {
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        var found: [String] = []
        for link in try socket.links() where link.kind != .loopback {
            found.append("link \(link.name)")
            for address in try socket.addresses(of: link.index) where !address.prefix.isLinkLocal {
                found.append("address \(address.prefix)")
            }
        }
        found += try files("leases/pods").filter { IPAddress($0) != nil }.map { "lease \($0)" }
        found += try files("leases/pods/.fairlead/by-owner").map { "owner \($0)" }
        found += try files("state/attachments").map { "record \($0)" }
        for path in ["leases/pods", "leases/pods/.fairlead", "leases/pods/.fairlead/by-owner", "state/attachments"] {
            found += unfinishedFiles("\(folder)/\(path)")
        }
        for table in ["fairlead-hostports", "fairlead-masquerade"] { found += try elements(of: table) }
        found += try elements(of: "fairlead-spoofcheck", family: .bridge)
        return found.sorted()
    }

    /// Files that a killed process had not given a name yet, which `StateDirectory` does not list.
    private func unfinishedFiles(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var found: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name.hasPrefix(".unfinished") { found.append("\(path)/\(name)") }
        }
        return found
    }

    private func files(_ path: String) throws -> [String] {
        guard let directory = try? StateDirectory.open("\(folder)/\(path)", create: false) else { return [] }
        return try directory.entries()
    }

    /// Gives the node an address of its own, and waits until the kernel takes in packets to it.
    func addLoopbackAddress(_ prefix: IPPrefix) throws {
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let loopback = try #require(try socket.link(named: name("lo")))
        try socket.add(InterfaceAddress(prefix, link: loopback.index))
        while try socket.decide(to: prefix.address).kind != .local { usleep(200) }
    }

    /// Runs a program on the node and says whether it ended well.
    func succeeds(_ program: String, _ arguments: String...) throws -> Bool {
        try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(program, arguments, timeout: .seconds(20)).status.isSuccess
        }
    }
}

/// A pod's network namespace with a name in `/run/netns`, which goes with the value.
final class Pod {
    let path: String
    let namespace: NetworkNamespace
    private let podName: String

    init(named name: String) throws {
        podName = name
        namespace = try NetworkNamespace.create(named: name)
        path = NetworkNamespace.path(named: name)
    }

    deinit { _ = try? NetworkNamespace.remove(named: podName) }

    /// Takes the path away, as a runtime does that has closed the namespace.
    func close() throws { _ = try NetworkNamespace.remove(named: podName) }

    func links() throws -> [Link] {
        try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }.links()
    }

    func addresses(of interface: String = "eth0") throws -> [String] {
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        guard let link = try socket.link(named: name(interface)) else { return [] }
        return try socket.addresses(of: link.index).map(\.prefix).filter { !$0.isLinkLocal }.map(\.description).sorted()
    }

    /// How many echo requests the pod's kernel has received.
    func pingsReceived() throws -> Int {
        let text = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("cat", ["/proc/self/net/snmp"], timeout: .seconds(20)).text
        }
        let lines = text.split(separator: "\n").filter { $0.hasPrefix("Icmp:") }.map { $0.split(separator: " ") }
        let column = try #require(lines.first?.firstIndex(of: "InEchos"))
        return try #require(lines.last.flatMap { Int($0[column]) })
    }

    func pings(_ address: String) throws -> Bool {
        try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("ping", ["-c", "1", "-W", "2", address], timeout: .seconds(20)).status.isSuccess
        }
    }
}

/// What a plugin answered, with its one document.
struct Answer {
    let outcome: Outcome
    let json: JSONObject

    init(_ outcome: Outcome) throws {
        self.outcome = outcome
        // Strict parsing is the proof that there is one document and nothing beside it.
        json = try outcome.output.isEmpty ? [:] : #require(try JSONValue(parsing: outcome.output).object)
    }

    var isSuccess: Bool { outcome.status == 0 }
    var code: Int? { json["code"]?.integer }
    var message: String { json["msg"]?.string ?? "" }
    var details: String { json["details"]?.string ?? "" }

    /// The addresses of a result of 0.3.0 or later, with their prefix lengths.
    var addresses: [String] {
        (json["ips"]?.array ?? []).compactMap { $0.object?["address"]?.string }
    }

    /// The addresses without their prefix lengths.
    var hosts: [String] { addresses.compactMap { IPPrefix($0)?.address.description } }
}

extension IPPrefix {
    var isLinkLocal: Bool { if case .v6(let address) = address { address.isLinkLocal } else { false } }
}

/// An interface name that a test knows to be one.
func name(_ text: String) -> InterfaceName {
    guard let name = InterfaceName(text) else { preconditionFailure("\(text) is no interface name") }
    return name
}

extension JSONObject {
    /// The object with one more member.
    func with(_ key: String, _ value: JSONValue) -> JSONObject {
        var object = self
        object[key] = value
        return object
    }
}
