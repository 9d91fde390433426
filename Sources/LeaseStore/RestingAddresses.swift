internal import AddressAllocation
internal import KernelInterface
internal import NetworkAddresses
internal import SystemPackage

/// The addresses that were freed a short while ago, and when.
///
/// One link per address, which holds the time, in a folder per period of the cool-down's length. An address rests only
/// if it is in this period's folder or the last one's; older folders are dropped whole, so that a pool as large as
/// IPv6's does not collect files.
struct RestingAddresses: ~Copyable {
    private let files: StateDirectory
    private let coolDown: CoolDown
    /// The time since boot.
    private let now: Duration

    /// Nil where freed addresses do not rest.
    static func open(
        in directory: borrowing StateDirectory, coolDown: CoolDown, now: Duration
    ) throws(KernelError) -> RestingAddresses? {
        guard coolDown.rest > .zero else { return nil }
        let bookkeeping = try directory.subdirectory(LeaseStore.bookkeepingName, create: true, mode: 0o700)
        return RestingAddresses(
            files: try bookkeeping.subdirectory("resting", create: true, mode: 0o700), coolDown: coolDown, now: now)
    }

    private init(files: consuming StateDirectory, coolDown: CoolDown, now: Duration) {
        self.files = files
        self.coolDown = coolDown
        self.now = now
    }

    private var period: Int64 { now.components.seconds / max(coolDown.rest.components.seconds, 1) }

    /// Remembers that an address was freed now.
    func add(_ address: IPAddress) throws(KernelError) {
        let current = String(period)
        do throws(KernelError) {
            try add(address, in: files.subdirectory(current, create: false))
        } catch where error.errno == .noSuchFileOrDirectory {
            // A new period: what is older than the last one is over.
            let recent: Set = [current, String(period - 1)]
            for name in try files.entries() where !recent.contains(name) { try files.removeSubdirectory(name) }
            try add(address, in: files.subdirectory(current, create: true, mode: 0o700))
        }
    }

    private func add(_ address: IPAddress, in period: borrowing StateDirectory) throws(KernelError) {
        let name = address.description
        // Freed twice in one period; a process that is killed here leaves an address that does not rest.
        try period.remove(name)
        try period.makeLink(name, String(Int64(now / .milliseconds(1))))
    }

    /// When the address was freed, where it rests still.
    func freed(_ address: IPAddress) throws(KernelError) -> Duration? {
        for name in [String(period), String(period - 1)] {
            let content: String?
            do {
                content = try files.subdirectory(name, create: false).linkContent(address.description)
            } catch where error.errno == .noSuchFileOrDirectory {
                continue
            }
            guard let content, let milliseconds = Int64(content) else { continue }
            let freed = Duration.milliseconds(milliseconds)
            if coolDown.isResting(freed: freed, now: now) { return freed }
        }
        return nil
    }
}
