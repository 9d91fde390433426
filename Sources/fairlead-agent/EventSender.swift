import KubernetesClient
import KubernetesObjects
import Logging
import NodeDuties
import ServiceLifecycle
import Synchronization

/// Makes Event objects of news, as far as the ledger allows; nobody waits for them.
final class EventSender: ServiceLifecycle.Service {
    private let writer: ObjectWriter?
    private let ledger: Mutex<EventLedger>
    /// With a budget of their own, so that a crowd of unusable objects leaves room for the node's own troubles.
    private let noteLedger: Mutex<EventLedger>
    private let queue: AsyncStream<(path: String, body: FieldValue)>
    private let queued: AsyncStream<(path: String, body: FieldValue)>.Continuation
    private let logger: Logger

    /// - Parameter writer: Nil where there is no API server: then nobody is told.
    init(nodeName: String, writer: ObjectWriter?, logger: Logger) {
        self.writer = writer
        self.logger = logger
        // kube-proxy's name, by which people look for its events.
        ledger = Mutex(EventLedger(controller: "kube-proxy", nodeName: nodeName))
        noteLedger = Mutex(EventLedger(controller: "fairlead-agent", nodeName: nodeName))
        (queue, queued) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(100))
    }

    func tell(_ news: ObjectNews) {
        guard writer != nil, let event = ledger.withLock({ $0.event(for: news, at: .now) }) else { return }
        queued.yield(event)
    }

    /// Tells the people who look at an object what is wrong with it.
    ///
    /// - Parameter uid: The object's, where it is known.
    func tell(_ note: Note, uid: String) {
        guard writer != nil, note.severity == .error, let object = note.object, !object.kind.apiVersion.isEmpty else {
            return
        }
        let news = ObjectNews(
            .warning, object, uid: uid, reason: "Unusable", action: "Program",
            note: note.field.isEmpty ? note.message : "\(note.field): \(note.message)")
        guard let event = noteLedger.withLock({ $0.event(for: news, at: .now) }) else { return }
        queued.yield(event)
    }

    func run() async throws {
        for await event in queue.cancelOnGracefulShutdown() {
            if let failure = await writer?.create(event.body, in: event.path) {
                logger.debug("An Event was not created", metadata: ["path": "\(event.path)", "error": "\(failure)"])
            }
        }
    }
}
