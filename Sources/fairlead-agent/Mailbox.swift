import Reconciliation
import Synchronization

/// What happened since it was last emptied.
///
/// Sources put events in; one reader takes all of them at once. While the reader is busy events gather, so a burst
/// becomes one pass, and with nothing going on an event is dealt with at once.
final class Mailbox: Sendable {
    private let events = Mutex<[NodeEvent]>([])
    /// Rings when the mailbox may hold something. One ring stands for any number of events.
    let bell: AsyncStream<Void>
    private let ring: AsyncStream<Void>.Continuation

    init() {
        (bell, ring) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func post(_ event: NodeEvent) {
        events.withLock { events in
            switch event {
            // State, not news: the last one says it all.
            case .attachments: events.removeAll { if case .attachments = $0 { true } else { false } }
            case .kernelChanged: events.removeAll { if case .kernelChanged = $0 { true } else { false } }
            case .addressesChanged: events.removeAll { if case .addressesChanged = $0 { true } else { false } }
            case .objects, .rulesetChanged: break
            }
            events.append(event)
        }
        ring.yield()
    }

    /// Wakes the reader without an event: to try again.
    func wake() { ring.yield() }

    func takeAll() -> [NodeEvent] {
        events.withLock { events in
            defer { events = [] }
            return events
        }
    }
}
