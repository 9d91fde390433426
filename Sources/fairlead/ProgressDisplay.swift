import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import Synchronization

/// Shows a command's progress on standard error: one line per phase, which counts up where it is a terminal.
final class ProgressDisplay: Sendable {
    private struct State {
        var phase = ""
        var started = ContinuousClock.now
        /// Whether the line at the bottom is one that will be written over.
        var lineIsOpen = false
        var hasErrors = false
    }

    private let state = Mutex(State())
    private let isTerminal = isatty(2) == 1

    /// Whether anything was reported that is not in force as it was written.
    var hasErrors: Bool { state.withLock(\.hasErrors) }

    func show(_ event: LabEvent) {
        state.withLock { state in
            switch event {
            case .progress(let phase, let done, let total): show(phase, done, of: total, &state)
            case .note(let note):
                close(&state)
                let isError = note.severity == .error
                state.hasErrors = state.hasErrors || isError
                write("\(isError ? "error" : "note"): \(note)\n")
            case .message(let text):
                close(&state)
                write("\(text)\n")
            }
        }
    }

    func finish() {
        state.withLock { close(&$0) }
    }

    private func show(_ phase: String, _ done: Int, of total: Int, _ state: inout State) {
        if state.phase != phase {
            close(&state)
            state.phase = phase
            state.started = .now
        }
        let isDone = done == total
        guard isTerminal || isDone else { return }
        let time = isDone ? "  \(Self.seconds(ContinuousClock.now - state.started))" : ""
        // Erases what was there: a shorter line would leave the end of the longer one.
        write("\(isTerminal ? "\r\u{1b}[K" : "")\(phase): \(done)/\(total)\(time)")
        state.lineIsOpen = true
        if isDone {
            close(&state)
            state.phase = ""
        }
    }

    private func close(_ state: inout State) {
        if state.lineIsOpen { write("\n") }
        state.lineIsOpen = false
    }

    private func write(_ text: String) {
        // Nobody is left to tell where standard error is closed.
        try? StandardStreams.writeError(text)
    }

    /// The time in seconds, as in `0.4 s`.
    private static func seconds(_ duration: Duration) -> String {
        let tenths = (duration.components.seconds * 10) + duration.components.attoseconds / 100_000_000_000_000_000
        return "\(tenths / 10).\(tenths % 10) s"
    }
}
