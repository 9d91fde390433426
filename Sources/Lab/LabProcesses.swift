import KernelInterface
import SystemPackage

/// The processes that live in a lab's network namespaces: agents, stand-ins, and whatever a person started there.
///
/// Found by where they are, so no record is needed; and nothing outside can be hit.
struct LabProcesses {
    /// Namespace numbers; those of this process and of the machine itself are never among them.
    private let namespaces: Set<UInt64>

    /// - Parameter names: Names of network namespaces; those that are gone or were never finished are passed over.
    init(inNamespaces names: [String]) throws(KernelError) {
        var inodes: Set<UInt64> = []
        for name in names {
            if let namespace = try? NetworkNamespace.open(named: name) { inodes.insert(namespace.inode) }
        }
        // A name may be mounted over by anyone; a mistake here would end the machine's own processes.
        inodes.remove(try NetworkNamespace.current().inode)
        if let first = try? NetworkNamespace.of(process: 1) { inodes.remove(first.inode) }
        namespaces = inodes
    }

    /// Those that run now.
    func list() throws(KernelError) -> [ProcessIdentity] {
        guard !namespaces.isEmpty else { return [] }
        let own = ProcessIdentity.current.pid
        return try StateDirectory.open("/proc", create: false).entries().compactMap { entry in
            guard let pid = Int32(entry), pid != own else { return nil }
            return member(pid)
        }
    }

    /// The process of this number where it lives in one of the namespaces.
    func member(_ pid: Int32) -> ProcessIdentity? {
        // Its identity first: should the number change hands in between, the signal will be refused.
        guard let process = ProcessIdentity(pid: pid), let namespace = try? NetworkNamespace.of(process: pid),
            namespaces.contains(namespace.inode)
        else { return nil }
        return process
    }

    /// Ends them all, and those they start meanwhile, and returns what is left after that.
    func end() throws(KernelError) -> [ProcessIdentity] {
        var processes = try list()
        for round in 0..<5 where !processes.isEmpty {
            try processes.end(grace: round == 0 ? .milliseconds(500) : .zero)
            processes = try list()
        }
        return processes
    }
}

extension [ProcessIdentity] {
    /// Asks the processes to end, and ends those that have not after the grace.
    func end(grace: Duration) throws(KernelError) {
        if grace > .zero {
            for process in self { try process.signal(.terminate) }
        }
        let deadline = ContinuousClock.now + grace
        for process in self where !process.waitForEnd(timeout: Swift.max(.zero, deadline - .now)) {
            try process.signal(.kill)
        }
        for process in self { _ = process.waitForEnd(timeout: .seconds(5)) }
    }
}
