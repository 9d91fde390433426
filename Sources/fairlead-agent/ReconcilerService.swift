import KubernetesObjects
import Logging
import Reconciliation
import ServiceLifecycle

/// Takes events out of the mailbox, has them carried out, and reports.
struct ReconcilerService: ServiceLifecycle.Service {
    let reconciler: NodeReconciler
    let mailbox: Mailbox
    let status: StatusFile
    /// Nil where somebody else configures the container runtime.
    let plugins: PluginConfigurationWriter?
    let state: DutyState
    let ports: HealthCheckPorts
    let events: EventSender
    let logger: Logger

    func run() async throws {
        var known: Set<Note> = []
        var retry: Task<Void, Never>?
        var window = CoalescingWindow()
        var status = status
        for await _ in mailbox.bell.cancelOnGracefulShutdown() {
            // This pass tries again whatever the last one could not do.
            retry?.cancel()
            let pause = window.pause(at: .now)
            if pause > .zero { try? await Task.sleep(for: pause) }
            let happened = mailbox.takeAll()
            let movesPorts = state.taken(happened)
            let report = await reconciler.apply(happened)
            window.passed(at: .now)
            state.reported(report)
            if movesPorts { ports.changed() }
            let notes = Set(report.notes)
            let news = report.notes.filter { !known.contains($0) }
            for note in news { logger.warning("\(note)") }
            // More at a time would exceed any budget.
            for note in news.prefix(20) {
                if let object = note.object, state.speaks(of: object) {
                    events.tell(note, uid: uid(of: object, in: happened))
                }
            }
            known = notes
            // Before the status: who reads there that the overlay is ready finds the configuration.
            plugins?.reported(report)
            status.write(report, logger: logger)
            retry = report.retryAfter.map { wake(after: $0) }
        }
    }

    /// The uid of an object that just came in, by which `kubectl describe` finds its Events; empty for any other.
    private func uid(of object: ObjectReference, in events: [NodeEvent]) -> String {
        for case .objects(let changes, _, _) in events.reversed() {
            for case .set(let candidate) in changes.reversed() where candidate.metadata.name == object.name {
                if candidate.reference == object { return candidate.metadata.uid }
            }
        }
        return ""
    }

    /// Rings after a while, unless cancelled.
    private func wake(after delay: Duration) -> Task<Void, Never> {
        let mailbox = mailbox
        return Task {
            if (try? await Task.sleep(for: delay)) != nil { mailbox.wake() }
        }
    }
}
