import CLinux
import Glibc
import SystemPackage

/// A process started by this one.
///
/// It starts in the calling thread's network namespace, with no descriptors but the three standard streams, no blocked
/// signals and no ignored ones.
public struct ChildProcess: Hashable, Sendable {
    public let pid: Int32

    /// Where standard input comes from.
    public enum Input: Hashable, Sendable {
        case inherit
        case null
        /// These bytes and then the end.
        case bytes([UInt8])
    }

    /// Where standard output or standard error goes.
    public enum Output: Hashable, Sendable {
        case inherit
        case null
        /// To the end of a file, made when missing.
        case file(String)
    }

    /// How a process ended.
    public enum ExitStatus: Hashable, Sendable, CustomStringConvertible {
        case exited(Int32)
        case signalled(Signal)

        public var isSuccess: Bool { self == .exited(0) }

        public var description: String {
            switch self {
            case .exited(let code): "exit status \(code)"
            case .signalled(let signal): "signal \(signal.rawValue)"
            }
        }
    }

    /// Starts a program.
    ///
    /// - Parameter executable: A path, or a name to look for in this process's `PATH`.
    /// - Parameter arguments: Without the program's own name.
    /// - Parameter environment: All of it; nil for this process's own.
    /// - Parameter newSession: Whether the child leads a session of its own, and so outlives the terminal (`setsid`).
    ///
    /// The corresponding C function is `posix_spawnp`.
    public static func spawn(
        executable: String, arguments: [String], environment: [String: String]? = nil, standardInput: Input = .null,
        standardOutput: Output = .inherit, standardError: Output = .inherit, newSession: Bool = false
    ) throws(KernelError) -> ChildProcess {
        let operation = "start \(executable)"
        let input = try descriptor(for: standardInput, operation)
        let output = try descriptor(for: standardOutput, inherited: 1, operation)
        let error = try descriptor(for: standardError, inherited: 2, operation)
        return try spawn(
            executable, arguments, environment, input: input, output: output, error: error, newSession: newSession)
    }

    /// The process as something to recognise later; nil once it was waited for.
    public var identity: ProcessIdentity? { ProcessIdentity(pid: pid) }

    /// Waits until the process has ended and frees its number; `ECHILD` the second time.
    @discardableResult
    public func wait() throws(KernelError) -> ExitStatus {
        var status: Int32 = 0
        try systemCall("wait for process \(pid)") { waitpid(pid, &status, 0) }
        // The macros WIFSIGNALED, WTERMSIG and WEXITSTATUS, which Swift does not see.
        let signal = status & 0x7f
        return signal == 0 ? .exited(status >> 8 & 0xff) : .signalled(Signal(rawValue: signal))
    }

    /// Sends a signal; false where the process has been waited for.
    @discardableResult
    public func signal(_ signal: Signal) throws(KernelError) -> Bool {
        do {
            try systemCall("send signal \(signal.rawValue) to process \(pid)") { kill(pid, signal.rawValue) }
            return true
        } catch where error.errno == .noSuchProcess {
            return false
        }
    }

    /// When the process of this number started, in clock ticks since boot; nil where there is none.
    public static func startTime(pid: Int32) -> UInt64? {
        let path = "/proc/\(pid)/stat"
        guard let file = try? Descriptor.open(path, O_RDONLY, for: path),
            let bytes = try? file.readAll(limit: 1 << 12, for: path),
            // The second field is the program's name in parentheses, which may hold spaces and parentheses itself.
            let end = bytes.lastIndex(of: UInt8(ascii: ")"))
        else { return nil }
        let fields = bytes[(end + 1)...].split(separator: UInt8(ascii: " "))
        // Field 22 of proc_pid_stat(5); the first after the name is number 3.
        return fields.count > 19 ? UInt64(String(decoding: fields[19], as: UTF8.self)) : nil
    }
}

extension ChildProcess {
    static func spawn(
        _ executable: String, _ arguments: [String], _ environment: [String: String]?,
        input: borrowing Descriptor, output: borrowing Descriptor, error: borrowing Descriptor, newSession: Bool
    ) throws(KernelError) -> ChildProcess {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input.rawValue, 0)
        posix_spawn_file_actions_adddup2(&actions, output.rawValue, 1)
        posix_spawn_file_actions_adddup2(&actions, error.rawValue, 2)
        // What a library opened without O_CLOEXEC stays here.
        fairlead_spawn_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (newSession ? fairlead_POSIX_SPAWN_SETSID : 0)
        posix_spawnattr_setflags(&attributes, Int16(flags))

        var pid: pid_t = 0
        let start = { withCStrings([executable] + arguments) { argv -> Int32 in
            guard let environment else {
                return posix_spawnp(&pid, executable, &actions, &attributes, argv, fairlead_environment())
            }
            return withCStrings(environment.map { "\($0.key)=\($0.value)" }) { envp in
                posix_spawnp(&pid, executable, &actions, &attributes, argv, envp)
            }
        } }
        var code = start()
        // A program that was just written may for a moment still be open for writing in a process between fork and exec.
        for _ in 0..<20 where code == ETXTBSY {
            usleep(10_000)
            code = start()
        }
        // posix_spawn returns its error; a failed exec in the child is among them.
        guard code == 0 else { throw KernelError(operation: "start \(executable)", errno: Errno(rawValue: code)) }
        return ChildProcess(pid: pid)
    }

    static func descriptor(for input: Input, _ operation: String) throws(KernelError) -> Descriptor {
        switch input {
        case .inherit: return try inherited(0, operation)
        case .null: return try null(operation)
        case .bytes(let bytes):
            // A file in memory and not a pipe: a child that does not read cannot make the parent wait.
            let raw = try systemCall(operation) { fairlead_memfd_create("standard input") }
            let file = Descriptor(owning: raw)
            try file.write(bytes, for: operation)
            try systemCall(operation) { lseek(file.rawValue, 0, SEEK_SET) }
            return try file.aboveStandardStreams()
        }
    }

    private static func descriptor(
        for output: Output, inherited number: Int32, _ operation: String
    ) throws(KernelError) -> Descriptor {
        switch output {
        case .inherit: return try inherited(number, operation)
        case .null: return try null(operation)
        case .file(let path):
            let flags = O_WRONLY | O_CREAT | O_APPEND
            let file = try Descriptor.open(path, flags, mode: 0o644, for: "\(operation): open \(path)")
            return try file.aboveStandardStreams()
        }
    }

    static func null(_ operation: String) throws(KernelError) -> Descriptor {
        try Descriptor.open("/dev/null", O_RDWR, for: operation).aboveStandardStreams()
    }

    /// The parent's own stream, or nothing to read and nowhere to write where the parent has closed it.
    private static func inherited(_ number: Int32, _ operation: String) throws(KernelError) -> Descriptor {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
        return copy >= 0 ? Descriptor(owning: copy) : try null(operation)
    }
}

/// Runs `body` with the strings as a C array that ends with a null pointer; both are gone afterwards.
private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
    defer { pointers.forEach { free($0) } }
    return pointers.withUnsafeMutableBufferPointer { body($0.baseAddress!) }
}
