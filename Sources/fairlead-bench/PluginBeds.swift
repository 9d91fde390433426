import ArgumentParser
import Foundation
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Synchronization

/// A network's list of plugins with their configuration.
enum Network {
    /// - Parameter exposed: with masquerade and a port of the host.
    case fairlead(_ ranges: [String], exposed: Bool = false)
    case bridge(_ ranges: [String], exposed: Bool = false)
    /// Addresses and nothing else.
    case leases

    var isOurs: Bool { if case .fairlead = self { true } else { false } }

    private func plugins(state: String, port: Int) -> [[String: Any]] {
        func ipam(_ ranges: [String]) -> [String: Any] {
            ["type": "host-local", "dataDir": "\(state)/leases", "ranges": ranges.map { [["subnet": $0]] }]
        }
        let ports = ["portMappings": [["hostPort": port, "containerPort": 80, "protocol": "tcp"]]]
        let common: [String: Any] = ["cniVersion": "1.0.0", "name": "bench", "stateDir": state]
        func plugin(_ keys: [String: Any]) -> [String: Any] { common.merging(keys) { $1 } }
        switch self {
        case .fairlead(let ranges, false): return [plugin(["type": "fairlead", "ipam": ipam(ranges)])]
        case .fairlead(let ranges, true):
            return [plugin(["type": "fairlead", "ipam": ipam(ranges), "clusterCIDRs": ranges, "runtimeConfig": ports])]
        case .bridge(let ranges, let exposed):
            let bridge = plugin(["type": "bridge", "isDefaultGateway": true, "ipMasq": exposed, "ipam": ipam(ranges)])
            return exposed ? [bridge, plugin(["type": "portmap", "runtimeConfig": ports])] : [bridge]
        case .leases: return [plugin(["type": "host-local", "ipam": ipam(["10.8.0.0/16"])])]
        }
    }

    /// Runs the plugins as a runtime does: ADD from the first to the last, DEL the other way.
    ///
    /// - Returns: what they wrote to standard error.
    @discardableResult
    func execute(
        _ command: String, in folder: String, id: String, netns: String, state: String, port: Int = 8080,
        asking variables: [String: String] = [:]
    ) throws -> String {
        var diagnostics = ""
        let plugins = plugins(state: state, port: port)
        var result: Any?
        for var configuration in command == "ADD" ? plugins : plugins.reversed() {
            if let result { configuration["prevResult"] = result }
            let type = configuration["type"] as? String ?? ""
            let environment = [
                "CNI_COMMAND": command, "CNI_CONTAINERID": id, "CNI_NETNS": netns, "CNI_IFNAME": "eth0",
                "CNI_PATH": folder, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            ].merging(variables) { $1 }
            let captured = try ChildProcess.capture(
                "\(folder)/\(type)", [], environment: environment,
                input: Array(try JSONSerialization.data(withJSONObject: configuration)))
            guard captured.status.isSuccess else {
                throw ValidationError("\(folder)/\(type) \(command): \(captured.text)\(captured.errorText)")
            }
            diagnostics += captured.errorText
            if command == "ADD" { result = try JSONSerialization.jsonObject(with: Data(captured.standardOutput)) }
        }
        return diagnostics
    }
}

/// A node's namespace of a rival's own.
// Sendable: only constants are used by several threads.
final class Bed: @unchecked Sendable {
    let name: String
    private let folder: String
    private let network: Network
    private let state: String
    private let node: NetworkNamespace
    private(set) var add = Measurement()
    private(set) var delete = Measurement()

    init(_ name: String, _ folder: String, _ network: Network, state: String) throws {
        self.name = name
        self.folder = folder
        self.network = network
        self.state = state
        node = try NetworkNamespace.anonymous()
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
    }

    /// Runs a command on the node and says how long it took.
    private func time(
        _ command: String, id: String, pod: String, port: Int = 8080, asking variables: [String: String] = [:]
    ) throws -> (Duration, String) {
        var failure: (any Error)?
        var diagnostics = ""
        let start = ContinuousClock.now
        try node.withEntered { () throws(KernelError) in
            do {
                diagnostics = try network.execute(
                    command, in: folder, id: id, netns: NetworkNamespace.path(named: pod), state: state, port: port,
                    asking: variables)
            } catch {
                failure = error
            }
        }
        let duration = ContinuousClock.now - start
        if let failure { throw failure }
        return (duration, diagnostics)
    }

    /// Runs `body` with a pod that has a name the plugins can open: the runtime's, not a thread's.
    private func withPod<Result>(_ body: (String) throws -> Result) throws -> Result {
        let name = "fairlead-bench-\(getpid())"
        let pod = try NetworkNamespace.create(named: name)
        defer { _ = try? NetworkNamespace.remove(named: name) }
        _ = pod.inode
        return try body(name)
    }

    func run(id: String, warmUp: Bool) throws {
        try withPod { pod in
            let (added, deleted) = (try time("ADD", id: id, pod: pod).0, try time("DEL", id: id, pod: pod).0)
            if warmUp { return }
            add.add(added)
            delete.add(deleted)
        }
    }

    /// How long each step of an ADD takes; the first is the process's start and end, and what it reads.
    func times(id: String, warmUp: Bool) throws -> [(String, Duration)] {
        try withPod { pod in
            let (whole, text) = try time("ADD", id: id, pod: pod, asking: ["FAIRLEAD_CNI_TIMES": "1"])
            _ = try time("DEL", id: id, pod: pod)
            if warmUp { return [] }
            let steps = text.split(separator: "\n").compactMap { line -> (String, Duration)? in
                let words = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: true)
                // Descriptions hold the pod's own names.
                guard words.count == 3, let microseconds = Int(words[0]) else { return nil }
                let step = words[2].trimmingCharacters(in: .whitespaces).split(separator: " ").map { word in
                    word.contains { $0.isNumber } ? "…" : String(word)
                }
                return (step.joined(separator: " "), .microseconds(microseconds))
            }
            return [("start and end of the process", whole - steps.reduce(.zero) { $0 + $1.1 })] + steps
        }
    }

    /// Makes pods in many threads, and removes them.
    ///
    /// - Returns: pods per second.
    func runTogether(pods: Int, width: Int) throws -> (add: Double, delete: Double) {
        let names = (0..<pods).map { "fairlead-bench-\(getpid())-\($0)" }
        defer { for name in names { _ = try? NetworkNamespace.remove(named: name) } }
        for name in names { _ = try NetworkNamespace.create(named: name).inode }
        var rates: [Double] = []
        for command in ["ADD", "DEL"] {
            let start = ContinuousClock.now
            let failures = Failures()
            let threads = (0..<width).map { lane in
                let done = DispatchSemaphore(value: 0)
                Thread.detachNewThread { [self] in
                    for number in stride(from: lane, to: pods, by: width) {
                        do {
                            _ = try time(command, id: "together-\(number)", pod: names[number], port: 20_000 + number)
                        } catch {
                            failures.add(error)
                        }
                    }
                    done.signal()
                }
                return done
            }
            for thread in threads { thread.wait() }
            if let failure = failures.first { throw failure }
            rates.append(Double(pods) / ((ContinuousClock.now - start) / .seconds(1)))
        }
        return (rates[0], rates[1])
    }
}

/// What went wrong in several threads.
private final class Failures: Sendable {
    private let all = Mutex<[any Error]>([])

    var first: (any Error)? { all.withLock { $0.first } }

    func add(_ error: any Error) { all.withLock { $0.append(error) } }
}

/// The least that a pod takes of the kernel.
final class Floor {
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
