import ArgumentParser
import Dispatch
import Lab
import UnixSignals

/// Work that a person may stop with Ctrl-C, between its steps.
enum InterruptibleWork {
    /// Runs `body` on a thread of its own, with a display for what it reports; ends the program with 1 where an object
    /// was not taken as it was written.
    static func run(_ body: @escaping @Sendable (Interruption, ProgressDisplay) throws -> Void) async throws {
        let interruption = Interruption()
        let display = ProgressDisplay()
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm, .sighup)
        let watching = Task {
            for await _ in signals {
                if !interruption.isRequested { display.show(.message("Stopping after the step that is under way …")) }
                interruption.request()
            }
        }
        defer { watching.cancel() }
        do {
            // Not on a thread of the shared pool: there may be only one, and the signals have to be heard.
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                DispatchQueue(label: "fairlead.work").async {
                    continuation.resume(with: Result { try body(interruption, display) })
                }
            }
        } catch let error as LabError where error == .interrupted {
            display.finish()
            throw ExitCode(130)
        } catch {
            display.finish()
            throw error
        }
        display.finish()
        if display.hasErrors { throw ExitCode.failure }
    }
}
