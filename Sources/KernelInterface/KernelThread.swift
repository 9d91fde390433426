internal import Glibc

/// A thread of its own for an actor that talks to the kernel.
///
/// Netlink calls block, and a blocked thread of Swift's shared pool is one that nobody else can use. An actor whose
/// `unownedExecutor` is one of these blocks only itself.
// Sendable: `jobs` is only touched with `mutex` held; the two pthread objects never move.
public final class KernelThread: SerialExecutor, @unchecked Sendable {
    private var jobs: [UnownedJob] = []
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// Starts the thread. It runs until the process ends: an executor must outlive every job it may be given.
    public init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(wake, nil)
        var thread = pthread_t()
        let start = Unmanaged.passRetained(self).toOpaque()
        let status = pthread_create(&thread, nil, { context in
            Unmanaged<KernelThread>.fromOpaque(context!).takeRetainedValue().run()
            return nil
        }, start)
        precondition(status == 0, "cannot start a thread: error \(status)")
        pthread_detach(thread)
    }

    /// What an actor returns as its `unownedExecutor`; the actor keeps the thread.
    @safe public var executor: UnownedSerialExecutor { asUnownedSerialExecutor() }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        pthread_mutex_lock(mutex)
        jobs.append(job)
        pthread_cond_signal(wake)
        pthread_mutex_unlock(mutex)
    }

    private func run() {
        while true {
            pthread_mutex_lock(mutex)
            while jobs.isEmpty { pthread_cond_wait(wake, mutex) }
            let ready = jobs
            jobs = []
            pthread_mutex_unlock(mutex)
            for job in ready { job.runSynchronously(on: asUnownedSerialExecutor()) }
        }
    }
}
