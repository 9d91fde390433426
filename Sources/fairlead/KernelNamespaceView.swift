import KernelInterface
import NetlinkWire
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink

/// A network namespace as its kernel answers for it: sockets opened in it, and what was asked once is remembered.
///
/// A trace asks the same things again for each backend; within the moment that a trace takes they are one answer.
final class KernelNamespaceView: NamespaceView {
    private let namespace: NetworkNamespace
    private let routes: RouteSocket
    private let nftables: NftablesSocket

    private var knownLinks: [Link]?
    private var knownAddresses: [InterfaceAddress]?
    private var knownNeighbors: [Neighbor]?
    private var knownEntries: [Int32: [ForwardingEntry]] = [:]
    private var knownRulesets: (rulesets: [Ruleset], generation: UInt32)?
    private var knownElements: [ElementQuestion: Element?] = [:]
    private var knownListeners: [TransportProtocol: [ListeningSocket]] = [:]

    private struct ElementQuestion: Hashable {
        var table: TableName
        var set: String
        var key: ElementKey
    }

    private init(
        _ namespace: consuming NetworkNamespace, _ routes: consuming RouteSocket, _ nftables: consuming NftablesSocket
    ) {
        self.namespace = namespace
        self.routes = routes
        self.nftables = nftables
    }

    static func open(_ namespace: consuming NetworkNamespace) throws(KernelError) -> KernelNamespaceView {
        let routes = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let nftables = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        return KernelNamespaceView(namespace, routes, nftables)
    }

    func links() throws -> [Link] { try remember(&knownLinks) { try routes.links() } }

    func addresses() throws -> [InterfaceAddress] { try remember(&knownAddresses) { try routes.addresses() } }

    func decide(
        to destination: IPAddress, from source: IPAddress?, arrivingOn link: Int32?, mark: UInt32
    ) throws -> RouteDecision {
        try routes.decide(to: destination, from: source, arrivingOn: link, mark: mark == 0 ? nil : mark)
    }

    func neighbor(_ address: IPAddress, on link: Int32) throws -> Neighbor? {
        try remember(&knownNeighbors) { try routes.neighbors() }.first { $0.address == address && $0.link == link }
    }

    func forwardingEntries(of link: Int32) throws -> [ForwardingEntry] {
        try remember(&knownEntries[link]) { try routes.forwardingEntries(link: link) }
    }

    func rulesets() throws -> [Ruleset] { try ruleset().rulesets }
    func generation() throws -> UInt32 { try ruleset().generation }

    /// All tables, as they were at one moment: read again where somebody changed them meanwhile.
    private func ruleset() throws -> (rulesets: [Ruleset], generation: UInt32) {
        if let knownRulesets { return knownRulesets }
        var generation = try nftables.generation()
        for _ in 0..<8 {
            let rulesets = try nftables.tables().compactMap { try nftables.observe($0, elements: false) }
            let now = try nftables.generation()
            if now == generation {
                knownRulesets = (rulesets, now)
                return (rulesets, now)
            }
            generation = now
        }
        throw TraceError("the ruleset changed during each of 8 attempts to read it; try again when it is quiet")
    }

    func element(_ key: ElementKey, of set: String, in table: TableName) throws -> Element? {
        let question = ElementQuestion(table: table, set: set, key: key)
        if let known = knownElements[question] { return known }
        let element = try nftables.element(key, of: set, in: table)
        knownElements[question] = .some(element)
        return element
    }

    func setting(_ path: [String]) throws -> String? {
        try namespace.withEntered { () throws(KernelError) in try KernelSetting.read(path) }
    }

    func listeners(_ transport: TransportProtocol) throws -> [ListeningSocket] {
        try remember(&knownListeners[transport]) {
            try namespace.withEntered { () throws(KernelError) in try ListeningSockets.list(transport) }
        }
    }

    private func remember<Value>(_ known: inout Value?, _ ask: () throws -> Value) throws -> Value {
        if let known { return known }
        let value = try ask()
        known = value
        return value
    }
}
