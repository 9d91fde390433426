import KernelInterface
import NetworkAddresses
import RouteNetlink
import SystemPackage
import Testing

/// A namespace with a route socket in it.
struct Bed: ~Copyable {
    let namespace: NetworkNamespace
    let routes: RouteSocket

    init() throws {
        let fresh = try NetworkNamespace.anonymous()
        routes = try fresh.withEntered { () throws(KernelError) in try RouteSocket.open() }
        namespace = fresh
    }

    /// The number of the link of this name.
    func index(_ name: InterfaceName) throws -> Int32 {
        let link = try routes.link(named: name)
        return try #require(link).index
    }

    /// Adds a veth pair `left`/`right` that is up, and gives the number of `left`.
    func addPair() throws -> Int32 {
        try routes.addVeth(
            NewLink(.left, mac: .left, isUp: true), peer: NewLink(.right, mac: .right, isUp: true))
        return try index(.left)
    }
}

extension InterfaceName {
    static let left = InterfaceName("left")!
    static let right = InterfaceName("right")!
    static let bridge = InterfaceName("br0")!
    static let tunnel = InterfaceName("vxlan0")!
}

extension MACAddress {
    static let left = MACAddress("02:00:00:00:00:01")!
    static let right = MACAddress("02:00:00:00:00:02")!
}

extension VXLAN {
    static let overlay = VXLAN(vni: 7, port: Port(8472)!, local: IPAddress("10.9.0.1"))
}

@Suite(.needsRoot) struct LinkTests {
    @Test func `a fresh namespace has one link, its loopback`() throws {
        let bed = try Bed()
        let links = try bed.routes.links()
        #expect(links.map(\.name.description) == ["lo"])
        #expect(links.map(\.kind) == [.loopback])
        #expect(links.map(\.isUp) == [false])
        try bed.routes.change(link: 1, LinkChange(isUp: true))
        #expect(try bed.routes.link(index: 1)?.isUp == true)
    }

    @Test func `one message makes a veth pair across two namespaces, complete on both sides`() throws {
        let host = try Bed()
        let pod = try Bed()
        try host.routes.addBridge(NewLink(.bridge, isUp: true))
        let bridge = try host.index(.bridge)
        let made = try host.routes.addVeth(
            NewLink(.left, mac: .left, mtu: 1400, isUp: true, bridge: bridge),
            peer: NewLink(.right, mac: .right, mtu: 1400, isUp: true), in: pod.namespace)

        let left = try #require(try host.routes.link(named: .left))
        let right = try #require(try pod.routes.link(named: .right))
        #expect(left.kind == .veth && right.kind == .veth)
        #expect(left.mac == .left && right.mac == .right)
        #expect(left.mtu == 1400 && right.mtu == 1400)
        #expect(left.isUp && right.isUp && left.hasCarrier && right.hasCarrier)
        #expect(left.bridge == bridge && right.bridge == nil)
        #expect(left.peerIndex == right.index && right.peerIndex == left.index)
        #expect(left.peerNamespaceID != nil && right.peerNamespaceID != nil)
        // Kernels before 6.2 leave it to who wants to know.
        if let made { #expect(made.index == left.index && made.peerIndex == right.index && made.name == .left) }

        #expect(try host.routes.identifier(of: pod.namespace) == left.peerNamespaceID)
        #expect(try host.routes.identifier(of: NetworkNamespace.anonymous()) == nil)

        // The witness sees the same, and in the peer's half no flag that a plain veth would not have.
        let shown = try pod.namespace.output(of: "ip", "-o", "link", "show", "right")
        #expect(shown.contains("<BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400"))
        #expect(shown.contains("link/ether 02:00:00:00:00:02"))
        #expect(try host.namespace.output(of: "ip", "-o", "link", "show", "left").contains("master br0"))
    }

    @Test func `a taken name is EEXIST, and the error names the link and has the kernel's words`() throws {
        let bed = try Bed()
        _ = try bed.addPair()
        let error = #expect(throws: KernelError.self) {
            try bed.routes.addVeth(NewLink(.left), peer: NewLink(InterfaceName("other")!))
        }
        #expect(error?.errno == .fileExists)
        #expect(error?.description.contains("left") == true)
        #expect(try bed.routes.links().count == 3)
    }

    @Test func `the kernel's explanation is part of the error`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        let error = #expect(throws: KernelError.self) { try bed.routes.change(link: left, LinkChange(mtu: 10)) }
        #expect(error?.errno == .invalidArgument)
        #expect(error?.kernelMessage == "mtu less than device minimum")
        #expect(error?.description == "change left: Invalid argument (kernel: mtu less than device minimum)")
    }

    @Test func `a peer cannot be asked into a bridge`() throws {
        let bed = try Bed()
        #expect(
            errno { try bed.routes.addVeth(NewLink(.left), peer: NewLink(.right, bridge: 9)) }
                == .invalidArgument)
    }

    @Test func `a missing link is nil, and deleting it is false`() throws {
        let bed = try Bed()
        #expect(try bed.routes.link(named: .left) == nil)
        #expect(try bed.routes.link(index: 4711) == nil)
        #expect(try !bed.routes.deleteLink(index: 4711))
        #expect(errno { try bed.routes.change(link: 4711, LinkChange(isUp: true)) } == .noSuchDevice)
    }

    @Test func `deleting one end of a veth deletes both`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        #expect(try bed.routes.deleteLink(index: left))
        #expect(try bed.routes.links().map(\.kind) == [.loopback])
    }

    @Test func `name, address, MTU, alias and state of a link change together`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        let renamed = InterfaceName("renamed")!
        let mac = MACAddress("02:aa:bb:cc:dd:ee")!
        try bed.routes.change(
            link: left, LinkChange(isUp: false, mtu: 1380, mac: mac, name: renamed, alias: "pod shop/web-0"))
        let link = try #require(try bed.routes.link(index: left))
        #expect(link.name == renamed && link.mac == mac && link.mtu == 1380 && !link.isUp)
        #expect(try bed.namespace.output(of: "ip", "link", "show", "renamed").contains("alias pod shop/web-0"))
    }

    @Test func `a link moves to another namespace`() throws {
        let bed = try Bed()
        let other = try Bed()
        let left = try bed.addPair()
        try bed.routes.move(link: left, to: other.namespace)
        #expect(try bed.routes.link(named: .left) == nil)
        let moved = try #require(try other.routes.link(named: .left))
        #expect(!moved.isUp && moved.mac == .left)
    }

    @Test func `a port joins a bridge, gets hairpin and isolation, and leaves`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        try bed.routes.addBridge(NewLink(.bridge, mtu: 1450, isUp: true))
        let bridge = try #require(try bed.routes.link(named: .bridge))
        #expect(bridge.kind == .bridge && bridge.mtu == 1450 && bridge.isUp)
        try bed.routes.change(link: left, LinkChange(bridge: bridge.index))
        #expect(try bed.routes.link(index: left)?.bridge == bridge.index)

        try bed.routes.setBridgePort(link: left, hairpin: true, isolated: true)
        #expect(try bed.namespace.output(of: "bridge", "-d", "link", "show").contains("hairpin on"))
        #expect(try bed.namespace.output(of: "bridge", "-d", "link", "show").contains("isolated on"))
        try bed.routes.setBridgePort(link: left, hairpin: false, isolated: nil)
        #expect(try bed.namespace.output(of: "bridge", "-d", "link", "show").contains("hairpin off"))
        #expect(try bed.namespace.output(of: "bridge", "-d", "link", "show").contains("isolated on"))

        try bed.routes.change(link: left, LinkChange(bridge: .some(nil)))
        #expect(try bed.routes.link(index: left)?.bridge == nil)
        let refused = #expect(throws: KernelError.self) {
            try bed.routes.setBridgePort(link: left, hairpin: true, isolated: nil)
        }
        #expect(refused?.operation.contains("left") == true)
    }

    @Test func `a VXLAN device reads back as it was made`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        try bed.routes.addVXLAN(NewLink(.tunnel, mac: .right, mtu: 1400, isUp: true), .overlay, underlay: left)
        let device = try #require(try bed.routes.link(named: .tunnel))
        #expect(device.kind == .vxlan(.overlay))
        #expect(device.mtu == 1400 && device.mac == .right && device.isUp)
        let shown = try bed.namespace.output(of: "ip", "-d", "-o", "link", "show", "vxlan0")
        #expect(shown.contains("vxlan id 7 local 10.9.0.1 dev left srcport 0 0 dstport 8472 nolearning"))
    }

    @Test(arguments: [
        VXLAN(vni: 16_777_215, port: Port(4789)!, local: nil, learning: true),
        VXLAN(vni: 1, port: Port(1)!, local: IPAddress("fd00::1"), learning: false),
    ])
    func `every kind of VXLAN reads back as it was made`(vxlan: VXLAN) throws {
        let bed = try Bed()
        try bed.routes.addVXLAN(NewLink(.tunnel), vxlan)
        #expect(try bed.routes.link(named: .tunnel)?.kind == .vxlan(vxlan))
    }

    @Test func `one socket serves several threads`() async throws {
        let bed = try Bed()
        let left = try bed.addPair()
        let socket = Shared(bed.routes)
        let seen = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    (0..<50).count { _ in (try? socket.routes.link(index: left))??.name == .left }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(seen == 400)
        _ = bed.namespace
    }

    @Test func `hundreds of links are listed whole while links come and go`() async throws {
        let bed = try Bed()
        for number in 0..<120 {
            try bed.routes.addVeth(
                NewLink(InterfaceName("a\(number)")!), peer: NewLink(InterfaceName("b\(number)")!))
        }
        let churning = try bed.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let churn = Shared(churning)
        let task = Task.detached {
            for _ in 0..<40 {
                try churn.routes.addVeth(NewLink(.left), peer: NewLink(.right))
                try churn.routes.deleteLink(index: churn.routes.link(named: .left)!.index)
            }
        }
        for _ in 0..<40 {
            let names = try bed.routes.links().map(\.name)
            #expect(Set(names).count == names.count)
            #expect((241...243).contains(names.count))
        }
        try await task.value
    }
}

/// A socket that several tasks hold.
final class Shared: Sendable {
    let routes: RouteSocket
    init(_ routes: consuming RouteSocket) { self.routes = routes }
}
