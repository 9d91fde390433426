import ArgumentParser

@main
struct FairleadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fairlead",
        abstract: "Container networking for Linux and Kubernetes: says where packets go, and why.",
        discussion: """
            'fairlead lab up' makes a whole cluster on this machine, without images or an API server, to try all of \
            it out.
            """,
        subcommands: [LabCommand.self, TraceCommand.self, PodServerCommand.self])
}
