import CLinux
import Glibc
import SystemPackage

/// What a process is given at its start and gives back: its environment and the three standard streams.
///
/// For a program that is started so often that Foundation's start-up would be most of its work.
public enum StandardStreams {
    /// The environment; of a variable that is there twice, the first counts, as for `getenv`.
    public static func environment() -> [String: String] {
        guard let entries = fairlead_environment() else { return [:] }
        var count = 0
        while entries[count] != nil { count += 1 }
        var variables = Dictionary<String, String>(minimumCapacity: count)
        // The first last, so that it stays.
        for number in (0..<count).reversed() {
            guard let entry = entries[number], let separator = strchr(entry, CInt(UInt8(ascii: "="))) else { continue }
            let name = UnsafeRawBufferPointer(start: entry, count: separator - entry)
            variables[String(decoding: name, as: UTF8.self)] = String(cString: separator + 1)
        }
        return variables
    }

    /// Standard input to its end, `EFBIG` where that is more than `limit` bytes away.
    public static func readInput(limit: Int) throws(KernelError) -> [UInt8] {
        let operation = "read standard input"
        // A number of its own, because a descriptor closes what it owns.
        let input = Descriptor(owning: try systemCall(operation) { fcntl(0, F_DUPFD_CLOEXEC, 3) })
        return try input.readAll(limit: limit, for: operation)
    }

    public static func writeOutput(_ text: String) throws(KernelError) { try write(text, to: 1, "standard output") }

    public static func writeError(_ text: String) throws(KernelError) { try write(text, to: 2, "standard error") }

    private static func write(_ text: String, to number: Int32, _ name: String) throws(KernelError) {
        let operation = "write to \(name)"
        let stream = Descriptor(owning: try systemCall(operation) { fcntl(number, F_DUPFD_CLOEXEC, 3) })
        try stream.write(Array(text.utf8), for: operation)
    }
}
