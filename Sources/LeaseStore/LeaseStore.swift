internal import AddressAllocation
public import KernelInterface
internal import NetworkAddresses
internal import SystemPackage

/// The leases of one network on disk, in host-local's layout: `<data folder>/<network>/<address>`.
///
/// A lease is one file that appears with its whole content or not at all, so that a process killed at any instruction
/// leaves a whole lease or none. There is no wait for the disk: the attachments of a machine that lost its power are
/// gone with it, and an empty file that such a moment left counts as no lease. Every change is made under host-local's
/// lock.
public struct LeaseStore: ~Copyable {
    let directory: StateDirectory
    /// The boot that leases are good for; nil where they are as good after a reboot as before, for containers that come
    /// back with their addresses.
    let boot: Boot?
    let lockTimeout: Duration

    /// The folder of our own files among the leases. Its name hides it from a person, and host-local, which reads every
    /// file beneath the network's folder, finds no owner in them.
    static let bookkeepingName = ".fairlead"

    /// No work on the store takes a tenth of this, but for the first look at a folder of some 100,000 leases.
    public static let standardLockTimeout = Duration.seconds(20)

    /// Opens the store of a network, made when missing.
    ///
    /// - Parameter boot: The running one; nil where the leases of an earlier boot are as good as others, and new ones
    ///   must be safely on disk.
    /// - Parameter lockTimeout: How long to wait for another process.
    public static func open(
        _ dataDirectory: String, network: String, boot: Boot? = .current, lockTimeout: Duration = standardLockTimeout
    ) throws(LeaseError) -> LeaseStore {
        do {
            let parent = try StateDirectory.open(dataDirectory, create: true)
            return LeaseStore(
                directory: try parent.subdirectory(network, create: true), boot: boot,
                lockTimeout: lockTimeout)
        } catch {
            throw .inputOutput(error)
        }
    }

    /// Opens the store of a network; nil where the network has none, and so no leases.
    public static func openExisting(
        _ dataDirectory: String, network: String, boot: Boot? = .current, lockTimeout: Duration = standardLockTimeout
    ) throws(LeaseError) -> LeaseStore? {
        do {
            let parent = try StateDirectory.open(dataDirectory, create: false)
            return LeaseStore(
                directory: try parent.subdirectory(network, create: false), boot: boot,
                lockTimeout: lockTimeout)
        } catch where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
            return nil
        } catch {
            throw .inputOutput(error)
        }
    }

    /// Runs `body`, which either succeeds or leaves everything as it was, under the lock with an index that is complete,
    /// and notes that it still is.
    func withLock<Result>(_ body: (borrowing LeaseIndex) throws -> Result) throws(LeaseError) -> Result {
        try locked {
            do {
                return try withIndex(body)
            } catch let error as KernelError where LeaseIndex.obstacles.contains(error.errno) {
                // Somebody's file where a folder of ours should be, or the like. All that the bookkeeping knows is in the
                // leases as well, but for which addresses rest and which leases are of an earlier boot.
                try directory.removeAll(Self.bookkeepingName)
                return try withIndex(body)
            }
        }
    }

    private func withIndex<Result>(_ body: (borrowing LeaseIndex) throws -> Result) throws -> Result {
        let index = try LeaseIndex.open(in: self)
        let result = try body(index)
        // Where that fails, for want of space, the next process makes the index again.
        try? index.noteComplete(for: directory)
        return result
    }

    /// Runs `body` under the lock.
    func locked<Result>(_ body: () throws -> Result) throws(LeaseError) -> Result {
        do {
            let lock = try directory.lock("lock", timeout: lockTimeout)
            let result = try body()
            _ = consume lock
            return result
        } catch let error as LeaseError {
            throw error
        } catch let error as KernelError where error.errno == .timedOut {
            throw .busy("the leases in \(directory.path) are locked by another process")
        } catch let error as KernelError {
            throw .inputOutput(error)
        } catch {
            preconditionFailure("only LeaseError and KernelError are thrown above")
        }
    }

    /// The time since boot, which a stopped clock or a time server cannot turn back.
    public static var now: Duration { ContinuousClock().systemEpoch.duration(to: ContinuousClock.now) }

    // MARK: - Single leases

    /// What there is under the name of an address.
    func state(of address: IPAddress) throws(KernelError) -> LeaseState {
        do throws(KernelError) {
            guard let bytes = try directory.read(address.description, limit: LeaseFile.sizeLimit) else { return .free }
            return LeaseFile(parsing: bytes).map(LeaseState.leased) ?? .abandoned
        } catch where LeaseState.obstacles.contains(error.errno) {
            return .unreadable
        }
    }

    /// Who has an address by its lease's own word; nil where nobody is known to have it.
    func holder(of address: IPAddress) throws(KernelError) -> LeaseFile? {
        if case .leased(let file) = try state(of: address) { file } else { nil }
    }

    /// The addresses that are leased to an owner by the leases' own word.
    func addresses(of owner: LeaseFile, in index: borrowing LeaseIndex) throws(KernelError) -> [IPAddress] {
        var held: [IPAddress] = []
        for address in try index.addresses(of: owner) where try holder(of: address) == owner { held.append(address) }
        return held
    }

    /// Whether a lease was made before this boot, by the clock as it is set now.
    func isOlderThanBoot(_ address: IPAddress) throws(KernelError) -> Bool {
        guard let boot else { return false }
        return try directory.changeTime(of: address.description).map { $0 < boot.time } ?? false
    }
}
