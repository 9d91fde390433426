import ArgumentParser
import Dispatch
import FoundationEssentials
import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import UnixSignals

struct LabExecCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Runs a program of this machine in a pod's network.",
        discussion: """
            The program sees the pod's interfaces and addresses, and this machine's files. As in a real pod, the \
            services of its namespace are in the environment: CATALOG_SERVICE_HOST, CATALOG_SERVICE_PORT.

              fairlead lab exec web-0 -- ip address
              fairlead lab exec deployment/web -n shop -- sh -c 'curl $CATALOG_SERVICE_HOST:$CATALOG_SERVICE_PORT'
              fairlead lab exec web-0 -i -- bash

            It ends with the program's own status.
            """)

    @OptionGroup var lab: LabOptions
    @OptionGroup var namespace: NamespaceOptions

    @Flag(name: [.customShort("i"), .customLong("stdin")], help: "Pass standard input on.")
    var interactive = false

    // Accepted because everyone's fingers add it: a terminal is passed on as it is.
    @Flag(name: [.customShort("t"), .customLong("tty")], help: .hidden)
    var terminal = false

    @Argument(help: ArgumentHelp("A pod, or a workload for its first pod.", valueName: "pod"))
    var pod: String

    @Argument(
        parsing: .postTerminator, help: ArgumentHelp("The program and its arguments, after '--'.", valueName: "command")
    )
    var command: [String] = []

    func validate() throws {
        if command.isEmpty { throw ValidationError("say what to run, after '--'") }
        _ = try ObjectArgument(pod)
    }

    func run() async throws {
        try LabCommand.requireRoot()
        let state = try LabState.open(lab.name)
        let pod = try ObjectArgument(pod).pod(in: state, namespace: namespace.namespace)
        var environment = ProcessInfo.processInfo.environment
        for (name, value) in try state.serviceVariables(of: pod) { environment[name] = value }
        environment["HOSTNAME"] = pod.isHostNetwork ? pod.node : pod.key.name
        try await NamespaceProgram(namespace: pod.namespaceName, environment: environment, passesInput: interactive)
            .run(command)
    }
}

struct LabNodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Runs a program of this machine in a node's network.",
        discussion: """
              fairlead lab node node-1 -- nft list ruleset
              fairlead lab node node-2 -- tcpdump -ni eth0 udp port 8472

            It ends with the program's own status.
            """)

    @OptionGroup var lab: LabOptions

    @Argument(help: ArgumentHelp("The node's name, such as node-1.", valueName: "node"))
    var node: String

    @Argument(
        parsing: .postTerminator, help: ArgumentHelp("The program and its arguments, after '--'.", valueName: "command")
    )
    var command: [String] = []

    func validate() throws {
        if command.isEmpty { throw ValidationError("say what to run, after '--'") }
    }

    func run() async throws {
        try LabCommand.requireRoot()
        let state = try LabState.open(lab.name)
        guard let node = state.node(named: node) else {
            throw LabError(
                "there is no node \(node) in lab \(lab.name)",
                advice: "Its nodes are \(state.nodes.map(\.name).joined(separator: ", ")).")
        }
        try await NamespaceProgram(namespace: node.namespaceName, environment: nil, passesInput: true).run(command)
    }
}

/// A program that runs in a network namespace in the place of this one.
private struct NamespaceProgram {
    var namespace: String
    var environment: [String: String]?
    var passesInput: Bool

    /// Runs it to its end and ends this program with its status.
    func run(_ command: [String]) async throws {
        guard let namespace = try NetworkNamespace.open(named: namespace) else {
            throw LabError("the network namespace \(namespace) is gone", advice: "The lab is broken: make it anew.")
        }
        // Ctrl-C reaches the program by the terminal, and this one must outlive it; other requests are passed on.
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm, .sighup)
        let child: ChildProcess
        do {
            child = try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.spawn(
                    executable: command[0], arguments: Array(command.dropFirst()), environment: environment,
                    standardInput: passesInput ? .inherit : .null)
            }
        } catch {
            // As shells have it: 127 for a program that is not there.
            try? StandardStreams.writeError("error: \(error)\n")
            throw ExitCode(127)
        }
        let passing = Task {
            for await signal in signals where signal != .sigint {
                _ = try? child.signal(Signal(rawValue: signal.rawValue))
            }
        }
        let status = try await withCheckedThrowingContinuation {
            (continuation: CheckedContinuation<ChildProcess.ExitStatus, any Error>) in
            DispatchQueue(label: "fairlead.child").async { continuation.resume(with: Result { try child.wait() }) }
        }
        passing.cancel()
        switch status {
        case .exited(0): return
        case .exited(let code): throw ExitCode(code)
        case .signalled(let signal): throw ExitCode(128 + signal.rawValue)
        }
    }
}

extension LabState {
    /// The environment variables by which a pod's containers find the services of their namespace.
    func serviceVariables(of pod: LabPod) throws -> [String: String] {
        var variables: [String: String] = [:]
        for service in try snapshot().services.values
        where service.key.namespace == pod.key.namespace && service.isProxied {
            guard let address = service.clusterIPs.first, let port = service.ports.first else { continue }
            let prefix = service.metadata.name.uppercased().map { $0 == "-" || $0 == "." ? "_" : String($0) }.joined()
            variables["\(prefix)_SERVICE_HOST"] = "\(address)"
            variables["\(prefix)_SERVICE_PORT"] = "\(port.number)"
            for port in service.ports where !port.name.isEmpty {
                variables[
                    "\(prefix)_SERVICE_PORT_\(port.name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined())"] =
                    "\(port.number)"
            }
        }
        return variables
    }
}
