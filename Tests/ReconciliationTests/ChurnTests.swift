import Foundation
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Synchronization
import Testing

/// Services and endpoints that change all the time, with conversations going on.
@Suite(.needsRoot) struct ChurnTests {
    /// `FAIRLEAD_CHURN=1000000 swift test --filter ChurnTests` is a week of a large cluster; it takes some minutes, and
    /// prints what it found.
    static let changes = ProcessInfo.processInfo.environment["FAIRLEAD_CHURN"].flatMap { Int($0) } ?? 1200

    /// Most events at a time: in a storm the agent gathers them.
    static let batch = changes > 100_000 ? 100 : 8

    @Test func `after random changes and restarts the kernel holds what was asked for, and no conversation noticed`()
        async throws
    {
        let bed = try TrafficBed([("client", "10.244.1.2"), ("far", "10.244.2.2"), ("farther", "10.244.2.3")])
        var model = ChurningCluster(seed: 4)
        #expect(await bed.apply(model.everything + [.synced]).isSynced)
        let clients = try (0..<4).map { number in
            let transport: TransportProtocol = number % 2 == 0 ? .udp : .tcp
            return try Conversation(transport, to: ChurningCluster.steadyAddress, from: bed.hosts["client"]!)
        }
        for client in clients { client.start() }
        let start = ContinuousClock.now
        var memory: [Int] = []
        var done = 0
        while done < Self.changes {
            let events = (0..<model.draw(Self.batch) + 1).map { _ in model.change() }
            done += events.count
            let report = await bed.apply(events)
            try #require(report.isSynced, "\(report.errors)")
            if done % (Self.changes / 4) < events.count {
                try bed.restart()
                #expect(await bed.apply(model.everything + [.synced]).isSynced)
                memory.append(residentMegabytes())
            }
        }
        let duration = ContinuousClock.now - start
        let exchanged = clients.map { $0.end() }
        for (client, count) in zip(clients, exchanged) {
            #expect(client.trouble == nil)
            #expect(count > 10)
        }
        let socket = try bed.node.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let observed = try #require(try socket.observe(ServiceTable.name))
        // Which endpoint has which slot is the one thing that depends on what was before.
        let whole = serviceTable(
            services: model.snapshot.services.values, slices: model.snapshot.endpointSlices.values,
            on: NodeContext(name: "n1"), previous: observed)
        // Edits that would still be needed.
        #expect(observed.changes(to: whole) == [])
        if Self.changes > 100_000 {
            #expect(memory.last! - memory[1] < 30)
            let broken = clients.count { $0.trouble != nil }
            print(
                "\(done) changes and \(memory.count) restarts in \(duration): \(exchanged.reduce(0, +)) answers to "
                    + "\(clients.count) conversations, \(broken) of them broken; resident megabytes after each restart "
                    + "\(memory); the kernel \(observed.changes(to: whole).isEmpty ? "holds" : "does not hold") what a fresh "
                    + "computation asks for")
        }
    }

    private func residentMegabytes() -> Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return (line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) } ?? 0) / 1024
    }
}

/// One client and one pod that never stop talking.
private final class Conversation: Sendable {
    private struct State {
        var isEnding = false
        var hasEnded = false
        var answers = 0
        var trouble: String?
    }

    private let connection: ProbeConnection
    private let state = Mutex(State())
    private let speaks: String

    init(_ transport: TransportProtocol, to address: SocketAddress, from host: TrafficBed.Host) throws {
        connection = try host.namespace.withEntered { () throws(KernelError) in
            try ProbeConnection.open(transport, to: address, timeout: .seconds(5))
        }
        if transport == .tcp { try connection.send("stream\n", timeout: .seconds(5)) }
        speaks = "\(transport)"
    }

    var trouble: String? { state.withLock { $0.trouble } }

    func start() { Thread.detachNewThread { self.talk() } }

    /// Every line comes back, from the pod that answered first. A lost datagram is a silence of five seconds; a lost
    /// segment would be sent again, and only a broken connection shows.
    private func talk() {
        var partner: Substring?
        do {
            while !state.withLock({ $0.isEnding }) {
                let answer = try connection.exchange(line: "hello", timeout: .seconds(5))
                let name = answer.prefix { $0 != " " }
                if let partner, partner != name { throw TestTrouble("\(partner) became \(name)") }
                partner = name
                state.withLock { $0.answers += 1 }
                usleep(500)
            }
        } catch {
            state.withLock { $0.trouble = "\(speaks): \(error)" }
        }
        state.withLock { $0.hasEnded = true }
    }

    /// How many lines came back.
    func end() -> Int {
        state.withLock { $0.isEnding = true }
        while !state.withLock({ $0.hasEnded }) { usleep(1000) }
        return state.withLock { $0.answers }
    }
}

private struct TestTrouble: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A cluster of services of all kinds, whose every change is drawn from a seed; one service that is talked to never
/// changes, and one changes more than all others.
private struct ChurningCluster {
    static let steadyAddress = SocketAddress(IPAddress("10.96.0.10")!, Port(80)!)
    private static let count = 150

    private(set) var snapshot = ClusterSnapshot()
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
        for transport in [TransportProtocol.tcp, .udp] {
            let name = "steady-\(transport)".lowercased()
            _ = set(
                .service(
                    Service(
                        metadata: ObjectMetadata(name: name, namespace: "a"), clusterIPs: [Self.steadyAddress.address],
                        ports: [ServicePort(protocol: transport, number: Self.steadyAddress.port)])))
            _ = set(
                .endpointSlice(
                    EndpointSlice(
                        metadata: ObjectMetadata(
                            name: name, namespace: "a", labels: [EndpointSlice.serviceNameLabel: name]),
                        family: .ipv4,
                        endpoints: ["10.244.2.2", "10.244.2.3"].map { Endpoint(address: IPAddress($0)!, nodeName: "n2") },
                        ports: [EndpointPort(protocol: transport, number: Port(8080)!)])))
        }
        for number in 0..<Self.count {
            _ = set(.service(service(number)))
            _ = set(.endpointSlice(slice(number)))
        }
    }

    /// All objects that are there.
    var everything: [ObjectEvent] {
        snapshot.services.values.map { .set(.service($0)) } + snapshot.endpointSlices.values.map { .set(.endpointSlice($0)) }
    }

    /// A number below `limit` (xorshift).
    mutating func draw(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state >> 1) % limit
    }

    mutating func change() -> ObjectEvent {
        let number = draw(3) == 0 ? 0 : draw(Self.count)
        let key = NamespacedName(namespace: "a", name: "s\(number)")
        switch draw(10) {
        case 0: return remove(ObjectReference(.service, key))
        case 1: return remove(ObjectReference(.endpointSlice, key))
        case 2, 3: return set(.service(service(number)))
        default: return set(.endpointSlice(slice(number)))
        }
    }

    private mutating func set(_ object: KubernetesObject) -> ObjectEvent {
        snapshot.apply(.set(object))
        return .set(object)
    }

    private mutating func remove(_ reference: ObjectReference) -> ObjectEvent {
        snapshot.apply(.removed(reference))
        return .removed(reference)
    }

    private mutating func service(_ number: Int) -> Service {
        var service = Service(
            metadata: ObjectMetadata(name: "s\(number)", namespace: "a"),
            clusterIPs: [IPAddress("10.97.0.\(number + 1)")!],
            ports: [
                ServicePort(name: "a", protocol: number % 8 == 0 ? .udp : .tcp, number: Port(80 + draw(3))!),
                ServicePort(name: "b", number: Port(443)!),
            ])
        switch draw(6) {
        case 0:
            service.sessionAffinity = .clientIP(timeoutSeconds: 60 + draw(3))
        case 1:
            service.type = .loadBalancer
            service.ingress = [LoadBalancerIngress(address: IPAddress("192.0.2.\(number + 1)")!)]
            service.externalTrafficPolicy = draw(2) == 0 ? .local : .cluster
            if draw(2) == 0 { service.sourceRanges = [IPPrefix("198.51.100.0/24")!] }
        case 2: service.externalIPs = [IPAddress("203.0.113.\(draw(100) + 1)")!]
        case 3: service.internalTrafficPolicy = .local
        default: break
        }
        return service
    }

    private mutating func slice(_ number: Int) -> EndpointSlice {
        let endpoints = (0..<draw(7)).map { _ in
            Endpoint(
                address: IPAddress("10.244.\(3 + draw(2)).\(draw(250) + 1)")!, isReady: draw(5) > 0,
                isServing: draw(5) > 0, isTerminating: draw(8) == 0, nodeName: draw(2) == 0 ? "n1" : "n2",
                pod: NamespacedName(namespace: "a", name: "p\(draw(20))"))
        }
        return EndpointSlice(
            metadata: ObjectMetadata(
                name: "s\(number)", namespace: "a", labels: [EndpointSlice.serviceNameLabel: "s\(number)"]),
            family: .ipv4, endpoints: endpoints,
            ports: [
                EndpointPort(name: "a", protocol: number % 8 == 0 ? .udp : .tcp, number: Port(8080)!),
                EndpointPort(name: "b", number: Port(8443 + draw(2))!),
            ])
    }
}
