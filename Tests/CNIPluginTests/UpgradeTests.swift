import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import Testing

@testable import fairlead_cni

private let theirs = "/usr/lib/cni/host-local"

/// The folder of leases between Debian's `host-local` and ours, which take turns.
@Suite(.needsRoot, .enabled(if: access(theirs, X_OK) == 0, "needs Debian's containernetworking-plugins"))
struct UpgradeTests {
    /// Runs the one program or the other.
    private func run(
        _ isTheirs: Bool, _ verb: String, _ id: String, on node: Node, ranges: [String] = ["10.88.0.0/24", "fd00:88::/64"]
    ) throws -> Answer {
        // The newest version that both speak.
        let configuration = node.configuration(version: "1.0.0", ranges: ranges)
        guard isTheirs else { return try node.run("host-local", verb, configuration, id: id, netns: "/x") }
        let environment = node.environment(verb, id: id, interface: "eth0", netns: "/x")
        let captured = try ChildProcess.capture(
            theirs, [], environment: environment, input: Array(JSONValue.object(configuration).text.utf8),
            timeout: .seconds(60))
        let status: Int32 = captured.status.isSuccess ? 0 : 1
        return try Answer(Outcome(output: captured.text, status: status))
    }

    @Test func `each sees the other's leases, and either frees them`() throws {
        let node = try Node()
        var holders: [String: String] = [:]
        func add(_ isTheirs: Bool, _ id: String) throws {
            let answer = try run(isTheirs, "ADD", id, on: node)
            #expect(answer.isSuccess && answer.hosts.count == 2, "\(answer.outcome.output)")
            for host in answer.hosts { #expect(holders.updateValue(id, forKey: host) == nil, "\(host) twice") }
        }
        func delete(_ isTheirs: Bool, _ id: String) throws {
            #expect(try run(isTheirs, "DEL", id, on: node).outcome == Outcome())
            holders = holders.filter { $0.value != id }
        }
        func expectLeases() throws {
            let leases = try node.remains().filter { $0.hasPrefix("lease ") }
            #expect(leases == holders.keys.map { "lease \($0)" }.sorted())
            for id in Set(holders.values) {
                for isTheirs in [true, false] { #expect(try run(isTheirs, "CHECK", id, on: node).isSuccess, "\(id)") }
            }
        }
        // Theirs, then ours over it with the pods running, then theirs again, and so on.
        for turn in 0..<4 {
            let isTheirs = turn % 2 == 0
            for number in 0..<3 { try add(isTheirs, "t\(turn)-\(number)") }
            #expect(try !run(isTheirs, "ADD", "t\(turn)-0", on: node).isSuccess)
            if turn > 0 {
                // A second ADD of the other's container is refused by both.
                #expect(try !run(isTheirs, "ADD", "t\(turn - 1)-1", on: node).isSuccess)
                try delete(isTheirs, "t\(turn - 1)-0")
            }
            try expectLeases()
        }
        for turn in 0..<4 {
            for number in 0..<3 { try delete((turn + number) % 2 == 0, "t\(turn)-\(number)") }
        }
        #expect(try node.remains().filter { !$0.hasPrefix("owner") } == [])
        // The next of ours sweeps what it had noted of leases that the other freed.
        try delete(false, "never")
        #expect(try node.remains() == [])
    }

    @Test func `a pool that one has filled is full for the other`() throws {
        for isTheirs in [true, false] {
            let node = try Node()
            let ranges = ["10.88.0.0/29"]
            for number in 0..<5 { #expect(try run(isTheirs, "ADD", "c\(number)", on: node, ranges: ranges).isSuccess) }
            let refused = try run(!isTheirs, "ADD", "late", on: node, ranges: ranges)
            #expect(refused.message.contains("no IP addresses available in range set: 10.88.0.1-10.88.0.6"))
            #expect(try run(!isTheirs, "DEL", "c3", on: node, ranges: ranges).isSuccess)
            #expect(try run(!isTheirs, "ADD", "late", on: node, ranges: ranges).hosts == ["10.88.0.5"])
            #expect(try run(isTheirs, "DEL", "late", on: node, ranges: ranges).isSuccess)
        }
    }

    @Test func `both at the same time give nothing out twice`() throws {
        let node = try Node()
        let input = Array(JSONValue.object(node.configuration(version: "1.0.0")).text.utf8)
        let running = try (0..<24).map { number in
            let program = number % 2 == 0 ? theirs : binary
            return try ChildProcess.spawn(
                executable: program, arguments: number % 2 == 0 ? [] : ["host-local"],
                environment: node.environment("ADD", id: "b\(number)", interface: "eth0", netns: "/x"),
                standardInput: .bytes(input), standardOutput: .file("\(node.folder)/b\(number)"), standardError: .null)
        }
        for process in running { #expect(try process.wait().isSuccess) }
        let hosts = try (0..<24).flatMap { number in
            let bytes = try StateDirectory.open(node.folder, create: false).read("b\(number)", limit: 1 << 16) ?? []
            return try Answer(Outcome(output: String(decoding: bytes, as: UTF8.self))).hosts
        }
        #expect(hosts.count == 48 && Set(hosts).count == 48)
    }
}
