/// What a run of a plugin prints and ends with.
public struct Outcome: Hashable, Sendable {
    /// At most one JSON document: the result or the error.
    public var output: String = ""
    public var diagnostics: String = ""
    public var status: Int32 = 0

    public init(output: String = "", diagnostics: String = "", status: Int32 = 0) {
        self.output = output
        self.diagnostics = diagnostics
        self.status = status
    }

    /// A failure before a configuration has said which version it is in.
    public init(failure: CNIError) { self.init(failure: failure, version: .current) }

    init(failure: CNIError, version: SpecVersion) {
        self.init(output: failure.json(as: version).text + "\n", status: 1)
    }
}

/// Runs a plugin as the container runtime's environment and input ask.
///
/// Touches no state of the process, so that the same run can be had in a test. The order of the tests on the request
/// and the codes of their failures are those of the reference plugins' skeleton, because runtimes and their tests know
/// them.
///
/// - Parameters:
///   - input: reads standard input; not called for VERSION, whose caller may leave it open.
///   - isOwnNamespace: whether a path is the network namespace of this very process.
public func run(
    _ plugin: any Plugin, environment: [String: String], input: () throws(CNIError) -> [UInt8],
    isOwnNamespace: (String) -> Bool
) -> Outcome {
    var version = SpecVersion.current
    do throws(CNIError) {
        guard let command = environment["CNI_COMMAND"], !command.isEmpty else {
            let versions = SpecVersion.supported.map(\.description).joined(separator: ", ")
            return Outcome(
                diagnostics: "Fairlead CNI plugin \(plugin.name)\nCNI protocol versions supported: \(versions)\n")
        }
        let attachment = try attachment(of: command, environment: environment)
        if command == "VERSION" { return Outcome(output: versionReport.text + "\n") }

        let bytes = try input()
        let json = try namedObject(bytes)
        guard let verb = Verb(rawValue: command) else {
            throw CNIError(.invalidEnvironment, "unknown CNI_COMMAND: \(command)")
        }
        version = try agreedVersion(of: json, for: verb)
        let network = NetworkRequest(
            configuration: NetworkConfiguration(json: json, version: version, name: json["name"]?.string ?? ""),
            input: bytes, environment: environment)
        let result = try perform(verb, plugin, network, attachment, isOwnNamespace: isOwnNamespace)
        return Outcome(
            output: try result.map { result throws(CNIError) in try result.json(as: version).text + "\n" } ?? "")
    } catch {
        return Outcome(failure: error, version: version)
    }
}

enum Verb: String {
    case add = "ADD"
    case delete = "DEL"
    case check = "CHECK"
    case collectGarbage = "GC"
    case status = "STATUS"

    /// The first version of the specification that has the verb.
    var firstVersion: SpecVersion {
        switch self {
        case .add, .delete: .v0_1_0
        case .check: .v0_4_0
        case .collectGarbage, .status: .v1_1_0
        }
    }
}

private let versionReport: JSONValue = [
    "cniVersion": .string(SpecVersion.current.description),
    "supportedVersions": .array(SpecVersion.supported.map { .string($0.description) }),
]

private func perform(
    _ verb: Verb, _ plugin: any Plugin, _ network: NetworkRequest, _ attachment: AttachmentID?,
    isOwnNamespace: (String) -> Bool
) throws(CNIError) -> AttachmentResult? {
    switch verb {
    case .collectGarbage: try plugin.collectGarbage(network)
    case .status: try plugin.status(network)
    case .add, .delete, .check:
        guard let attachment else { return nil }
        let request = AttachmentRequest(
            network: network, attachment: attachment, namespacePath: network.environment["CNI_NETNS"] ?? "")
        // Before anything is done; the reference plugins ask afterwards, when the host's own interface is gone.
        if verb != .check, !allowsOwnNamespace(network.environment), isOwnNamespace(request.namespacePath) {
            throw CNIError(.invalidNamespace, "plugin's netns and netns from CNI_NETNS should not be the same")
        }
        switch verb {
        case .add: return try plugin.add(request)
        case .delete: try plugin.delete(request)
        default: try plugin.check(request)
        }
    }
    return nil
}

private func allowsOwnNamespace(_ environment: [String: String]) -> Bool {
    let value = environment["CNI_NETNS_OVERRIDE"] ?? ""
    return value == "1" || value.uppercased() == "TRUE"
}
