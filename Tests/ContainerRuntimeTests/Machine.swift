import Foundation
import KernelInterface
import Testing

/// A machine of a test's own that can lose its power: see the script of the name.
final class Machine {
    /// What its disk keeps.
    let folder: String
    private let name: String
    private var holder: ChildProcess?
    private var first: Int32 = 0

    init() throws {
        name = "fairlead-machine-\(UInt32.random(in: .min ... .max))"
        folder = "/tmp/\(name)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try boot()
    }

    deinit {
        _ = try? losePower()
        // Containers that were running left theirs behind.
        _ = try? ChildProcess.capture(
            "find", ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", "*\(name)*", "-exec", "rmdir", "{}", "+"],
            timeout: .seconds(60))
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// The control group that all of its containers are in.
    var controlGroup: String { "/\(name)" }

    static func script(_ name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().appendingPathComponent(name).path
    }

    private func boot() throws {
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        let binary = URL(filePath: bundle).deletingLastPathComponent().appendingPathComponent("fairlead-cni").path
        // Of the boot before.
        try? FileManager.default.removeItem(atPath: "\(folder)/up")
        let started = try ChildProcess.spawn(
            executable: Self.script("machine"), arguments: [folder, binary],
            standardOutput: .file("\(folder)/console"), standardError: .file("\(folder)/console"))
        holder = started
        first = 0
        let deadline = ContinuousClock.now + .seconds(60)
        while !FileManager.default.fileExists(atPath: "\(folder)/up") {
            let console = try? String(contentsOfFile: "\(folder)/console", encoding: .utf8)
            try #require(ContinuousClock.now < deadline, "the machine does not come up: \(console ?? "")")
            usleep(10_000)
        }
        let children = try String(contentsOfFile: "/proc/\(started.pid)/task/\(started.pid)/children", encoding: .utf8)
        first = try #require(children.split(separator: " ").first.flatMap { Int32($0) })
    }

    /// Ends everything at once: processes, namespaces, mounts and what was in memory. The disk stays.
    func losePower() throws {
        guard let holder else { return }
        // The first process takes all others with it; before there is one, the holder takes it.
        if first > 0 { kill(first, SIGKILL) } else { try holder.signal(.kill) }
        try holder.wait()
        self.holder = nil
    }

    private var entering: [String] { ["--target", "\(first)", "--net", "--mount", "--pid", "--time", "--"] }

    func reboot() throws {
        try losePower()
        // The clock since boot is set in whole seconds: what was before it is to be older than that.
        sleep(2)
        try boot()
    }

    /// Runs a command and gives what it printed; fails where it does.
    @discardableResult
    func run(_ command: String..., environment: [String: String] = [:]) throws -> String {
        let result = try attempt(command, environment: environment)
        try #require(result.status.isSuccess, "\(command.joined(separator: " ")): \(result.text)\(result.errorText)")
        return result.text
    }

    func attempt(_ command: [String], environment: [String: String] = [:]) throws -> ChildProcess.Captured {
        var variables = ProcessInfo.processInfo.environment
        for (key, value) in environment { variables[key] = value }
        return try ChildProcess.capture(
            "nsenter", entering + command, environment: variables, timeout: .seconds(300))
    }

    /// Starts a program that stays; what it says goes to a file of the folder.
    func start(_ command: String..., log: String) throws -> ChildProcess {
        try ChildProcess.spawn(
            executable: "nsenter", arguments: entering + command,
            standardOutput: .file("\(folder)/\(log)"), standardError: .file("\(folder)/\(log)"))
    }

    /// What a web server answers; nil where none does.
    func fetch(_ address: String, fromOutside: Bool = false) throws -> String? {
        let here = ["curl", "--silent", "--max-time", "10", "--noproxy", "*", "http://\(address)/index.html"]
        let result = try attempt(fromOutside ? ["ip", "netns", "exec", "outside"] + here : here)
        return result.status.isSuccess ? result.text.trimmingCharacters(in: .whitespacesAndNewlines) : nil
    }

    /// What attachments have left: interfaces, leases, cached results, elements of the packet filter.
    func remains() throws -> [String] {
        let links = try run("ip", "-brief", "link").split(separator: "\n").map { String($0.split(separator: " ")[0]) }
        var found = links.filter { $0.hasPrefix("veth") || $0.hasPrefix("bwp") || $0.hasPrefix("fl") }
        let files = try run("find", "/var/lib/cni", "-type", "f").split(separator: "\n").map(String.init)
        found += files.filter { file in
            // Of what the lease store keeps beside the leases, only the owners are attachments'.
            if file.contains("/.fairlead/") { return file.contains("/by-owner/") }
            return !["/lock", "/last_reserved_ip.0", "/last_reserved_ip.1"].contains { file.hasSuffix($0) }
        }
        found += try run("nft", "list", "ruleset").split(separator: "\n").map(String.init).filter {
            $0.contains("elements = ")
        }
        return found
    }
}
