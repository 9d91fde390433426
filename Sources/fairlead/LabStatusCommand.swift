import ArgumentParser
import KernelInterface
import Lab

struct LabStatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Says how a lab is, or which labs there are.",
        discussion: "Ends with 0 where everything runs and every node has everything in force, and with 1 otherwise.")

    @OptionGroup var lab: LabOptions

    @Flag(help: "List all labs of this machine.")
    var all = false

    func run() async throws {
        try LabCommand.requireRoot()
        if all { return try list() }
        let state = try LabState.open(lab.name)
        let agents = try state.agents()
        let broken = try state.brokenPods()
        var text =
            "Lab \(state.name): \(state.isUp ? "up" : "not up"), \(state.nodes.count) nodes, \(state.pods.count) pods\n"
        var table = TextTable(["NODE", "AGENT", "IN SYNC", "PODS"])
        for agent in agents {
            table.add([
                agent.node, agent.pid.map { "process \($0)" } ?? "does not run", agent.isInSync ? "yes" : "no",
                "\(state.pods.count { $0.node == agent.node })",
            ])
        }
        text += table.text
        for agent in agents {
            for error in agent.errors { text += "error on \(agent.node): \(error)\n" }
            if agent.pid == nil || !agent.isInSync { text += "see \(agent.logPath)\n" }
        }
        // All agents read the same manifests, so they say the same about them.
        for note in Set(agents.flatMap(\.notes)).sorted() { text += "note: \(note)\n" }
        for pod in broken { text += "pod \(pod) is broken: its network namespace or its stand-in is gone\n" }
        let isWell = state.isUp && broken.isEmpty && agents.allSatisfy { $0.isInSync && $0.errors.isEmpty }
        if !isWell { text += "'fairlead lab up\(state.flag)' starts what is missing.\n" }
        try StandardStreams.writeOutput(text)
        if !isWell { throw ExitCode.failure }
    }

    private func list() throws {
        var table = TextTable(["LAB", "STATE", "NODES", "PODS"])
        for name in try LabSession.names() {
            let state = try? LabState.open(name)
            table.add([
                "\(name)", state?.isUp == true ? "up" : "not up", "\(state?.nodes.count ?? 0)",
                "\(state?.pods.count ?? 0)",
            ])
        }
        guard !table.isEmpty else { return try StandardStreams.writeOutput("There are no labs.\n") }
        try table.print()
    }
}
