import CLinux
import Glibc
import SystemPackage

/// What ends a loop that waits on descriptors: another thread's word, or a signal to the process.
public struct StopSignal: ~Copyable, Sendable {
    let descriptor: Descriptor

    private init(owning descriptor: consuming Descriptor) { self.descriptor = descriptor }

    /// A signal for `send`.
    public static func open() throws(KernelError) -> StopSignal {
        StopSignal(owning: Descriptor(owning: try systemCall("open stop signal") { fairlead_eventfd() }))
    }

    /// A signal that is given when the process receives `SIGTERM` or `SIGINT`, which no longer end it by themselves.
    ///
    /// Call it before other threads start: it is the calling thread that stops receiving them, and those it starts.
    public static func onTermination() throws(KernelError) -> StopSignal {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        // The C library copies the set.
        let raw = try systemCall("open stop signal") { fairlead_signalfd(&signals) }
        return StopSignal(owning: Descriptor(owning: raw))
    }

    /// Gives the signal; it stays given.
    public func send() { fairlead_eventfd_write(descriptor.rawValue) }
}
