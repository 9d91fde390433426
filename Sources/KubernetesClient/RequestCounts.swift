import Synchronization

/// How requests to API servers ended: what monitoring knows of an agent that loses its server.
public final class RequestCounts: Sendable {
    /// Requests that are counted together.
    public struct Kind: Hashable, Sendable {
        public var method: String
        /// The server, with its port.
        public var host: String
        /// The answer's status, or `<error>` where there was none, as Go clients say it.
        public var code: String
    }

    private let counts = Mutex<[Kind: Int]>([:])

    public init() {}

    /// As they are now.
    public var current: [Kind: Int] { counts.withLock { $0 } }

    func count(_ kind: Kind) { counts.withLock { $0[kind, default: 0] += 1 } }
}
