import KubernetesObjects
import NetlinkWire
import NetworkAddresses
import Nftables
import PacketPath
import RouteNetlink

/// A network namespace that is nothing but values: routes are looked up, rules look into their own sets.
struct LiteralView: NamespaceView {
    var allLinks: [Link] = []
    var allAddresses: [InterfaceAddress] = []
    var routes: [Route] = []
    var neighbors: [Neighbor] = []
    var entries: [ForwardingEntry] = []
    var tables: [Ruleset] = []
    var settings: [String: String] = [:]
    var sockets: [TransportProtocol: [ListeningSocket]] = [:]
    /// What the kernel says of a packet that came by the link, where it does not say what the routes do.
    var refusals: [Int32: String] = [:]

    func links() -> [Link] { allLinks }
    func addresses() -> [InterfaceAddress] { allAddresses }

    func decide(
        to destination: IPAddress, from source: IPAddress?, arrivingOn link: Int32?, mark: UInt32
    ) -> RouteDecision {
        if let own = allAddresses.first(where: { $0.prefix.address == destination }) {
            return RouteDecision(
                kind: .local, link: own.link, gateway: nil, source: nil, matched: destination.hostPrefix)
        }
        if let link, let why = refusals[link] {
            return RouteDecision(kind: .refused(why), link: 0, gateway: nil, source: nil, matched: nil)
        }
        guard
            let route = routes.filter({ $0.destination.contains(destination) })
                .max(by: { $0.destination.length < $1.destination.length })
        else { return RouteDecision(kind: .refused("no route"), link: 0, gateway: nil, source: nil, matched: nil) }
        return RouteDecision(
            kind: .unicast, link: route.link, gateway: route.gateway, source: nil, matched: route.destination)
    }

    func neighbor(_ address: IPAddress, on link: Int32) -> Neighbor? {
        neighbors.first { $0.address == address && $0.link == link }
    }

    func forwardingEntries(of link: Int32) -> [ForwardingEntry] { entries.filter { $0.link == link } }
    func rulesets() -> [Ruleset] { tables }
    func element(_ key: ElementKey, of set: String, in table: TableName) -> Element? {
        RulesetElements(tables).element(key, of: set, in: table)
    }
    func generation() -> UInt32 { 118 }
    func setting(_ path: [String]) -> String? { settings[path.joined(separator: "/")] }
    func listeners(_ transport: TransportProtocol) -> [ListeningSocket] { sockets[transport] ?? [] }
}

struct Missing: Error, CustomStringConvertible {
    var description = "no such network namespace"
}

struct LiteralCluster: PathCluster {
    var nodes: [String] = []
    var pods: [RunningPod] = []
    var objects = ClusterSnapshot()
    var views: [Place: LiteralView] = [:]

    func view(of place: Place) throws -> any NamespaceView {
        guard let view = views[place] else { throw Missing() }
        return view
    }

    /// Edits one place, to break something.
    mutating func edit(_ place: Place, _ body: (inout LiteralView) -> Void) { body(&views[place]!) }
}

extension NamespacedName {
    init(_ text: String) {
        let parts = text.split(separator: "/").map(String.init)
        self.init(namespace: parts[0], name: parts[1])
    }
}

extension Place {
    static func pod(_ text: String, _ node: String) -> Place { .pod(NamespacedName(text), node: node) }
}

func mac(_ text: String) -> MACAddress { MACAddress(text)! }
func link(
    _ index: Int32, _ name: String, _ kind: Link.Kind, _ address: String? = nil, mtu: Int = 1450, peer: Int32? = nil
) -> Link {
    Link(index: index, name: InterfaceName(name)!, kind: kind, mac: address.map(mac), mtu: mtu, peerIndex: peer)
}
