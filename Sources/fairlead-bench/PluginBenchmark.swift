import ArgumentParser
import Foundation
import KernelInterface
import NetworkAddresses
import RouteNetlink

/// Times ADD and DEL of one pod, as a runtime sees them: one execution of a plugin each.
struct PluginBenchmark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cni",
        abstract: "Times ADD and DEL beside the kernel's floor, and beside the plugins of another folder.",
        discussion: """
            The floor is what the kernel itself needs for a pod: one veth pair into the pod's namespace, its address, \
            its route; and the removal of that pair. Ours and the peer's runs alternate, so that a slow moment of the \
            machine is everybody's.
            """)

    @Option(help: ArgumentHelp("Folder with our fairlead-cni; otherwise beside this program.", valueName: "folder"))
    var plugins: String?

    @Option(help: ArgumentHelp("Folder with another `bridge` and `host-local`, such as /usr/lib/cni.", valueName: "folder"))
    var peer: String?

    @Option(help: "How often each is run.")
    var runs = 100

    @Option(help: "Leases that exist already in the lease test.")
    var leases = 30_000

    func run() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fairlead-bench-\(getpid())").path
        try FileManager.default.createDirectory(atPath: "\(folder)/bin", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let own = plugins ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path
        for name in ["fairlead", "bridge", "host-local", "loopback"] {
            try FileManager.default.createSymbolicLink(
                atPath: "\(folder)/bin/\(name)", withDestinationPath: URL(filePath: "\(own)/fairlead-cni").standardizedFileURL.path)
        }
        print("ADD and DEL of one pod, \(runs) runs each, in turn; medians")
        let bridge = Plugin.bridge(ranges: ["10.9.0.0/16"])
        let dual = Plugin.bridge(ranges: ["10.9.0.0/16", "fd00:9::/64"])
        let rivals = [
            Rival("fairlead, one family", "\(folder)/bin", .fairlead(ranges: ["10.9.0.0/16"])),
            Rival("fairlead, both families", "\(folder)/bin", .fairlead(ranges: ["10.9.0.0/16", "fd00:9::/64"])),
            Rival("bridge + host-local", "\(folder)/bin", bridge), Rival("bridge + host-local, both families", "\(folder)/bin", dual),
        ] + (peer.map { [Rival("peer's bridge + host-local", $0, bridge), Rival("peer's, both families", $0, dual)] } ?? [])
        let beds = try rivals.enumerated().map { try Bed($0.element, state: "\(folder)/state\($0.offset)") }
        let floor = try Floor()
        for number in 0..<runs + 3 {
            try floor.run(warmUp: number < 3)
            for bed in beds { try bed.run(id: "bench-\(number)", warmUp: number < 3) }
        }
        report("kernel's floor: veth pair, address, route / its removal", "\(floor.add.median.milliseconds) / \(floor.delete.median.milliseconds)")
        for bed in beds {
            report("\(bed.rival.name): ADD / DEL", "\(bed.add.median.milliseconds) / \(bed.delete.median.milliseconds)")
        }
        if peer != nil {
            report("ratio, bridge + host-local, peer to ours: ADD / DEL", ratio(beds[4], to: beds[2]), target: "2.5 / -")
            report("ratio, both families, peer to ours: ADD / DEL", ratio(beds[5], to: beds[3]))
        }
        try crowded(folder)
    }

    private func ratio(_ peer: Bed, to own: Bed) -> String {
        func quotient(_ a: Duration, _ b: Duration) -> String { String(format: "%.1f", a / b) }
        return "\(quotient(peer.add.median, own.add.median)) / \(quotient(peer.delete.median, own.delete.median))"
    }

    /// The cost of a lease among many: ADD and DEL of `host-local` alone.
    private func crowded(_ folder: String) throws {
        for (who, path) in [("ours", "\(folder)/bin")] + (peer.map { [("the peer's", $0)] } ?? []) {
            var line: [String] = []
            for count in [10, leases] {
                let state = "\(folder)/crowd-\(who.count)-\(count)"
                let store = "\(state)/leases/bench"
                try FileManager.default.createDirectory(atPath: store, withIntermediateDirectories: true)
                let first = IPAddress("10.8.0.2")!
                for number in 0..<count {
                    let name = first.advanced(by: UInt128(number))!.description
                    try Data("old-\(number)\r\neth0".utf8).write(to: URL(filePath: "\(store)/\(name)"))
                }
                var measurement = Measurement()
                for number in 0..<max(5, runs / 5) + 1 {
                    let start = ContinuousClock.now
                    for command in ["ADD", "DEL"] {
                        try Plugin.hostLocal.execute(
                            command, in: path, id: "new-\(number)", netns: "/var/run/netns/none", state: state)
                    }
                    // The first takes stock of what another program left, once.
                    if number > 0 { measurement.add(ContinuousClock.now - start) }
                }
                line.append(measurement.median.milliseconds)
            }
            report("host-local, \(who): ADD + DEL at 10 / \(leases) leases", line.joined(separator: " / "), target: who == "ours" ? "1.5 x" : "")
        }
    }
}

/// A plugin with its configuration.
private enum Plugin {
    case fairlead(ranges: [String])
    case bridge(ranges: [String])
    case hostLocal

    var type: String {
        switch self {
        case .fairlead: "fairlead"
        case .bridge: "bridge"
        case .hostLocal: "host-local"
        }
    }

    func configuration(state: String) -> [String: Any] {
        func ipam(_ ranges: [String]) -> [String: Any] {
            ["type": "host-local", "dataDir": "\(state)/leases", "ranges": ranges.map { [["subnet": $0]] }]
        }
        var configuration: [String: Any] = ["cniVersion": "1.0.0", "name": "bench", "type": type]
        switch self {
        case .fairlead(let ranges):
            configuration["stateDir"] = state
            configuration["ipam"] = ipam(ranges)
        case .bridge(let ranges):
            configuration["isDefaultGateway"] = true
            configuration["ipam"] = ipam(ranges)
        case .hostLocal: configuration["ipam"] = ipam(["10.8.0.0/16"])
        }
        return configuration
    }

    func execute(_ command: String, in folder: String, id: String, netns: String, state: String) throws {
        let input = try JSONSerialization.data(withJSONObject: configuration(state: state))
        let result = try ChildProcess.capture(
            "\(folder)/\(type)", [],
            environment: [
                "CNI_COMMAND": command, "CNI_CONTAINERID": id, "CNI_NETNS": netns, "CNI_IFNAME": "eth0", "CNI_PATH": folder,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            ], input: Array(input))
        guard result.status.isSuccess else {
            throw ValidationError("\(folder)/\(type) \(command): \(result.text)\(result.errorText)")
        }
    }
}

private struct Rival {
    var name: String
    var folder: String
    var plugin: Plugin

    init(_ name: String, _ folder: String, _ plugin: Plugin) {
        self.name = name
        self.folder = folder
        self.plugin = plugin
    }
}

/// A node's namespace of a rival's own.
private final class Bed {
    let rival: Rival
    private let state: String
    private let node: NetworkNamespace
    private(set) var add = Measurement()
    private(set) var delete = Measurement()

    init(_ rival: Rival, state: String) throws {
        self.rival = rival
        self.state = state
        node = try NetworkNamespace.anonymous()
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
    }

    func run(id: String, warmUp: Bool) throws {
        // A name that the plugins can open: the runtime's, not a thread's.
        let name = "fairlead-bench-\(getpid())"
        let pod = try NetworkNamespace.create(named: name)
        defer { _ = try? NetworkNamespace.remove(named: name) }
        _ = pod.inode
        for command in ["ADD", "DEL"] {
            var failure: (any Error)?
            let start = ContinuousClock.now
            try node.withEntered { () throws(KernelError) in
                do {
                    try rival.plugin.execute(
                        command, in: rival.folder, id: id, netns: NetworkNamespace.path(named: name), state: state)
                } catch {
                    failure = error
                }
            }
            let duration = ContinuousClock.now - start
            if let failure { throw failure }
            if warmUp { continue }
            if command == "ADD" { add.add(duration) } else { delete.add(duration) }
        }
    }
}

/// The least that a pod takes of the kernel.
private final class Floor {
    private let node: NetworkNamespace
    private let host: RouteSocket
    private(set) var add = Measurement()
    private(set) var delete = Measurement()

    init() throws {
        let node = try NetworkNamespace.anonymous()
        host = try node.withEntered { () throws(KernelError) in try RouteSocket.open() }
        self.node = node
    }

    func run(warmUp: Bool) throws {
        let pod = try NetworkNamespace.anonymous()
        let (outside, inside) = (InterfaceName("veth0")!, InterfaceName("eth0")!)
        var start = ContinuousClock.now
        try host.addVeth(NewLink(outside, isUp: true), peer: NewLink(inside), in: pod)
        let socket = try pod.withEntered { () throws(KernelError) in try RouteSocket.open() }
        guard let eth0 = try socket.link(named: inside), let veth = try host.link(named: outside) else {
            throw ValidationError("the veth pair is not there")
        }
        try socket.add(InterfaceAddress(IPPrefix("10.9.0.2/24")!, link: eth0.index))
        try socket.change(link: eth0.index, LinkChange(isUp: true))
        try socket.add(Route(to: IPPrefix("0.0.0.0/0")!, via: IPAddress("10.9.0.1"), link: eth0.index))
        if !warmUp { add.add(ContinuousClock.now - start) }
        start = ContinuousClock.now
        try host.deleteLink(index: veth.index)
        if !warmUp { delete.add(ContinuousClock.now - start) }
    }
}
