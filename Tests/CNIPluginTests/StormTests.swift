import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import SystemPackage
import Synchronization
import Testing

@testable import fairlead_cni

/// ADDs and DELs in many processes, killed at any instant.
///
/// `FAIRLEAD_STORM` is the number of operations on leases, and a tenth of it that of whole attachments, for each of which
/// the kernel takes some twenty milliseconds; the defaults take seconds.
@Suite(.needsRoot, .serialized) struct ProcessStormTests {
    private let operations = getenv("FAIRLEAD_STORM").flatMap { Int(String(cString: $0)) } ?? 640

    @Test func `64 processes get no address twice, and DEL of every id leaves no lease`() throws {
        let node = try Node()
        // Enough for what killed processes hold to the end, and little enough that addresses come round.
        let configuration = node.configuration(ranges: ["10.88.0.0/20", "fd00:88::/116"])
        let storm = Storm(node, "host-local", configuration, operations: operations, paths: [String](repeating: "/x", count: 64))
        try storm.blow()
        #expect(try node.remains() == [])
    }

    @Test(arguments: Attaching.allCases)
    func `whole attachments in many processes are each whole or gone`(attaching: Attaching) throws {
        let node = try Node()
        let configuration = node.configuration(attaching.keys).with("ipMasq", true)
            .with("clusterCIDRs", clusterRanges).with("macspoofchk", true)
        // The bridge itself stays, as a node's.
        let first = try node.pod()
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "first", netns: first.path).isSuccess)
        let before = try node.remains()
        let width = operations >= 2000 ? 64 : 16
        let pods = try (0..<width).map { _ in try node.pod() }
        let storm = Storm(node, attaching.rawValue, configuration, operations: operations / 10, paths: pods.map(\.path))
        try storm.blow()
        #expect(try node.remains() == before)
        #expect(try pods.allSatisfy { try $0.links().count == 1 })
    }
}

/// One process after the other in each of many threads.
// Sendable: of the node its constants are used; whatever changes is in `state`.
private final class Storm: @unchecked Sendable {
    private let node: Node
    private let plugin: String
    private let configuration: JSONObject
    private let operations: Int
    private let paths: [String]
    private let state = Mutex(State())

    private struct State {
        var begun = 0
        var killed = 0
        var succeeded = 0
        /// How long an operation takes that nobody kills, in microseconds.
        var typical = 20_000.0
        /// Who was told to have an address and was not sent a DEL since.
        var holders: [String: String] = [:]
        var problems: [String] = []
        /// The ids that were sent something, and where each lives.
        var sent: [(id: String, path: String)] = []
    }

    init(_ node: Node, _ plugin: String, _ configuration: JSONObject, operations: Int, paths: [String]) {
        self.node = node
        self.plugin = plugin
        self.configuration = configuration
        self.operations = operations
        self.paths = paths
    }

    /// Runs all operations, then DEL of every id.
    func blow() throws {
        var threads: [pthread_t] = []
        for lane in paths.indices {
            var thread = pthread_t()
            let start = Unmanaged.passRetained(Lane(self, lane))
            pthread_create(
                &thread, nil,
                { context in
                    let lane = Unmanaged<Lane>.fromOpaque(context!).takeRetainedValue()
                    lane.storm.run(lane: lane.number)
                    return nil
                }, start.toOpaque())
            threads.append(thread)
        }
        for thread in threads { pthread_join(thread, nil) }
        let (killed, succeeded, problems, sent) = state.withLock { ($0.killed, $0.succeeded, $0.problems, $0.sent) }
        #expect(problems.isEmpty, "\(problems.prefix(5))")
        #expect(killed > 0 && succeeded > 0, "\(killed) killed, \(succeeded) not: the storm was none")
        for (id, path) in sent {
            let answer = try node.run(plugin, "DEL", configuration, id: id, netns: path)
            #expect(answer.outcome == Outcome(), "\(id): \(answer.outcome.output)")
        }
        print("storm of \(plugin): \(operations) operations, \(killed) killed, \(succeeded) ADDs to their end")
    }

    private final class Lane {
        let storm: Storm
        let number: Int

        init(_ storm: Storm, _ number: Int) {
            self.storm = storm
            self.number = number
        }
    }

    private func run(lane: Int) {
        while true {
            let turn = state.withLock { state in
                state.begun += 2
                return state.begun
            }
            guard turn <= operations else { return }
            let id = "s\(turn)"
            state.withLock { $0.sent.append((id, paths[lane])) }
            do {
                let added = try execute("ADD", id, lane)
                if let added { note(added, of: id) }
                state.withLock { state in state.holders = state.holders.filter { $0.value != id } }
                _ = try execute("DEL", id, lane)
                // A network namespace has room for one: what a killed DEL left goes before the next ADD.
                if paths[lane] != "/x" {
                    let answer = try node.run(plugin, "DEL", configuration, id: id, netns: paths[lane])
                    if !answer.isSuccess { state.withLock { $0.problems.append(answer.outcome.output) } }
                }
            } catch {
                state.withLock { $0.problems.append("\(error)") }
            }
        }
    }

    private func note(_ answer: Answer, of id: String) {
        state.withLock { state in
            state.succeeded += 1
            for host in answer.hosts {
                if let other = state.holders.updateValue(id, forKey: host) {
                    state.problems.append("\(host) was given to \(other) and to \(id)")
                }
            }
        }
    }

    /// Runs one operation, half of them not to the end.
    ///
    /// - Returns: what it answered; nil where it was killed before it could.
    private func execute(_ verb: String, _ id: String, _ lane: Int) throws -> Answer? {
        let output = "output-\(lane)"
        let folder = try StateDirectory.open(node.folder, create: false)
        _ = try folder.remove(output)
        var configuration = configuration
        if paths[lane] != "/x" {
            configuration["runtimeConfig"] = [
                "portMappings": [["hostPort": .number(JSONNumber(20_000 + lane)), "containerPort": 80]],
                "bandwidth": ["egressRate": 8000, "egressBurst": 8000],
            ]
        }
        let input = Array(JSONValue.object(configuration).text.utf8)
        let environment = node.environment(verb, id: id, interface: "eth0", netns: paths[lane])
        let start = ContinuousClock.now
        let process = try node.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.spawn(
                executable: binary, arguments: [plugin], environment: environment, standardInput: .bytes(input),
                standardOutput: .file("\(node.folder)/\(output)"), standardError: .null)
        }
        let isVictim = Bool.random()
        if isVictim {
            usleep(UInt32(state.withLock { $0.typical } * .random(in: 0...1.2)))
            _ = try process.signal(.kill)
        }
        let status = try process.wait()
        if case .signalled = status {
            state.withLock { $0.killed += 1 }
            return nil
        }
        if !isVictim {
            let taken = Double((ContinuousClock.now - start) / .microseconds(1))
            state.withLock { $0.typical = $0.typical * 0.9 + taken * 0.1 }
        }
        let text = try folder.read(output, limit: 1 << 20) ?? []
        let answer = try Answer(Outcome(output: String(decoding: text, as: UTF8.self)))
        // A machine that is too busy may say so; whatever it says, it must have left nothing.
        if !status.isSuccess, answer.code != 11 {
            state.withLock { $0.problems.append("\(verb) \(id): \(answer.outcome.output)") }
        }
        return status.isSuccess ? answer : nil
    }
}
