import ArgumentParser
import Foundation
import KernelInterface
import NetworkAddresses

/// Times ADD and DEL of one pod, as a runtime sees them: one execution of each plugin of the list.
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

    @Option(
        help: ArgumentHelp(
            "Folder with another `bridge`, `host-local` and `portmap`, such as /usr/lib/cni.", valueName: "folder"))
    var peer: String?

    @Option(help: "How often each is run.")
    var runs = 100

    @Option(help: "Leases that exist already in the lease test.")
    var leases = 30_000

    @Option(help: "Pods that are made by 16 threads.")
    var pods = 160

    private static let one = ["10.9.0.0/16"]
    private static let both = ["10.9.0.0/16", "fd00:9::/64"]

    func run() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fairlead-bench-\(getpid())").path
        try FileManager.default.createDirectory(atPath: "\(folder)/bin", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let own = plugins ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path
        for name in ["fairlead", "bridge", "host-local", "portmap"] {
            try FileManager.default.createSymbolicLink(
                atPath: "\(folder)/bin/\(name)",
                withDestinationPath: URL(filePath: "\(own)/fairlead-cni").standardizedFileURL.path)
        }
        try alone(folder)
        try steps(folder)
        try crowded(folder)
        try together(folder)
    }

    /// One pod at a time, everybody in turn.
    private func alone(_ folder: String) throws {
        print("ADD and DEL of one pod, \(runs) runs each, in turn; medians")
        let networks: [(String, Network, peers: Bool)] = [
            ("fairlead, one family", .fairlead(Self.one), false),
            ("fairlead, both families", .fairlead(Self.both), false),
            ("fairlead, masquerade + host port", .fairlead(Self.one, exposed: true), false),
            ("bridge + host-local", .bridge(Self.one), true),
            ("bridge + host-local, both families", .bridge(Self.both), true),
            ("bridge, masquerade + portmap", .bridge(Self.one, exposed: true), true),
        ]
        var ours: [Bed] = []
        var theirs: [Int: Bed] = [:]
        for (number, (name, network, peers)) in networks.enumerated() {
            ours.append(try Bed(name, "\(folder)/bin", network, state: "\(folder)/ours-\(number)"))
            guard peers, let peer else { continue }
            theirs[number] = try Bed("the peer's \(name)", peer, network, state: "\(folder)/peer-\(number)")
        }
        let floor = try Floor()
        for number in 0..<runs + 3 {
            try floor.run(warmUp: number < 3)
            for place in ours.indices {
                for bed in [ours[place], theirs[place]].compactMap(\.self) {
                    try bed.run(id: "bench-\(number)", warmUp: number < 3)
                }
            }
        }
        report(
            "kernel's floor: veth pair, address, route / its removal",
            "\(floor.add.median.milliseconds) / \(floor.delete.median.milliseconds)")
        for place in ours.indices {
            for bed in [ours[place], theirs[place]].compactMap(\.self) {
                report("\(bed.name): ADD / DEL", "\(bed.add.median.milliseconds) / \(bed.delete.median.milliseconds)")
            }
        }
        let targets = [3: "2.5 / -"]
        for (place, bed) in theirs.sorted(by: { $0.key < $1.key }) {
            report(
                "ratio, \(ours[place].name): ADD / DEL", quotients(bed, to: ours[place]), target: targets[place] ?? "")
        }
        if let peer = theirs[5] {
            report(
                "ratio, bridge + portmap to fairlead in one: ADD / DEL", quotients(peer, to: ours[2]), target: "12 / -")
        }
        report(
            "DEL of bridge + host-local to the floor's", quotient(ours[3].delete.median, floor.delete.median),
            target: "1.2")
    }

    private func quotient(_ a: Duration, _ b: Duration) -> String { String(format: "%.1f", a / b) }

    private func quotients(_ peer: Bed, to own: Bed) -> String {
        "\(quotient(peer.add.median, own.add.median)) / \(quotient(peer.delete.median, own.delete.median))"
    }

    /// Where the time of an ADD goes, by the plugin's own word; what is before and behind is the process.
    private func steps(_ folder: String) throws {
        for (name, network) in [
            ("bridge + host-local", Network.bridge(Self.one)), ("fairlead", .fairlead(Self.one, exposed: true)),
        ] {
            let bed = try Bed(name, "\(folder)/bin", network, state: "\(folder)/steps-\(name.count)")
            print("Steps of an ADD of \(name), medians")
            var order: [String] = []
            var times: [String: Measurement] = [:]
            for number in 0..<max(runs / 4, 5) + 2 {
                for (step, time) in try bed.times(id: "step-\(number)", warmUp: number < 2) {
                    if times[step] == nil { order.append(step) }
                    times[step, default: Measurement()].add(time)
                }
            }
            for step in order { report("  \(step)", times[step]!.median.milliseconds) }
        }
    }

    /// The cost of a lease among many: `host-local` alone.
    private func crowded(_ folder: String) throws {
        print("ADD / DEL of one lease among others")
        for (who, path) in [("ours", "\(folder)/bin")] + (peer.map { [("the peer's", $0)] } ?? []) {
            var totals: [Duration] = []
            for count in [10, leases] {
                let state = "\(folder)/crowd-\(who.count)-\(count)"
                let store = "\(state)/leases/bench"
                try FileManager.default.createDirectory(atPath: store, withIntermediateDirectories: true)
                let first = IPAddress("10.8.0.2")!
                for number in 0..<count {
                    let name = first.advanced(by: UInt128(number))!.description
                    try Data("old-\(number)\r\neth0".utf8).write(to: URL(filePath: "\(store)/\(name)"))
                }
                var (add, delete, stock) = (Measurement(), Measurement(), Duration.zero)
                for number in 0..<max(5, runs / 5) + 1 {
                    for command in ["ADD", "DEL"] {
                        let start = ContinuousClock.now
                        try Network.leases.execute(
                            command, in: path, id: "new-\(number)", netns: "/var/run/netns/none", state: state)
                        let time = ContinuousClock.now - start
                        // The first takes stock of what another program left, once.
                        if number == 0 {
                            stock += time
                        } else if command == "ADD" {
                            add.add(time)
                        } else {
                            delete.add(time)
                        }
                    }
                }
                totals.append(add.median + delete.median)
                report(
                    "host-local, \(who), \(count) leases; the first time",
                    "\(add.median.milliseconds) / \(delete.median.milliseconds); \(stock.milliseconds)")
            }
            report(
                "\(who): among \(leases) to among 10", quotient(totals[1], totals[0]),
                target: who == "ours" ? "1.5" : "")
        }
    }

    /// Many pods at once.
    private func together(_ folder: String) throws {
        print("\(pods) pods, 16 at a time: pods per second of ADD / DEL")
        var rates: [String: (add: Double, delete: Double)] = [:]
        for (name, network) in [
            ("bridge + host-local", Network.bridge(Self.one)),
            ("bridge, masquerade + portmap", .bridge(Self.one, exposed: true)),
            ("fairlead, masquerade + host port", .fairlead(Self.one, exposed: true)),
        ] {
            for (who, path) in [("", "\(folder)/bin")] + (peer.map { [("the peer's ", $0)] } ?? []) {
                if network.isOurs, !who.isEmpty { continue }
                let bed = try Bed(who + name, path, network, state: "\(folder)/together-\(rates.count)")
                let rate = try bed.runTogether(pods: pods, width: 16)
                rates[who + name] = rate
                report(who + name, String(format: "%6.0f / %6.0f", rate.add, rate.delete))
            }
        }
        for name in rates.keys.sorted() {
            guard let own = rates[name], let peer = rates["the peer's \(name)"] else { continue }
            report(
                "ratio, \(name)", String(format: "%.1f / %.1f", own.add / peer.add, own.delete / peer.delete),
                target: "3 / -")
        }
    }
}
