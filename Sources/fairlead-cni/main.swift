import CNIProtocol
import Glibc
import KernelInterface

let environment = StandardStreams.environment()
let invocation = Invocation(arguments: CommandLine.arguments, environment: environment)
let outcome = invocation.outcome { () throws(CNIError) in
    do throws(KernelError) { return try StandardStreams.readInput(limit: JSONValue.sizeLimit) } catch {
        throw CNIError(.inputOutput, "error reading from stdin: \(error)")
    }
}
do {
    try StandardStreams.writeError(outcome.diagnostics)
    try StandardStreams.writeOutput(outcome.output)
} catch {
    // Nobody can be told; a runtime that reads nothing takes this for a failure and sends DEL.
    exit(1)
}
exit(outcome.status)
