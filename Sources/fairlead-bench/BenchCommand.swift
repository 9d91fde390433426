import ArgumentParser

@main
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fairlead-bench",
        abstract: "Measures Fairlead beside the kernel's floor and beside other programs, in the same run.",
        discussion: "Everything happens in network namespaces that end with the run. Needs root. Quote medians.",
        subcommands: [ServicesBenchmark.self, ServerBenchmark.self, PluginBenchmark.self])
}
