import Foundation
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import OverlayRoutes
import Reconciliation
import RouteNetlink
import Testing

/// What stands in the overlay's way, and what must not be left of it.
@Suite(.needsRoot) struct OverlayRepairTests {
    private let tunnel = InterfaceName("fairlead.1")!

    @Test func `nodes that come and go leave nothing`() async throws {
        let bed = try NodeBed()
        let agent = try bed.reconciler([.overlay])
        _ = await agent.apply(objects(.set(.node(node(1))), .set(.node(node(2))), .synced))
        // 1,000 take some seconds; FAIRLEAD_CHURN=1000 is the full size, and prints how long an event takes.
        let count = ProcessInfo.processInfo.environment["FAIRLEAD_CHURN"].flatMap(Int.init) ?? 150
        var (joining, leaving): ([Duration], [Duration]) = ([], [])
        let clock = ContinuousClock()
        for number in 0..<count {
            var guest = node(3)
            guest.metadata.name = "guest-\(number)"
            guest.podCIDRs = [
                IPPrefix("10.\(100 + number % 100).\(number % 250).0/24")!,
                IPPrefix("fd00:20:\(String(number, radix: 16))::/64")!,
            ]
            guest.internalIPs = [IPAddress("172.30.\(number / 250).\(number % 250 + 3)")!]
            joining.append(
                await clock.measure { #expect(await agent.apply(objects(.set(.node(guest)))).isSynced) })
            if number % 50 == 0 { #expect(try bed.overlay().count == 10) }
            let gone = ObjectReference(kind: .node, namespace: nil, name: guest.name)
            leaving.append(await clock.measure { #expect(await agent.apply(objects(.removed(gone))).isSynced) })
        }
        if count >= 1000 { print("\(count) nodes, event to kernel: \(Self.figures(joining)) to join, \(Self.figures(leaving)) to leave") }
        #expect(try bed.overlay() == entries(2))
        let addresses = try bed.routes.addresses().count
        #expect(try bed.routes.links().count == 4 && addresses < 10)
    }

    /// A cluster as large as VXLAN's flat tables are meant for; at full size it prints what the first and the last to join cost.
    @Test func `many nodes join one by one and leave in one event`() async throws {
        let bed = try NodeBed()
        let agent = try bed.reconciler([.overlay])
        let count = ProcessInfo.processInfo.environment["FAIRLEAD_CHURN"].flatMap(Int.init) ?? 150
        func peer(_ number: Int) -> Node {
            var peer = node(3)
            peer.metadata.name = "peer-\(number)"
            peer.podCIDRs = [
                IPPrefix("10.\(100 + number / 250).\(number % 250).0/24")!,
                IPPrefix("fd00:20:\(String(number, radix: 16))::/64")!,
            ]
            peer.internalIPs = [IPAddress("172.30.\(number / 250 + 1).\(number % 250 + 3)")!]
            return peer
        }
        _ = await agent.apply(objects(.set(.node(node(1))), .synced))
        let clock = ContinuousClock()
        var times: [Duration] = []
        for number in 0..<count {
            times.append(await clock.measure { #expect(await agent.apply(objects(.set(.node(peer(number))))).isSynced) })
        }
        #expect(try bed.overlay().count == 5 * count)
        if count >= 1000 {
            print("joining the first hundred: \(Self.figures(Array(times.prefix(100)))); the last: \(Self.figures(Array(times.suffix(100))))")
        }
        // All leave in one event, and nothing is left.
        let gone = (0..<count).map { ObjectEvent.removed(ObjectReference(kind: .node, namespace: nil, name: "peer-\($0)")) }
        #expect(await agent.apply([.objects(gone, notes: [], revision: "")]).isSynced)
        #expect(try bed.overlay() == [])
    }

    /// The median and the longest.
    private static func figures(_ durations: [Duration]) -> String {
        let sorted = durations.sorted()
        func text(_ duration: Duration) -> String {
            duration.formatted(.units(allowed: [.milliseconds], fractionalPart: .show(length: 2)))
        }
        return "\(text(sorted[sorted.count / 2])), at most \(text(sorted.last!))"
    }

    /// As a data centre has whose routers know the cluster's networks.
    @Test func `a route of another's to all pods is in nobody's way`() async throws {
        let bed = try NodeBed()
        let eth0 = try #require(try bed.routes.link(named: InterfaceName("eth0")!))
        let everywhere = ["10.244.0.0/16", "fd00:10:244::/48"].map { Route(to: IPPrefix($0)!, link: eth0.index) }
        for route in everywhere { try bed.routes.add(route) }
        let agent = try bed.reconciler([.overlay])
        let report = await agent.apply(objects(.set(.node(node(1))), .set(.node(node(2))), .synced))
        #expect(report.isSynced && report.errors == [])
        #expect(try bed.overlay() == entries(2))
        #expect(try Set(bed.routes.routes()).isSuperset(of: everywhere))
    }

    @Test func `checksums are left to the hardware or not, as it is said, also by a device made anew`() async throws {
        let bed = try NodeBed()
        let features = try bed.namespace.withEntered { () throws(KernelError) in try LinkFeatures.open() }
        let agent = try bed.reconciler([.overlay], overlay: .init(checksumOffload: false))
        _ = await agent.apply(objects(.set(.node(node(1))), .synced))
        #expect(try !features.transmitChecksumOffload(of: tunnel))
        try features.setTransmitChecksumOffload(of: tunnel, to: true)
        _ = await agent.apply([.kernelChanged])
        #expect(try !features.transmitChecksumOffload(of: tunnel))
        let device = try #require(try bed.routes.link(named: tunnel))
        try bed.routes.deleteLink(index: device.index)
        #expect(await agent.apply([.kernelChanged]).isSynced)
        #expect(try !features.transmitChecksumOffload(of: tunnel))
    }

    @Test func `a link of our name that is no tunnel is named and left alone`() async throws {
        let bed = try NodeBed()
        try bed.routes.addBridge(NewLink(tunnel))
        let agent = try bed.reconciler([.overlay])
        let report = await agent.apply(objects(.set(.node(node(1))), .set(.node(node(2))), .synced))
        #expect(report.errors.first?.contains("a link of that name is no VXLAN device") == true, "\(report.errors)")
        #expect(try bed.routes.link(named: tunnel)?.kind == .bridge)
        #expect(report.overlay?.isReady == false && report.overlay?.reason.contains("fairlead.1") == true)
    }

    @Test func `a rival for the network identifier is named`() async throws {
        let bed = try NodeBed()
        let rival = InterfaceName("flannel.1")!
        try bed.routes.addVXLAN(NewLink(rival, isUp: true), VXLAN(vni: 1, port: Port(8472)!, local: nil))
        let agent = try bed.reconciler([.overlay])
        let report = await agent.apply(objects(.set(.node(node(1))), .synced))
        #expect(report.errors.first?.contains("flannel.1 has VNI 1") == true, "\(report.errors)")
        let other = try bed.reconciler([.overlay], overlay: .init(vni: 7, port: Port(4789)!))
        #expect(await other.apply(objects(.set(.node(node(1))), .synced)).isSynced)
        #expect(try bed.routes.link(named: rival) != nil)
        #expect(try bed.routes.link(named: tunnel)?.kind == .vxlan(VXLAN(vni: 7, port: Port(4789)!, local: IPAddress("172.30.0.11")!)))
    }

    @Test func `a changed mode removes what the former one made`() async throws {
        let bed = try NodeBed()
        let nodes = objects(.set(.node(node(1))), .set(.node(node(2))), .synced)
        _ = await (try bed.reconciler([.overlay])).apply(nodes)
        #expect(try bed.overlay() == entries(2))
        let direct = await (try bed.reconciler([.overlay], overlay: .init(mode: .direct))).apply(nodes)
        #expect(direct.isSynced && direct.overlay?.podMTU == 1500 && direct.overlay?.isReady == true)
        #expect(try bed.routes.link(named: tunnel) == nil)
        #expect(try bed.routes.routes(origin: .fairlead).map { $0.destination } == [IPPrefix("10.244.2.0/24")!])
        // IPv6 has no way there, and it is said.
        #expect(direct.notes.map { $0.object?.name } == ["n2"])
        let none = await (try bed.reconciler([.overlay], overlay: .init(mode: .none))).apply(nodes)
        #expect(none.isSynced && none.overlay?.isReady == true && none.overlay?.podMTU == nil)
        #expect(try bed.routes.routes(origin: .fairlead).isEmpty)
    }
}
