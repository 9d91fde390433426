import CNIProtocol
import Glibc
import KernelInterface
import PodAttachment
import Testing

@testable import fairlead_cni

/// One plugin run under `strace`, which kills it at a system call or makes the call fail.
private struct Traced {
    var status: ChildProcess.ExitStatus
    var output: [UInt8]
    var calls: [String]

    /// The name of each call, in order.
    var names: [String] { calls.map { String($0.prefix { $0 != "(" }) } }

    /// What kills the program at a call. The calls of each name are counted by themselves: that is how strace counts.
    func kill(at number: Int) -> String {
        let name = names[number]
        return "\(name):signal=KILL:when=\(names[...number].count { $0 == name })"
    }

    /// The number of the first call after the start of the program: that which asks for standard input.
    var begin: Int { calls.firstIndex { $0.hasPrefix("fcntl(0, F_DUPFD_CLOEXEC") } ?? 0 }
}

extension Node {
    /// Runs a plugin as a process of its own, with `injection` as strace's `-e inject`.
    fileprivate func trace(
        _ plugin: String, _ verb: String, _ configuration: JSONObject, netns: String, injection: String? = nil
    ) throws -> Traced {
        let environment = environment(verb, id: "c1", interface: "eth0", netns: netns)
        let input = Array(JSONValue.object(configuration).text.utf8)
        let log = "\(folder)/trace"
        let arguments = ["-qq", "-s", "100", "-o", log] + (injection.map { ["-e", "inject=\($0)"] } ?? [])
        let captured = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "strace", arguments + [binary, plugin], environment: environment.merging(["PATH": "/usr/bin"]) { $1 },
                input: input, timeout: .seconds(120))
        }
        let text = try StateDirectory.open(folder, create: false).read("trace", limit: 1 << 24) ?? []
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
        return Traced(
            status: captured.status, output: captured.standardOutput,
            calls: lines.filter { !$0.hasPrefix("+++") && !$0.hasPrefix("---") })
    }
}

/// ADD and DEL, cut short or refused something at every single system call.
///
/// `FAIRLEAD_EVERY_CALL` makes it every call; otherwise it is one of many, others in every run.
@Suite(.needsRoot, .serialized) struct SystemCallTests {
    private let stride = getenv("FAIRLEAD_EVERY_CALL") != nil ? 1 : 23

    private struct Bed {
        let node: Node
        let pod: Pod
        let plugin: String
        let configuration: JSONObject
        let before: [String]

        init(_ attaching: Attaching) throws {
            node = try Node()
            plugin = attaching.rawValue
            configuration = node.configuration(attaching.keys).with("ipMasq", true)
                .with("clusterCIDRs", clusterRanges).with("macspoofchk", true)
                .with(
                    "runtimeConfig",
                    [
                        "portMappings": [["hostPort": 8080, "containerPort": 80, "protocol": "udp"]],
                        "bandwidth": ["egressRate": 8000, "egressBurst": 8000],
                    ])
            // The bridge and the tables stay, as a node's.
            let other = try node.pod()
            let added = try node.run(plugin, "ADD", configuration.with("runtimeConfig", [:]), id: "o", netns: other.path)
            try #require(added.isSuccess, "\(added.outcome.output)")
            pod = try node.pod()
            // Once to the end, so that the places are there that stay.
            for verb in ["ADD", "DEL"] {
                let answer = try node.run(plugin, verb, configuration, netns: pod.path)
                try #require(answer.isSuccess, "\(answer.outcome.output)")
            }
            before = try node.remains()
        }

        func run(_ verb: String) throws -> Answer {
            try node.run(plugin, verb, configuration, netns: pod.path)
        }

        func trace(_ verb: String, _ injection: String? = nil) throws -> Traced {
            try node.trace(plugin, verb, configuration, netns: pod.path, injection: injection)
        }

        /// DEL succeeds and nothing is left, and neither is of an ADD and a DEL that follow.
        func expectRecovery(_ place: String) throws {
            let deleted = try run("DEL")
            #expect(deleted.outcome == Outcome(), "\(place): \(deleted.outcome.output)")
            try expectNothing("DEL after \(place)")
            let added = try run("ADD")
            #expect(added.isSuccess, "ADD after \(place): \(added.outcome.output)")
            #expect(try run("DEL").isSuccess, "second DEL after \(place)")
            try expectNothing("all after \(place)")
        }

        /// Whether there is a record, by which a DEL is made that nobody repeats.
        var isRecorded: Bool {
            get throws {
                try AttachmentRecords(folder: StateFolder(path: "\(node.folder)/state")).all(of: "pods")
                    .contains { $0.attachment.containerID == "c1" && $0.networkConfiguration != nil }
            }
        }

        func expectNothing(_ place: String) throws {
            let remains = try node.remains()
            #expect(remains == before, "\(place): \(remains.filter { !before.contains($0) })")
            #expect(try pod.links().count == 1, "\(place)")
        }
    }

    @Test(arguments: Attaching.allCases) func `an ADD that is killed at any system call leaves nothing to its DEL`(
        attaching: Attaching
    ) throws {
        let bed = try Bed(attaching)
        let whole = try bed.trace("ADD")
        #expect(whole.status.isSuccess && whole.calls.count > 150)
        #expect(try bed.run("DEL").isSuccess)
        var survived = 0
        for number in Swift.stride(
            from: whole.begin + Int.random(in: 0..<stride), to: whole.calls.count, by: stride)
        {
            let killed = try bed.trace("ADD", whole.kill(at: number))
            if killed.status.isSuccess { survived += 1 }
            try bed.expectRecovery("a kill at call \(number): \(killed.calls.last ?? "")")
        }
        // A run may have a call less than the one that was counted.
        #expect(survived <= 1 + whole.calls.count / stride / 50)
    }

    @Test(arguments: Attaching.allCases) func `a DEL that is killed at any system call leaves nothing to the next`(
        attaching: Attaching
    ) throws {
        let bed = try Bed(attaching)
        #expect(try bed.run("ADD").isSuccess)
        let whole = try bed.trace("DEL")
        #expect(whole.status.isSuccess && whole.calls.count > 100)
        var survived = 0
        for number in Swift.stride(
            from: whole.begin + Int.random(in: 0..<stride), to: whole.calls.count, by: stride)
        {
            #expect(try bed.run("ADD").isSuccess)
            let killed = try bed.trace("DEL", whole.kill(at: number))
            if killed.status.isSuccess { survived += 1 }
            if attaching == .fairlead, try bed.node.remains() != bed.before {
                #expect(try bed.isRecorded, "a kill at call \(number) of DEL leaves what the agent does not know of")
            }
            try bed.expectRecovery("a kill at call \(number) of DEL: \(killed.calls.last ?? "")")
        }
        // A run may have a call less than the one that was counted.
        #expect(survived <= 1 + whole.calls.count / stride / 50)
    }

    /// What each call can fail with. Calls that only a broken kernel fails, such as leaving a namespace, are left out.
    private let errors = [
        "sendto": "ENOBUFS", "recvmsg": "ENOBUFS", "openat": "EMFILE", "linkat": "ENOSPC", "symlinkat": "ENOSPC",
        "write": "ENOSPC", "mkdirat": "ENOSPC", "unlinkat": "EIO", "renameat": "ENOSPC", "socket": "EMFILE",
        "bind": "EADDRINUSE", "read": "EIO", "flock": "ENOLCK", "readlinkat": "EIO", "newfstatat": "EIO",
    ]

    /// Every call that can fail: its name and its number among those of the name.
    private func refusals(of whole: Traced) -> [(name: String, number: Int)] {
        var counts: [String: Int] = [:]
        var found: [(String, Int)] = []
        for (place, name) in whole.names.enumerated() {
            counts[name, default: 0] += 1
            if place > whole.begin, errors[name] != nil { found.append((name, counts[name]!)) }
        }
        return found
    }

    @Test(arguments: Attaching.allCases) func `an ADD that is refused any system call says so and leaves nothing`(
        attaching: Attaching
    ) throws {
        let bed = try Bed(attaching)
        let whole = try bed.trace("ADD")
        #expect(try bed.run("DEL").isSuccess)
        let refusals = refusals(of: whole)
        var failures = 0
        for index in Swift.stride(from: Int.random(in: 0..<stride), to: refusals.count, by: stride) {
            let (name, number) = refusals[index]
            let traced = try bed.trace("ADD", "\(name):error=\(errors[name]!):when=\(number)")
            let place = "\(errors[name]!) of \(traced.calls.first { $0.contains("(INJECTED)") } ?? name)"
            guard case .exited(let status) = traced.status else {
                Issue.record("\(place): \(traced.status)")
                continue
            }
            // Output that cannot be written cannot say so; the runtime takes it for a failure.
            let isUnsaid = traced.output.isEmpty && status != 0
            if isUnsaid { #expect(place.contains("write(") || place.contains("fcntl("), "\(place) is not reported") }
            let answer = try Answer(Outcome(output: String(decoding: traced.output, as: UTF8.self), status: status))
            if status == 0 || isUnsaid {
                try bed.expectRecovery(place)
                continue
            }
            failures += 1
            #expect(answer.code != nil && answer.message.count > 15, "\(place): \(answer.outcome.output)")
            try bed.expectNothing("ADD with \(place): \(answer.outcome.output)")
            // The next ADD comes without a DEL.
            let again = try bed.run("ADD")
            #expect(again.isSuccess, "ADD after \(place): \(again.outcome.output)")
            #expect(try bed.run("DEL").isSuccess)
        }
        #expect(failures > 0)
        try bed.expectNothing("all")
    }

    @Test(arguments: Attaching.allCases) func `a DEL that is refused any system call succeeds or says so`(
        attaching: Attaching
    ) throws {
        let bed = try Bed(attaching)
        #expect(try bed.run("ADD").isSuccess)
        let whole = try bed.trace("DEL")
        let refusals = refusals(of: whole)
        #expect(whole.status.isSuccess && refusals.count > 20)
        for index in Swift.stride(from: Int.random(in: 0..<stride), to: refusals.count, by: stride) {
            let (name, number) = refusals[index]
            #expect(try bed.run("ADD").isSuccess)
            let traced = try bed.trace("DEL", "\(name):error=\(errors[name]!):when=\(number)")
            let place = "\(errors[name]!) of \(traced.calls.first { $0.contains("(INJECTED)") } ?? name)"
            let answer = try Answer(Outcome(output: String(decoding: traced.output, as: UTF8.self)))
            if traced.status.isSuccess {
                #expect(traced.output.isEmpty)
                try bed.expectNothing("a successful DEL with \(place)")
            } else {
                #expect(answer.code != nil && answer.message.count > 15, "\(place): \(answer.outcome.output)")
            }
            try bed.expectRecovery(place)
        }
    }
}
