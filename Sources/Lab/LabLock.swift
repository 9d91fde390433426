import Glibc
import KernelInterface
import SystemPackage

/// The right to change a lab, held by one command at a time.
///
/// The lock's file lies in the lab's folder and goes with it. So that nobody waits at a file that is gone while another
/// makes the next one, taking the lock and removing the folder both happen under a second lock, which is common to all
/// labs and never held for longer than that.
///
/// A class, so that the lock is held as long as anyone still works under it.
final class LabLock: Sendable {
    private let held: FileLock

    private init(_ held: consuming FileLock) { self.held = held }

    /// Takes the lock; nil where there is no such lab and none is to be made.
    ///
    /// - Parameter create: Whether to make the lab's folder where it is missing.
    /// - Parameter waiting: Called once when another command holds the lock.
    static func take(
        _ folder: LabFolder, create: Bool, timeout: Duration = .seconds(120), waiting: () -> Void
    ) throws -> LabLock? {
        let deadline = ContinuousClock.now + timeout
        var hasSaidSo = false
        while true {
            do {
                return try take(folder, create: create)
            } catch {
                guard error.errno == .timedOut else { throw error }
                guard ContinuousClock.now < deadline else {
                    throw LabError("another command is at work on lab \(folder.name)", advice: "Wait for it to end.")
                }
            }
            if !hasSaidSo { waiting() }
            hasSaidSo = true
            usleep(50_000)
        }
    }

    private static func take(_ folder: LabFolder, create: Bool) throws(KernelError) -> LabLock? {
        let root = try StateDirectory.open(folder.root, create: true)
        let gate = try root.lock(gateName, timeout: .seconds(10))
        if !create, try folder.open("") == nil { return nil }
        let lock = try root.subdirectory(folder.name.description, create: true).lock(".lock", timeout: .zero)
        _ = consume gate
        return LabLock(lock)
    }

    /// Removes the lab's folder, the lock's file with it.
    func release(removing folder: LabFolder) throws(KernelError) {
        let root = try StateDirectory.open(folder.root, create: true)
        let gate = try root.lock(Self.gateName, timeout: .seconds(10))
        try root.removeSubdirectory(folder.name.description)
        _ = consume gate
    }

    private static let gateName = ".lock"
}
