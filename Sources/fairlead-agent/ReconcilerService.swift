import KubernetesObjects
import Logging
import Reconciliation
import ServiceLifecycle

/// Takes events out of the mailbox, has them carried out, and reports.
struct ReconcilerService: ServiceLifecycle.Service {
    let reconciler: NodeReconciler
    let mailbox: Mailbox
    let status: StatusFile
    let logger: Logger

    func run() async throws {
        var known: Set<Note> = []
        for await _ in mailbox.bell.cancelOnGracefulShutdown() {
            let report = await reconciler.apply(mailbox.takeAll())
            let notes = Set(report.notes)
            for note in report.notes where !known.contains(note) {
                logger.warning("\(note)")
            }
            known = notes
            status.write(report, logger: logger)
            if !report.errors.isEmpty { retryLater() }
        }
    }

    private func retryLater() {
        let mailbox = mailbox
        // The bell rings once more in a second; a pass in between makes it a cheap one.
        Task {
            try? await Task.sleep(for: .seconds(1))
            mailbox.wake()
        }
    }
}
