import Dispatch
public import KubernetesObjects
import Synchronization

/// What a command that changes a lab tells while it works.
public enum LabEvent: Sendable {
    /// So much of a phase is done; the last of a phase has `done == total`, unless the phase fails.
    case progress(phase: String, done: Int, total: Int)
    /// Something about an object that was given.
    case note(Note)
    /// Something else a person should know.
    case message(String)
}

/// Whether a person has asked the running command to stop.
///
/// Commands look between their steps and not within, so that every step is either done or not.
public final class Interruption: Sendable {
    private let requested = Atomic(false)

    public init() {}

    public func request() { requested.store(true, ordering: .relaxed) }

    public var isRequested: Bool { requested.load(ordering: .relaxed) }

    func check() throws(LabError) {
        if isRequested { throw .interrupted }
    }
}

extension LabError {
    /// The command stopped because a person asked it to.
    public static let interrupted = LabError("interrupted")
}

/// Does the same to many things, a few at a time, and says how many are done.
///
/// Threads and not tasks: what is done here waits for programs and the kernel.
struct Workers: Sendable {
    /// Attaching a pod is waiting for a program half of the time.
    var count = 4
    var interruption: Interruption
    var report: @Sendable (LabEvent) -> Void

    /// Runs `body` on every item; when asked to stop, on those only that have begun.
    func run<Item: Sendable>(_ phase: String, _ items: [Item], _ body: @escaping @Sendable (Item) -> Void) {
        guard !items.isEmpty else { return }
        let position = Mutex((next: 0, done: 0))
        let group = DispatchGroup()
        report(.progress(phase: phase, done: 0, total: items.count))
        for worker in 0..<min(count, items.count) {
            // A queue of its own is a thread of its own, however few the machine's cores are.
            DispatchQueue(label: "lab.worker.\(worker)").async(group: group) {
                while !interruption.isRequested {
                    let index = position.withLock { position in
                        defer { position.next += 1 }
                        return position.next
                    }
                    guard index < items.count else { return }
                    body(items[index])
                    // Reported under the lock, so that the numbers arrive in order.
                    position.withLock { position in
                        position.done += 1
                        report(.progress(phase: phase, done: position.done, total: items.count))
                    }
                }
            }
        }
        group.wait()
    }
}

/// What several threads have come up with.
final class Collected<Value: Sendable>: Sendable {
    private let storage: Mutex<[Value]>

    init(_ values: [Value]) { storage = Mutex(values) }

    var values: [Value] { storage.withLock { $0 } }

    func append(_ value: Value) { storage.withLock { $0.append(value) } }

    func removeAll() { storage.withLock { $0 = [] } }
}
