import Foundation
import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import Testing

/// Whether this process may make network namespaces, which the kernel allows to root only.
let mayMakeNamespaces = geteuid() == 0

extension Trait where Self == ConditionTrait {
    static var needsRoot: Self { .enabled(if: mayMakeNamespaces, "making network namespaces needs root") }
}

/// A lab made by the built `fairlead`, as a person would make it.
struct LabUnderTest: Sendable {
    /// The lab of the suite that is running.
    @TaskLocal static var shared: LabUnderTest?

    static func current() throws -> LabUnderTest { try #require(shared, "the suite has no .lab trait") }

    let name: String

    init() { name = "test-\(String(UInt32.random(in: .min ... .max), radix: 16))" }

    /// The built binaries lie beside the test bundle.
    static let binaries = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path

    /// The checkout, of which the tests use the manifests of the quickstart.
    static let checkout = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    // MARK: - Commands

    /// Runs `fairlead lab` and returns what it wrote, whatever its status.
    func lab(_ arguments: String..., input: String = "") throws -> ChildProcess.Captured {
        var words = ["lab"] + arguments
        // Before the words that are another program's.
        words.insert(contentsOf: ["--name", name], at: words.firstIndex(of: "--") ?? words.endIndex)
        return try ChildProcess.capture(
            "\(Self.binaries)/fairlead", words, input: Array(input.utf8), timeout: .seconds(120))
    }

    /// Applies manifests that are good.
    func apply(_ manifests: String, location: SourceLocation = #_sourceLocation) throws {
        let applied = try lab("apply", "-f", "-", input: manifests)
        #expect(applied.status.isSuccess, "\(applied.errorText)", sourceLocation: location)
    }

    func down() {
        let removed = try? lab("down")
        if removed?.status.isSuccess != true { Issue.record("lab down: \(removed?.errorText ?? "not run")") }
    }

    func state() throws -> LabState { try LabState.open(name) }

    // MARK: - What there is of it

    /// The names of the namespaces that bear the lab's name.
    func namespaces() throws -> [String] {
        try NetworkNamespace.names().filter { $0.hasPrefix("fairlead-\(name)-") }
    }

    /// The processes that were started for this lab: its name is in their arguments.
    func processes() throws -> [Int32] {
        let directory = "/run/fairlead/labs/\(name)/"
        return try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap(Int32.init).filter { pid in
            let words = (try? Data(contentsOf: URL(filePath: "/proc/\(pid)/cmdline"))) ?? Data()
            return String(decoding: words, as: UTF8.self).contains(directory)
        }
    }

    var folderIsThere: Bool { FileManager.default.fileExists(atPath: "/run/fairlead/labs/\(name)") }

    func expectNothingLeft(location: SourceLocation = #_sourceLocation) throws {
        #expect(try namespaces() == [], sourceLocation: location)
        #expect(try processes() == [], sourceLocation: location)
        #expect(!folderIsThere, sourceLocation: location)
    }
}

/// Gives a suite a lab of three nodes, removed after its last test.
struct LabTrait: SuiteTrait, TestScoping {
    let manifests: [String]
    var folder: String?

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        let up = try lab.lab("up", "--nodes", "3")
        try #require(up.status.isSuccess, "\(up.errorText)")
        for manifests in manifests { try lab.apply(manifests) }
        if let folder {
            let applied = try lab.lab("apply", "-f", folder)
            try #require(applied.status.isSuccess, "\(applied.errorText)")
        }
        try await LabUnderTest.$shared.withValue(lab) { try await function() }
    }
}

extension Trait where Self == LabTrait {
    static func lab(_ manifests: String...) -> Self { LabTrait(manifests: manifests) }
}

// MARK: - Namespaces

extension LabPod {
    /// Runs `body` in the pod's network.
    func inside<Result: ~Copyable>(_ body: () throws(KernelError) -> Result) throws(KernelError) -> Result {
        try NetworkNamespace.open(NetworkNamespace.path(named: namespaceName)).withEntered(body)
    }

    func address(_ family: AddressFamily) throws -> IPAddress {
        try #require(addresses.first { $0.family == family }, "\(key) has no \(family) address")
    }
}

extension LabNode {
    /// Runs `body` in the node's network.
    func inside<Result: ~Copyable>(_ body: () throws(KernelError) -> Result) throws(KernelError) -> Result {
        try NetworkNamespace.open(NetworkNamespace.path(named: namespaceName)).withEntered(body)
    }
}

extension Probe {
    /// What came of asking: the name of the pod that answered, or why none did.
    static func answer(
        _ transport: TransportProtocol, _ destination: SocketAddress, timeout: Duration = .seconds(3)
    ) throws(KernelError) -> String {
        let outcome =
            transport == .udp
            ? try udp(to: destination, timeout: timeout) : try tcp(to: destination, timeout: timeout, send: "\n")
        // A datagram's answer goes on with the client's address.
        if case .reply(let text) = outcome {
            return text.split { $0 == " " || $0 == "\n" }.first.map(String.init) ?? ""
        }
        return "\(outcome)"
    }
}
