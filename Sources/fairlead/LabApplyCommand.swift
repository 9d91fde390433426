import ArgumentParser
import KubernetesObjects
import Lab

struct LabApplyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply",
        abstract: "Applies manifests to a lab and waits until every node has them in force.",
        discussion: """
            Takes Namespace, Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Service, EndpointSlice and \
            NetworkPolicy as they come; other kinds are named and skipped. Only what has changed is touched.

            An object that cannot be used is reported by file, object and field, the rest is applied, and the command \
            ends with 1.
            """)

    @OptionGroup var lab: LabOptions
    @OptionGroup var manifests: ManifestOptions

    func validate() throws {
        if manifests.paths.isEmpty { throw ValidationError("say what to apply: -f FILE|FOLDER") }
    }

    func run() async throws {
        try LabCommand.requireRoot()
        let (name, input) = (lab.name, manifests.input)
        let binaries = try LabBinaries.find()
        try await InterruptibleWork.run { interruption, display in
            try LabSession.open(name, binaries: binaries, interruption: interruption, report: display.show).apply(input)
        }
    }
}

struct LabDeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Deletes objects from a lab: those of manifests, or those named.",
        discussion: """
            A pod of a workload is replaced by a new one; a namespace goes with all that is in it.

              fairlead lab delete -f my-manifests/
              fairlead lab delete deployment/web service/web -n shop
            """)

    @OptionGroup var lab: LabOptions
    @OptionGroup var manifests: ManifestOptions
    @OptionGroup var namespace: NamespaceOptions

    @Argument(help: ArgumentHelp("Objects, such as pod/web-0 or networkpolicy/deny.", valueName: "kind/name"))
    var objects: [String] = []

    func validate() throws {
        guard manifests.paths.isEmpty != objects.isEmpty else {
            throw ValidationError("say what to delete: either -f FILE|FOLDER or KIND/NAME")
        }
        _ = try references()
    }

    private func references() throws -> [ObjectReference] {
        try objects.map { try ObjectArgument($0).reference(in: namespace.namespace) }
    }

    func run() async throws {
        try LabCommand.requireRoot()
        let (name, input) = (lab.name, manifests.input)
        let references = try references() + input.objects.map(\.object.reference) + input.refused.sorted()
        let binaries = try LabBinaries.find()
        try await InterruptibleWork.run { interruption, display in
            // What cannot be used could not have been applied either, but then it is not there to be deleted.
            for note in input.notes where note.object == nil { display.show(.note(note)) }
            try LabSession.open(name, binaries: binaries, interruption: interruption, report: display.show)
                .delete(references)
        }
    }
}
