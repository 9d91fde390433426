import Foundation
import Glibc
import KernelInterface
import KubernetesObjects
import Lab
import NetworkAddresses
import RouteNetlink
import Synchronization
import Testing

/// A pod on each node.
private let pods = (1...3).map { number in
    """
    apiVersion: v1
    kind: Pod
    metadata: {name: p\(number), namespace: net}
    spec: {nodeName: node-\(number), containers: [{name: web, ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]}]}
    """
}.joined(separator: "\n---\n")

/// One node as the other nodes' agents should see it.
private struct Seen {
    var node: String
    var address: String
    var podCIDRs: [String]

    init(_ number: Int, address: String? = nil, podCIDRs: [String]? = nil) {
        node = "node-\(number)"
        self.address = address ?? "172.30.0.1\(number)"
        self.podCIDRs = podCIDRs ?? ["10.244.\(number).0/24", "fd00:10:244:\(number)::/64"]
    }
}

/// What happens to a cluster's nodes, with packets on the way all the time.
@Suite(.needsRoot, .serialized, .lab(pods)) struct OverlayEventTests {
    let lab: LabUnderTest
    let state: LabState

    init() throws {
        lab = try LabUnderTest.current()
        state = try lab.state()
    }

    private func node(_ number: Int) throws -> LabNode { try #require(state.node(named: "node-\(number)")) }

    private func pod(_ number: Int) throws -> LabPod {
        try #require(state.pods.first { $0.key.name == "p\(number)" })
    }

    private func routes(_ number: Int) throws -> RouteSocket {
        try node(number).inside { () throws(KernelError) in try RouteSocket.open() }
    }

    /// Runs a command on a node, as a person would.
    private func by(hand command: String, on number: Int) throws {
        let words = command.split(separator: " ").map(String.init)
        let outcome = try node(number).inside { () throws(KernelError) in
            try ChildProcess.capture(words[0], Array(words.dropFirst()), timeout: .seconds(30))
        }
        try #require(outcome.status.isSuccess, "\(command): \(outcome.errorText)")
    }

    // MARK: - The objects

    private func manifest(_ number: Int) -> String { "\(state.manifestsPath)/Node_node-\(number).yaml" }

    /// Puts a node's object in the place of the lab's own.
    private func set(_ number: Int, addresses: [String]? = nil, podCIDRs: [String]? = nil) throws {
        let node = try node(number)
        let addresses = addresses ?? node.addresses.map(\.description)
        let cidrs = podCIDRs ?? node.podCIDRs.map(\.description)
        try write(
            """
            apiVersion: v1
            kind: Node
            metadata: {name: node-\(number)}
            spec: {podCIDRs: [\(cidrs.map { "'\($0)'" }.joined(separator: ", "))]}
            status: {addresses: [\(addresses.map { "{type: InternalIP, address: '\($0)'}" }.joined(separator: ", "))]}

            """, to: number)
    }

    private func write(_ text: String, to number: Int) throws {
        try StateDirectory.open(state.manifestsPath, create: false)
            .replace("Node_node-\(number).yaml", Array(text.utf8))
    }

    /// Runs `body` and puts the nodes' objects back.
    private func restoringObjects(_ body: () throws -> Void) throws {
        let before = try (1...3).map { try String(contentsOfFile: manifest($0), encoding: .utf8) }
        defer { for number in 1...3 { try? write(before[number - 1], to: number) } }
        try body()
    }

    // MARK: - What the kernel has

    /// The overlay's entries on a node, one per line; and what else is permanent on its device.
    private func entries(_ number: Int) throws -> Set<String> {
        let routes = try routes(number)
        var found = try routes.routes(origin: .fairlead).filter { $0.gateway != nil }.map { "route \($0.destination)" }
        guard let device = try routes.link(named: InterfaceName("fairlead.1")!) else { return Set(found) }
        found += try routes.neighbors(link: device.index).filter { $0.state == .permanent }.map { "neigh \($0.address) \($0.mac!)" }
        found += try routes.forwardingEntries(link: device.index).map { "fdb \($0.mac) \($0.remote)" }
        return Set(found)
    }

    private func tunnelEnd(_ number: Int) throws -> MACAddress {
        let device = try routes(number).link(named: InterfaceName("fairlead.1")!)
        return try #require(device?.mac)
    }

    /// The number of a node's VXLAN device, new when it was made anew.
    private func device(_ number: Int) throws -> Int32 {
        let device = try routes(number).link(named: InterfaceName("fairlead.1")!)
        return try #require(device?.index)
    }

    private func expected(_ nodes: [Seen], macs: [String: MACAddress]) -> Set<String> {
        Set(
            nodes.flatMap { node in
                let mac = macs[node.node]!
                return ["fdb \(mac) \(node.address)"]
                    + node.podCIDRs.flatMap { text in
                        let cidr = IPPrefix(text)!
                        let gateway = cidr.family == .ipv4 ? cidr.first : .v6(mac.linkLocalAddress)
                        return ["route \(cidr)", "neigh \(gateway) \(mac)"]
                    }
            })
    }

    /// Waits until node-1 has these entries and no other.
    private func expect(
        _ nodes: [Seen], macs: [String: MACAddress], also: Set<String> = [],
        location: SourceLocation = #_sourceLocation
    ) throws {
        let wanted = expected(nodes, macs: macs).union(also)
        let deadline = ContinuousClock.now + .seconds(60)
        while try entries(1) != wanted, ContinuousClock.now < deadline { usleep(5000) }
        let found = try entries(1)
        #expect(
            found == wanted, "too much: \(found.subtracting(wanted)), missing: \(wanted.subtracting(found))",
            sourceLocation: location)
    }

    private func tunnelEnds() throws -> [String: MACAddress] {
        try Dictionary(uniqueKeysWithValues: (1...3).map { ("node-\($0)", try tunnelEnd($0)) })
    }

    private func eventually(
        _ what: String, location: SourceLocation = #_sourceLocation, _ isSo: () throws -> Bool
    ) throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while try !isSo() {
            guard ContinuousClock.now < deadline else {
                Issue.record("\(what) has not come to be", sourceLocation: location)
                return
            }
            usleep(5000)
        }
    }

    private func expectReach(_ from: Int, _ to: Int, location: SourceLocation = #_sourceLocation) throws {
        let (source, target) = (try pod(from), try pod(to))
        for family in AddressFamily.allCases {
            let address = SocketAddress(try target.address(family), Port(8080)!)
            try eventually("\(family) from p\(from) to p\(to)", location: location) {
                try source.inside { () throws(KernelError) in
                    try Probe.answer(.tcp, address, timeout: .milliseconds(500))
                } == "p\(to)"
            }
        }
    }

    /// Runs `body` with traffic from p1 to p3 in both families, of which nothing may be lost.
    private func withTraffic(location: SourceLocation = #_sourceLocation, _ body: () throws -> Void) throws {
        try expectReach(1, 3, location: location)
        let traffic = try AddressFamily.allCases.map { try Traffic(from: pod(1), to: pod(3).address($0)) }
        defer { for stream in traffic { stream.end() } }
        try body()
        for stream in traffic {
            let (answered, lost) = stream.end()
            #expect(answered > 0 && lost == 0, "\(answered) answered, \(lost) lost", sourceLocation: location)
        }
    }

    // MARK: - Events

    /// What happens, by whose hand ever, to a node's overlay.
    private func happen(_ event: String, macs: [String: MACAddress]) throws -> [Seen] {
        switch event {
        case "a node's object":
            try set(2, podCIDRs: ["10.244.77.0/24"])
            return [Seen(2, podCIDRs: ["10.244.77.0/24"]), Seen(3)]
        case "the device": try by(hand: "ip link del fairlead.1", on: 1)
        case "a route": try by(hand: "ip route del 10.244.2.0/24", on: 1)
        case "a neighbour": try by(hand: "ip neigh del 10.244.2.0 dev fairlead.1", on: 1)
        default: try by(hand: "bridge fdb del \(macs["node-2"]!) dev fairlead.1 dst 172.30.0.12", on: 1)
        }
        return [Seen(2), Seen(3)]
    }

    @Test(arguments: ["a node's object", "the device", "a route", "a neighbour", "a forwarding entry"])
    func `what happens to the overlay is dealt with within a second`(event: String) throws {
        let macs = try tunnelEnds()
        // A busy machine takes longer now and then; the agent does not.
        var times: [Duration] = []
        while times.count < 5, times.allSatisfy({ $0 >= .seconds(1) }) {
            try restoringObjects {
                let start = ContinuousClock.now
                try expect(try happen(event, macs: macs), macs: macs)
                times.append(ContinuousClock.now - start)
            }
            try expect([Seen(2), Seen(3)], macs: macs)
        }
        #expect(times.contains { $0 < .seconds(1) }, "\(times)")
    }

    @Test func `a node goes and comes`() throws {
        let macs = try tunnelEnds()
        try withTraffic {
            try restoringObjects {
                try expect([Seen(2), Seen(3)], macs: macs)
                try FileManager.default.removeItem(atPath: manifest(2))
                try expect([Seen(3)], macs: macs)
            }
            try expect([Seen(2), Seen(3)], macs: macs)
        }
        try expectReach(1, 2)
    }

    @Test func `a node gets another address`() throws {
        let macs = try tunnelEnds()
        try withTraffic {
            try restoringObjects {
                try by(hand: "ip addr del 172.30.0.12/24 dev eth0", on: 2)
                try by(hand: "ip addr add 172.30.0.212/24 dev eth0", on: 2)
                try set(2, addresses: ["172.30.0.212", "fd00:172:30::12"])
                try expect([Seen(2, address: "172.30.0.212"), Seen(3)], macs: macs)
                try expectReach(1, 2)
                try by(hand: "ip addr del 172.30.0.212/24 dev eth0", on: 2)
                try by(hand: "ip addr add 172.30.0.12/24 dev eth0", on: 2)
                // It went with the address.
                try by(hand: "ip route replace default via 172.30.0.1", on: 2)
            }
            try expect([Seen(2), Seen(3)], macs: macs)
        }
        try expectReach(1, 2)
    }

    @Test func `a node that loses its address for a moment is as before`() throws {
        let macs = try tunnelEnds()
        try by(hand: "ip addr del 172.30.0.12/24 dev eth0", on: 2)
        try by(hand: "ip addr add 172.30.0.12/24 dev eth0", on: 2)
        // Removing the last address took routes along, which only the kernel makes.
        try by(hand: "ip route replace default via 172.30.0.1", on: 2)
        try expectReach(1, 2)
        try expect([Seen(2), Seen(3)], macs: macs)
    }

    @Test func `a tunnel end's Ethernet address is put right`() throws {
        let macs = try tunnelEnds()
        try by(hand: "ip link set fairlead.1 address 02:00:00:00:00:42", on: 2)
        try eventually("the address") { try tunnelEnd(2) == macs["node-2"] }
        try expectReach(1, 2)
    }

    @Test func `a node's networks change, and one moves to another node`() throws {
        let macs = try tunnelEnds()
        try withTraffic {
            try restoringObjects {
                let changed = ["10.244.22.0/24", "fd00:10:244:22::/64"]
                let moved = Seen(3).podCIDRs + ["10.244.2.0/24"]
                try set(3, podCIDRs: moved)
                try set(2, podCIDRs: changed)
                try expect([Seen(2, podCIDRs: changed), Seen(3, podCIDRs: moved)], macs: macs)
                try eventually("the device's address") {
                    let routes = try routes(2)
                    guard let device = try routes.link(named: InterfaceName("fairlead.1")!) else { return false }
                    return try routes.addresses(of: device.index).contains { $0.prefix == IPPrefix("10.244.22.0/32")! }
                }
            }
            try expect([Seen(2), Seen(3)], macs: macs)
        }
        try expectReach(1, 2)
    }

    @Test func `what somebody deletes is made anew, and what somebody adds stays`() throws {
        let macs = try tunnelEnds()
        let mac = macs["node-2"]!
        let foreign: Set = ["neigh 10.9.9.9 02:00:00:00:00:09", "fdb 02:00:00:00:00:09 172.30.0.99"]
        try by(hand: "ip neigh add 10.9.9.9 lladdr 02:00:00:00:00:09 dev fairlead.1 nud permanent", on: 1)
        try by(hand: "bridge fdb add 02:00:00:00:00:09 dev fairlead.1 dst 172.30.0.99 self", on: 1)
        try by(hand: "ip route add 192.0.2.0/24 via 172.30.0.1", on: 1)
        try withTraffic {
            for command in [
                "ip route del 10.244.2.0/24", "ip -6 route del fd00:10:244:2::/64",
                "ip neigh del 10.244.2.0 dev fairlead.1", "bridge fdb del \(mac) dev fairlead.1 self",
            ] {
                try by(hand: command, on: 1)
                try expect([Seen(2), Seen(3)], macs: macs, also: foreign)
                try expectReach(1, 2)
            }
        }
        try by(hand: "ip link del fairlead.1", on: 1)
        try expect([Seen(2), Seen(3)], macs: macs)
        try expectReach(1, 2)
        try expectReach(3, 1)
        let gateways = try routes(1).routes().filter { $0.destination == IPPrefix("192.0.2.0/24")! }
        #expect(gateways.count == 1)
        try by(hand: "ip route del 192.0.2.0/24", on: 1)
    }

    @Test func `a foreign route in our place is named and not taken`() throws {
        let macs = try tunnelEnds()
        try restoringObjects {
            try by(hand: "ip route add 10.244.77.0/24 via 172.30.0.1", on: 1)
            try set(2, podCIDRs: ["10.244.77.0/24"])
            try eventually("the note") { try status(1).contains("route 10.244.77.0/24: another program has a route") }
            try by(hand: "ip route del 10.244.77.0/24", on: 1)
            try expect([Seen(2, podCIDRs: ["10.244.77.0/24"]), Seen(3)], macs: macs)
        }
        try expect([Seen(2), Seen(3)], macs: macs)
        try eventually("no note") { try !status(1).contains("another program") }
    }

    private func status(_ number: Int) throws -> String {
        (try? String(contentsOfFile: "\(try node(number).stateDirectory)/status.json", encoding: .utf8)) ?? ""
    }

    @Test func `an agent is killed while a node vanishes`() throws {
        let macs = try tunnelEnds()
        try withTraffic {
            try restoringObjects {
                let pid = try #require(try agent(1))
                let words = try String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8).split(separator: "\0").map(String.init)
                kill(pid, SIGKILL)
                try eventually("its end") { try agent(1) == nil }
                try FileManager.default.removeItem(atPath: manifest(2))
                try by(hand: "ip route add 192.0.2.0/24 via 172.30.0.1", on: 1)
                try expect([Seen(2), Seen(3)], macs: macs)
                let device = try self.device(1)
                try node(1).inside { () throws(KernelError) in
                    _ = try ChildProcess.spawn(
                        executable: words[0], arguments: Array(words.dropFirst()), standardOutput: .null,
                        standardError: .null, newSession: true)
                }
                try expect([Seen(3)], macs: macs)
                #expect(try routes(1).link(named: InterfaceName("fairlead.1")!)?.index == device)
                #expect(try routes(1).routes().contains { $0.destination == IPPrefix("192.0.2.0/24")! })
                try by(hand: "ip route del 192.0.2.0/24", on: 1)
            }
            try expect([Seen(2), Seen(3)], macs: macs)
        }
        try expectReach(1, 2)
    }

    /// The process of a node's agent.
    private func agent(_ number: Int) throws -> Int32? {
        try lab.processes().first { pid in
            let words = (try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8)) ?? ""
            return words.contains("fairlead-agent") && words.contains("\0node-\(number)\0")
        }
    }

    @Test func `the underlay's MTU and default route change`() throws {
        func mtu() throws -> Int? { try routes(1).link(named: InterfaceName("fairlead.1")!)?.mtu }
        #expect(try mtu() == 1450)
        try withTraffic {
            try by(hand: "ip link set eth0 mtu 1400", on: 1)
            try eventually("a smaller MTU") { try mtu() == 1350 }
            try eventually("the status") { try status(1).contains("\"mtu\" : 1350") }
            try by(hand: "ip route replace default via 172.30.0.99", on: 1)
            try by(hand: "ip route replace default via 172.30.0.1", on: 1)
            try by(hand: "ip link set eth0 mtu 1500", on: 1)
            try eventually("the MTU of before") { try mtu() == 1450 }
        }
    }

    @Test func `nodes with IPv6 addresses only carry both families`() throws {
        let macs = try tunnelEnds()
        try restoringObjects {
            for number in 1...3 { try set(number, addresses: ["fd00:172:30::1\(number)"]) }
            try expect((2...3).map { Seen($0, address: "fd00:172:30::1\($0)") }, macs: macs)
            #expect(try routes(1).link(named: InterfaceName("fairlead.1")!)?.mtu == 1430)
            try expectReach(1, 2)
            try expectReach(3, 1)
        }
        try expect([Seen(2), Seen(3)], macs: macs)
        try expectReach(1, 2)
    }
}

/// Nodes joined in the ways without VXLAN, or with it as the second choice.
@Suite(.needsRoot, .serialized) struct OverlayModeTests {
    @Test(arguments: [LabOverlay.direct, .crossSubnet, .none])
    func `a lab is joined as it is told`(overlay: LabOverlay) throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        let up = try lab.lab("up", "--nodes", "2", "--overlay", overlay.rawValue)
        try #require(up.status.isSuccess, "\(up.errorText)")
        try lab.apply(pods.components(separatedBy: "\n---\n")[..<2].joined(separator: "\n---\n"))
        let state = try lab.state()
        let (first, second) = (try #require(state.pods.first), try #require(state.pods.last))
        for family in AddressFamily.allCases {
            let target = SocketAddress(try second.address(family), Port(8080)!)
            let answer = try first.inside { () throws(KernelError) in try Probe.answer(.tcp, target) }
            #expect((answer == "p2") == (overlay != .none), "\(family): \(answer)")
        }
        let node = try #require(state.nodes.first)
        let routes = try node.inside { () throws(KernelError) in try RouteSocket.open() }
        let ways = try routes.routes(origin: .fairlead).compactMap { $0.gateway?.description }
        #expect(Set(ways) == (overlay == .none ? [] : ["172.30.0.12", "fd00:172:30::12"]))
        let device = try routes.link(named: InterfaceName("fairlead.1")!)
        #expect((device != nil) == (overlay == .crossSubnet))
        // What is carried whole may be large.
        let inside = try first.inside { () throws(KernelError) in try RouteSocket.open() }
        let link = try inside.link(named: InterfaceName("eth0")!)
        #expect(link?.mtu == (overlay == .crossSubnet ? 1450 : 1500))
    }

    /// Node 3 moves to another network, behind the router that all nodes have as their gateway.
    @Test func `neighbours are reached directly, and a node behind a router through the tunnel`() throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        let up = try lab.lab("up", "--nodes", "3", "--overlay", "cross-subnet")
        try #require(up.status.isSuccess, "\(up.errorText)")
        try lab.apply(pods)
        let state = try lab.state()
        func run(_ command: String, in namespace: String) throws {
            let outcome = try ChildProcess.capture("ip", ["-n", namespace] + command.split(separator: " ").map(String.init))
            try #require(outcome.status.isSuccess, "\(command): \(outcome.errorText)")
        }
        let router = try #require(try lab.namespaces().first { $0.hasSuffix("-underlay") })
        let third = try #require(state.node(named: "node-3"))
        for (old, new) in [("172.30.0", "172.30.1"), ("fd00:172:30:", "fd00:172:30:1:")] {
            let (length, dot) = old.contains(":") ? (64, ":") : (24, ".")
            try run("addr add \(new)\(dot)1/\(length) dev underlay nodad", in: router)
            try run("addr del \(old)\(dot)13/\(length) dev eth0", in: third.namespaceName)
            try run("addr add \(new)\(dot)13/\(length) dev eth0 nodad", in: third.namespaceName)
            try run("route replace default via \(new)\(dot)1", in: third.namespaceName)
        }
        try StateDirectory.open(state.manifestsPath, create: false).replace(
            "Node_node-3.yaml",
            Array(
                """
                apiVersion: v1
                kind: Node
                metadata: {name: node-3}
                spec: {podCIDRs: [10.244.3.0/24, 'fd00:10:244:3::/64']}
                status:
                  addresses: [{type: InternalIP, address: 172.30.1.13}, {type: InternalIP, address: 'fd00:172:30:1::13'}]
                """.utf8))
        func ways(_ node: LabNode) throws -> [String: String] {
            let routes = try node.inside { () throws(KernelError) in try RouteSocket.open() }
            let names = Dictionary(uniqueKeysWithValues: try routes.links().map { ($0.index, $0.name.description) })
            return Dictionary(
                uniqueKeysWithValues: try routes.routes(origin: .fairlead).filter { $0.gateway != nil }.map {
                    ("\($0.destination)", names[$0.link]!)
                })
        }
        /// By which device the networks of a node's pods are reached.
        func way(_ device: String, to number: Int) -> [String: String] {
            ["10.244.\(number).0/24": device, "fd00:10:244:\(number)::/64": device]
        }
        let expected = [
            way("eth0", to: 2).merging(way("fairlead.1", to: 3)) { $1 },
            way("eth0", to: 1).merging(way("fairlead.1", to: 3)) { $1 },
            way("fairlead.1", to: 1).merging(way("fairlead.1", to: 2)) { $1 },
        ]
        for (node, expected) in zip(state.nodes, expected) {
            let deadline = ContinuousClock.now + .seconds(30)
            while try ways(node) != expected, ContinuousClock.now < deadline { usleep(50_000) }
            #expect(try ways(node) == expected, "\(node.name)")
        }
        for (from, to) in [(0, 1), (0, 2), (2, 0), (1, 2)] {
            for family in AddressFamily.allCases {
                let target = SocketAddress(try state.pods[to].address(family), Port(8080)!)
                let answer = try state.pods[from].inside { () throws(KernelError) in try Probe.answer(.tcp, target) }
                #expect(answer == "p\(to + 1)", "\(family): \(from + 1) to \(to + 1)")
            }
        }
    }
}

/// Datagrams from a pod to an address, one after the other, each with its answer or without.
private final class Traffic: Sendable {
    private struct Tally {
        var answered = 0
        var lost = 0
        var isEnding = false
        var hasEnded = false
    }

    private let tally = Mutex(Tally())

    init(from pod: LabPod, to address: IPAddress) throws {
        let target = SocketAddress(address, Port(8080)!)
        Thread.detachNewThread { [self] in
            while !tally.withLock({ $0.isEnding }) {
                let answer = try? pod.inside { () throws(KernelError) in
                    try Probe.answer(.udp, target, timeout: .seconds(20))
                }
                tally.withLock { tally in
                    if answer == "p3" { tally.answered += 1 } else { tally.lost += 1 }
                }
                usleep(3000)
            }
            tally.withLock { $0.hasEnded = true }
        }
    }

    /// Stops it, and tells how many datagrams were answered and how many were not.
    @discardableResult
    func end() -> (answered: Int, lost: Int) {
        tally.withLock { $0.isEnding = true }
        while !tally.withLock({ $0.hasEnded }) { usleep(1000) }
        return tally.withLock { ($0.answered, $0.lost) }
    }
}
