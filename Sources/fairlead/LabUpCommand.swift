public import ArgumentParser
public import Lab

struct LabUpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Makes a lab, or starts what is missing of one.",
        discussion: """
            Stopped with Ctrl-C before the lab is up, it removes what it has made. After a crash, the same command or \
            'lab down' removes what was left.
            """)

    @OptionGroup var lab: LabOptions

    @Option(
        help: ArgumentHelp(
            "How many nodes a new lab has, 1 to \(LabNetwork.nodeLimit); 3 if not given.", valueName: "count"))
    var nodes: Int?

    @Option(
        help: """
            How the nodes of a new lab are joined: vxlan, direct (routes; they share a link), cross-subnet or none; \
            vxlan if not given.
            """)
    var overlay: LabOverlay?

    @OptionGroup var manifests: ManifestOptions

    func validate() throws {
        guard nodes.map({ (1...LabNetwork.nodeLimit).contains($0) }) ?? true else {
            throw ValidationError("--nodes must be 1 to \(LabNetwork.nodeLimit)")
        }
    }

    func run() async throws {
        try LabCommand.requireRoot()
        let (name, nodes, overlay, input) = (lab.name, nodes, overlay, manifests.input)
        let binaries = try LabBinaries.find()
        try await InterruptibleWork.run { interruption, display in
            let session = try LabSession.up(
                name, nodeCount: nodes, overlay: overlay, input: input, binaries: binaries, interruption: interruption,
                report: display.show)
            let flag = session.flag
            display.show(
                .message(
                    "Lab \(name) is up. Next: 'fairlead lab apply\(flag) -f …', 'fairlead lab get\(flag) all -A', "
                        + "'fairlead lab down\(flag)'."
                ))
        }
    }
}

struct LabDownCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Removes a lab: its processes, its namespaces, its files.",
        discussion:
            "Also removes what a crashed or killed command left. Nothing outside the lab's namespaces is touched.")

    @OptionGroup var lab: LabOptions

    @Flag(help: "Remove all labs of this machine.")
    var all = false

    func run() async throws {
        try LabCommand.requireRoot()
        let names = all ? try LabSession.names() : [lab.name]
        try await InterruptibleWork.run { interruption, display in
            // Once begun, a removal is carried through: stopping it would only leave more to remove.
            for name in names where !interruption.isRequested {
                let existed = try LabSession.down(name, report: display.show)
                display.show(
                    .message(existed ? "Lab \(name) is removed." : "There is no lab \(name); nothing to remove."))
            }
            if names.isEmpty { display.show(.message("There are no labs; nothing to remove.")) }
        }
    }
}

extension LabOverlay: ExpressibleByArgument {}
