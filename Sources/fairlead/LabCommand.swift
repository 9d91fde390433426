public import ArgumentParser
import Glibc
public import Lab

struct LabCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "A Kubernetes cluster on this machine, made of network namespaces.",
        discussion: """
            Each node is a network namespace with an agent of its own; each pod is a network namespace attached by the \
            CNI plugin. A small server stands in for a pod's containers: it listens on the container ports that the \
            pod declares and answers with the pod's name. No image is pulled and no API server runs.

              sudo fairlead lab up --nodes 3
              sudo fairlead lab apply -f my-manifests/
              sudo fairlead lab get pods -A -o wide
              sudo fairlead lab request deployment/frontend -n shop --to svc/catalog:80 --count 20
              sudo fairlead lab exec deployment/frontend -n shop -- ip route
              sudo fairlead lab node node-1 -- nft list ruleset
              sudo fairlead lab down

            Labs with other names live side by side: give each command the lab's --name.
            """,
        subcommands: [
            LabUpCommand.self, LabApplyCommand.self, LabDeleteCommand.self, LabGetCommand.self,
            LabRequestCommand.self, LabExecCommand.self, LabNodeCommand.self, LabStatusCommand.self,
            LabDownCommand.self,
        ])
}

/// The option every lab command has.
struct LabOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("The lab's name: 1 to 20 lower-case letters, digits and inner dashes.", valueName: "name"))
    var name = LabName.default
}

/// Where manifests come from.
struct ManifestOptions: ParsableArguments {
    @Option(
        name: [.customShort("f"), .customLong("filename")], parsing: .upToNextOption,
        help: ArgumentHelp(
            "Manifests: files, folders (their *.yaml, *.yml and *.json), or - for standard input.",
            valueName: "file|folder"))
    var paths: [String] = []

    var input: ManifestInput { ManifestInput(paths: paths) }
}

extension LabName: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension LabCommand {
    /// Network namespaces are made and entered by root only.
    static func requireRoot() throws {
        guard geteuid() == 0 else {
            throw LabError("network namespaces need root", advice: "Run the command with sudo.")
        }
    }
}
