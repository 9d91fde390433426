import CNIProtocol
import Glibc
import KernelInterface
import SystemPackage

/// A plugin of somebody else's, run as a program from `CNI_PATH`.
struct ForeignPlugin {
    let type: String

    /// Runs the plugin with the request that we got ourselves; only the verb may differ.
    ///
    /// - Returns: what it printed on standard output.
    @discardableResult
    func run(_ command: String, _ request: NetworkRequest) throws(CNIError) -> [UInt8] {
        var environment = request.environment
        environment["CNI_COMMAND"] = command
        let captured = try execute(environment: environment, input: request.input, folders: request.pluginFolders)
        let diagnostics = String(decoding: captured.standardError, as: UTF8.self)
        // The runtime reads our standard error as the log of the whole chain; without it nothing is lost but words.
        try? StandardStreams.writeError(diagnostics)
        switch captured.status {
        case .exited(0): return captured.standardOutput
        case .exited(let status):
            throw CNIError(
                printedBy: type, output: captured.standardOutput, diagnostics: diagnostics, status: status)
        case .signalled(let signal):
            throw CNIError(.internal, "plugin \(type) was ended by signal \(signal.rawValue)", details: diagnostics)
        }
    }

    private func execute(
        environment: [String: String], input: [UInt8], folders: [String]
    ) throws(CNIError) -> ChildProcess.Captured {
        guard !type.utf8.contains(UInt8(ascii: "/")) else {
            throw CNIError(.invalidConfiguration, "ipam.type: invalid plugin name: \(type)")
        }
        var denied: KernelError?
        for folder in folders {
            do throws(KernelError) {
                return try capture("\(folder)/\(type)", environment: environment, input: input)
            } catch where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
                continue
            } catch where error.errno == .permissionDenied {
                // A folder of that name, or a file that is no program: another folder may have the plugin.
                denied = denied ?? error
            } catch {
                throw CNIError(error)
            }
        }
        if let denied { throw CNIError(denied) }
        throw CNIError(
            .internal, "failed to find plugin \"\(type)\" in path [\(folders.joined(separator: " "))]")
    }

    private func capture(
        _ path: String, environment: [String: String], input: [UInt8]
    ) throws(KernelError) -> ChildProcess.Captured {
        var attemptsLeft = 5
        while true {
            do throws(KernelError) {
                return try ChildProcess.capture(
                    path, [], environment: environment, input: input, outputLimit: JSONValue.sizeLimit)
            } catch where error.errno == .textFileBusy && attemptsLeft > 0 {
                // The file is being written by an installation right now; the reference library waits like this.
                attemptsLeft -= 1
                sleep(1)
            }
        }
    }
}
