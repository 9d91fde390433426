import CLinux
import Glibc
import SystemPackage

extension ChildProcess {
    /// What a program that ran to its end left.
    public struct Captured: Sendable {
        public var status: ExitStatus
        public var standardOutput: [UInt8]
        public var standardError: [UInt8]

        /// Standard output as text.
        public var text: String { String(decoding: standardOutput, as: UTF8.self) }
        /// Standard error as text.
        public var errorText: String { String(decoding: standardError, as: UTF8.self) }
    }

    /// Runs a program to its end and keeps what it wrote. A status other than 0 is a value, not an error.
    ///
    /// - Parameter outputLimit: The most bytes of each stream; a program that writes more is killed: `EFBIG`.
    /// - Parameter timeout: After this the program is killed: `ETIMEDOUT`.
    public static func capture(
        _ executable: String, _ arguments: [String], environment: [String: String]? = nil, input: [UInt8] = [],
        outputLimit: Int = 1 << 24, timeout: Duration? = nil
    ) throws(KernelError) -> Captured {
        let operation = "run \(executable)"
        let deadline = timeout.map { ContinuousClock.now + $0 }
        let standardInput = try descriptor(for: .bytes(input), operation)
        var output = try Stream.open(operation)
        var error = try Stream.open(operation)
        let child = try spawn(
            executable, arguments, environment, input: standardInput, output: output.writeEnd(),
            error: error.writeEnd(), newSession: false)
        do throws(KernelError) {
            let end = Descriptor(owning: try systemCall(operation) { fairlead_pidfd_open(child.pid) })
            var hasEnded = false
            // A grandchild may keep the pipes open for ever, so the child's end counts as the streams' end.
            while !hasEnded, !(output.isAtEnd && error.isAtEnd) {
                var requests = [
                    pollfd(fd: output.isAtEnd ? -1 : output.readEnd.rawValue, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: error.isAtEnd ? -1 : error.readEnd.rawValue, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: end.rawValue, events: Int16(POLLIN), revents: 0),
                ]
                let ready = try systemCall(operation) {
                    poll(&requests, 3, deadline.map { ($0 - .now).pollMilliseconds } ?? -1)
                }
                if ready == 0 { throw KernelError(operation: operation, errno: .timedOut) }
                hasEnded = requests[2].revents != 0
                try output.drain(limit: outputLimit, operation)
                try error.drain(limit: outputLimit, operation)
            }
            // Both streams may end before the program does.
            if !hasEnded, let deadline, !KernelInterface.wait(end.rawValue, for: Int16(POLLIN), until: deadline) {
                throw KernelError(operation: operation, errno: .timedOut)
            }
        } catch {
            _ = try? child.signal(.kill)
            _ = try? child.wait()
            throw error
        }
        return Captured(status: try child.wait(), standardOutput: output.bytes, standardError: error.bytes)
    }

    /// A pipe from a child, and what has come through it.
    private struct Stream: ~Copyable {
        let readEnd: Descriptor
        private var unusedWriteEnd: Descriptor?
        private(set) var bytes: [UInt8] = []
        private(set) var isAtEnd = false

        private init(readEnd: consuming Descriptor, writeEnd: consuming Descriptor) {
            self.readEnd = readEnd
            unusedWriteEnd = consume writeEnd
        }

        static func open(_ operation: String) throws(KernelError) -> Stream {
            var ends: [Int32] = [-1, -1]
            try systemCall(operation) { fairlead_pipe(&ends) }
            let readEnd = Descriptor(owning: ends[0])
            let writeEnd = try Descriptor(owning: ends[1]).aboveStandardStreams()
            // Only our end: a child may not expect its standard output to refuse to wait.
            try systemCall(operation) { fcntl(ends[0], F_SETFL, O_NONBLOCK) }
            return Stream(readEnd: readEnd, writeEnd: writeEnd)
        }

        /// The child's end, given away so that it is closed here once the child has it.
        mutating func writeEnd() -> Descriptor { unusedWriteEnd.take()! }

        /// Reads what there is now.
        mutating func drain(limit: Int, _ operation: String) throws(KernelError) {
            while !isAtEnd {
                do {
                    let chunk = try readEnd.read(upTo: 1 << 16, for: operation)
                    isAtEnd = chunk.isEmpty
                    bytes += chunk
                } catch where error.errno == .wouldBlock {
                    return
                }
                guard bytes.count <= limit else { throw KernelError(operation: operation, errno: .fileTooLarge) }
            }
        }
    }
}
