import CNIProtocol
import Synchronization

/// Where the time of an ADD goes, for who sets `FAIRLEAD_CNI_TIMES` in the plugin's environment.
///
/// It is told of each step as a test's interruption is, so that it costs nothing where nobody asks.
final class StepTimes: Sendable {
    private let moments = Mutex<[(step: String, at: ContinuousClock.Instant)]>([])

    static func asked(in environment: [String: String]) -> StepTimes? {
        environment["FAIRLEAD_CNI_TIMES"] == nil ? nil : StepTimes()
    }

    func begin(_ step: String) { moments.withLock { $0.append((step, .now)) } }

    /// One line for each step: its microseconds and what it was.
    func text(until end: ContinuousClock.Instant = .now) -> String {
        moments.withLock { moments in
            var text = ""
            for (index, moment) in moments.enumerated() {
                let next = index + 1 < moments.count ? moments[index + 1].at : end
                text += "\(Int64((next - moment.at) / .microseconds(1))) us  \(moment.step)\n"
            }
            return text
        }
    }
}

extension Plugin {
    /// The plugin with `times` told of its steps; plugins without steps are as they are.
    func timed(by times: StepTimes) -> any Plugin {
        let interruption: AttachmentExecutor.Interruption = { step throws(CNIError) in times.begin(step) }
        switch self {
        case var plugin as FairleadPlugin:
            plugin.interruption = interruption
            return plugin
        case var plugin as BridgePlugin:
            plugin.interruption = interruption
            return plugin
        case var plugin as PointToPointPlugin:
            plugin.interruption = interruption
            return plugin
        default: return self
        }
    }
}
