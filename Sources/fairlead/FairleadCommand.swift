import ArgumentParser
import Glibc
import KernelInterface

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

    /// Runs the command that the arguments name; ends with 1 where they make no sense.
    ///
    /// ArgumentParser would end with 64, but what `fairlead trace` ends with is looked at by programs, and there a
    /// mistake has one number.
    static func main() async {
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
            try? StandardStreams.writeError(fullMessage(for: error) + "\n")
            Glibc.exit(1)
        }
    }
}
