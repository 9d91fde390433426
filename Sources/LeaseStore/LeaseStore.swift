internal import AddressAllocation
internal import KernelInterface
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

    /// The folder of our own files among the leases. Its name hides it from a person, and host-local, which reads every
    /// file beneath the network's folder, finds no owner in them.
    static let bookkeepingName = ".fairlead"

    /// No work on the store takes a tenth of this.
    private static let lockTimeout = Duration.seconds(20)

    private init(directory: consuming StateDirectory) { self.directory = directory }

    /// Opens the store of a network, made when missing.
    public static func open(_ dataDirectory: String, network: String) throws(LeaseError) -> LeaseStore {
        do {
            let parent = try StateDirectory.open(dataDirectory, create: true)
            return LeaseStore(directory: try parent.subdirectory(network, create: true))
        } catch {
            throw .inputOutput(error)
        }
    }

    /// Opens the store of a network; nil where the network has none, and so no leases.
    public static func openExisting(_ dataDirectory: String, network: String) throws(LeaseError) -> LeaseStore? {
        do {
            let parent = try StateDirectory.open(dataDirectory, create: false)
            return LeaseStore(directory: try parent.subdirectory(network, create: false))
        } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
            return nil
        } catch {
            throw .inputOutput(error)
        }
    }

    /// Runs `body` under the lock with an index that is complete, and notes that it still is.
    func withLock<Result>(_ body: (borrowing LeaseIndex) throws -> Result) throws(LeaseError) -> Result {
        do {
            let lock = try directory.lock("lock", timeout: Self.lockTimeout)
            let index = try LeaseIndex.open(in: directory)
            let result = try body(index)
            try index.noteComplete(for: directory)
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

    /// What the file of an address says; nil where there is no file, or nothing in it.
    func content(_ address: IPAddress) throws(KernelError) -> LeaseFile? {
        try directory.read(address.description, limit: LeaseFile.sizeLimit).flatMap { LeaseFile(parsing: $0) }
    }

    /// The addresses that are leased to an owner by the leases' own word.
    func addresses(of owner: LeaseFile, in index: borrowing LeaseIndex) throws(KernelError) -> [IPAddress] {
        var held: [IPAddress] = []
        for address in try index.addresses(of: owner) where try content(address) == owner { held.append(address) }
        return held
    }
}
