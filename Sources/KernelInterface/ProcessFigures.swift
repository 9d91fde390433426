import Glibc
import SystemPackage

/// What the kernel counts for this process.
public struct ProcessFigures: Hashable, Sendable {
    public var residentBytes: Int
    /// Address space that is mapped.
    public var virtualBytes: Int
    /// Processor time used, in user space and in the kernel.
    public var processorTime: Duration
    public var openFiles: Int
    /// The limit that `ulimit -n` shows.
    public var mostOpenFiles: Int

    /// As they are now.
    public static func current() throws(KernelError) -> ProcessFigures {
        let operation = "read the process's figures"
        let memory = try Descriptor.open("/proc/self/statm", O_RDONLY, for: operation)
        let fields = String(decoding: try memory.readAll(limit: 1 << 12, for: operation), as: UTF8.self).split(
            separator: " ")
        func bytes(_ field: Int) -> Int { fields.count > field ? (Int(fields[field]) ?? 0) * Int(getpagesize()) : 0 }
        var usage = rusage()
        try systemCall(operation) { getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) }
        var limit = rlimit()
        try systemCall(operation) { getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) }
        func duration(_ time: timeval) -> Duration { .seconds(time.tv_sec) + .microseconds(time.tv_usec) }
        let files = try StateDirectory.open("/proc/self/fd", create: false).entries().count
        return ProcessFigures(
            residentBytes: bytes(1), virtualBytes: bytes(0),
            processorTime: duration(usage.ru_utime) + duration(usage.ru_stime),
            // One of them was open only to count.
            openFiles: max(0, files - 1), mostOpenFiles: Int(clamping: limit.rlim_cur))
    }

    /// Says how willingly the kernel ends this process when memory is short.
    ///
    /// - Parameter adjustment: From -1000, never, to 1000; lowering it needs `CAP_SYS_RESOURCE`.
    public static func setMemoryShortageScore(_ adjustment: Int) throws(KernelError) {
        let operation = "set /proc/self/oom_score_adj to \(adjustment)"
        let file = try Descriptor.open("/proc/self/oom_score_adj", O_WRONLY, for: operation)
        try file.write(Array("\(adjustment)".utf8), for: operation)
    }
}

/// The hash table of connection tracking, one for all network namespaces.
public enum ConnectionTable {
    private static let path = "/sys/module/nf_conntrack/parameters/hashsize"

    /// How many buckets it has; nil where connections are not tracked.
    public static func buckets() throws(KernelError) -> Int? {
        do {
            let file = try Descriptor.open(path, O_RDONLY, for: "read \(path)")
            let text = String(decoding: try file.readAll(limit: 64, for: "read \(path)"), as: UTF8.self)
            return Int(text.filter(\.isNumber))
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Grows or shrinks it; all connections stay.
    public static func setBuckets(_ count: Int) throws(KernelError) {
        let operation = "write \(count) to \(path)"
        let file = try Descriptor.open(path, O_WRONLY, for: operation)
        try file.write(Array("\(count)".utf8), for: operation)
    }
}
