import Glibc
import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import RouteNetlink
import Testing

@testable import PolicyRules

/// Making network namespaces is for root only; elsewhere the tests that need the real kernel are skipped and say so.
extension Trait where Self == ConditionTrait {
    static var needsRoot: Self { .enabled(if: geteuid() == 0, "making network namespaces needs root") }
}

/// Three namespaces: the pods `shop/client` and `shop/server`, and between them the node with the policy table.
///
/// The pods are 10.244.1.2 and 10.244.1.3, fd00:10:244:1::2 and ::3; .1 is the node's own.
final class PolicedRoom {
    let client: Place
    let node: Place
    let server: Place
    let nftables: NftablesSocket
    var cluster = Cluster()
    private var compiler = PolicyCompiler(nodeName: "n1")
    private var assembly: Assembly<PolicyOwner>
    private(set) var epoch = PolicyEpoch(1)!
    private var told = ClusterSnapshot()

    /// A namespace that closures can name.
    final class Place {
        let namespace: NetworkNamespace
        let routes: RouteSocket

        init() throws {
            let fresh = try NetworkNamespace.anonymous()
            routes = try fresh.withEntered { () throws(KernelError) in try RouteSocket.open() }
            namespace = fresh
        }

        func run(_ program: String, _ arguments: String..., input: String = "") throws -> ChildProcess.Captured {
            try namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture(program, arguments, input: Array(input.utf8), timeout: .seconds(20))
            }
        }
    }

    init() throws {
        (client, node, server) = (try Place(), try Place(), try Place())
        let socket = try node.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        assembly = Assembly(frame: PolicyTable.frame(on: PolicyNode(name: "n1"), epoch: epoch))
        nftables = socket
        try node.namespace.withEntered { () throws(KernelError) in
            try KernelSetting.write(["net", "ipv4", "ip_forward"], "1")
            try KernelSetting.write(["net", "ipv6", "conf", "all", "forwarding"], "1")
        }
        cluster.pod("shop/unused", on: "n1")
        cluster.removePod("shop/unused")
        for (name, place, number) in [("client", client, 2), ("server", server, 3)] {
            try connect(name, place, number)
            cluster.pod("shop/\(name)", ["app": name])
            #expect(cluster.address("shop/\(name)").description == "10.244.1.\(number)")
        }
    }

    private func connect(_ name: String, _ place: Place, _ number: Int) throws {
        let (outer, inner) = (InterfaceName(name)!, InterfaceName("eth0")!)
        try node.routes.addVeth(NewLink(outer, isUp: true), peer: NewLink(inner, isUp: true), in: place.namespace)
        try place.routes.change(link: 1, LinkChange(isUp: true))
        let (here, there) = (try node.routes.link(named: outer)!.index, try place.routes.link(named: inner)!.index)
        for network in ["10.244.1.", "fd00:10:244:1::"] {
            let (gateway, pod) = (IPAddress("\(network)1")!, IPAddress("\(network)\(number)")!)
            try node.routes.add(InterfaceAddress(gateway.hostPrefix, link: here), prefixRoute: false)
            try node.routes.add(Route(to: pod.hostPrefix, link: here))
            try place.routes.add(InterfaceAddress(pod.hostPrefix, link: there), prefixRoute: false)
            let everywhere = IPPrefix(network.contains(":") ? "::/0" : "0.0.0.0/0")!
            try place.routes.add(Route(to: everywhere, via: gateway, link: there, onLink: true))
        }
    }

    /// Tells the compiler what changed in the cluster and writes it to the kernel, as the agent does.
    ///
    /// - Returns: Whether the epoch was swapped.
    @discardableResult func commit() throws -> Bool {
        let now = cluster.snapshot
        for node in now.nodes.values where told.nodes[node.name] != node { compiler.apply(.set(.node(node))) }
        for pod in now.pods.values where told.pods[pod.key] != pod { compiler.apply(.set(.pod(pod))) }
        for key in told.pods.keys where now.pods[key] == nil { compiler.apply(.removed(ObjectReference(.pod, key))) }
        for policy in now.networkPolicies.values where told.networkPolicies[policy.key] != policy {
            compiler.apply(.set(.networkPolicy(policy)))
        }
        for key in told.networkPolicies.keys where now.networkPolicies[key] == nil {
            compiler.apply(.removed(ObjectReference(.networkPolicy, key)))
        }
        told = now
        let update = compiler.takeContributions()
        for (owner, contribution) in update.contributions { assembly.set(contribution, for: owner) }
        for (name, chain) in update.frameChains { assembly.setFrameChain(name, chain) }
        if update.isRestrictive {
            epoch = epoch.next
            for (name, chain) in PolicyTable.chains(of: epoch) { assembly.setFrameChain(name, chain) }
        }
        try nftables.apply(assembly.takeChanges(), to: PolicyTable.name)
        return update.isRestrictive
    }

    // MARK: - Connections

    /// What comes of a connection from the client to the server.
    func attempt(_ port: UInt16, _ family: AddressFamily = .ipv4, to address: IPAddress? = nil) throws -> Probe.Outcome
    {
        let destination = SocketAddress(address ?? cluster.address("shop/server", family), Port(rawValue: port)!)
        return try client.namespace.withEntered { () throws(KernelError) in
            try Probe.tcp(to: destination, timeout: .milliseconds(800))
        }
    }

    /// A connection that is there, by both its ends.
    func establish(_ port: UInt16, _ family: AddressFamily = .ipv4) throws -> (client: End, server: End) {
        let listener = try server.namespace.withEntered { () throws(KernelError) in End.listening(port, family) }
        let address = cluster.address("shop/server", family)
        let end = try client.namespace.withEntered { () throws(KernelError) in End.connected(to: address, port) }
        return (end, listener.accept())
    }
}

/// One end of a TCP connection, or a socket that waits for some.
final class End {
    private let descriptor: Int32

    private init(_ descriptor: Int32) {
        precondition(descriptor >= 0, "no socket: \(String(cString: strerror(errno)))")
        self.descriptor = descriptor
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    private static func open(_ family: AddressFamily) -> End {
        End(socket(family == .ipv4 ? AF_INET : AF_INET6, Int32(SOCK_STREAM.rawValue), 0))
    }

    static func listening(_ port: UInt16, _ family: AddressFamily) -> End {
        let end = open(family)
        let any = family == .ipv4 ? IPAddress("0.0.0.0")! : IPAddress("::")!
        precondition(
            withSocketAddress(any, port) { bind(end.descriptor, $0, $1) } == 0 && listen(end.descriptor, 8) == 0)
        return end
    }

    static func connected(to address: IPAddress, _ port: UInt16) -> End {
        let end = open(address.family)
        let status = withSocketAddress(address, port) { connect(end.descriptor, $0, $1) }
        precondition(status == 0, "no connection: \(String(cString: strerror(errno)))")
        return end
    }

    func accept() -> End { End(Glibc.accept(descriptor, nil, nil)) }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        #expect(Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
    }

    /// What arrives first within the time; nil where nothing does.
    func receive(within time: Duration) -> String? {
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&request, 1, Int32(time / .milliseconds(1))) > 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return count >= 0 ? String(decoding: buffer.prefix(count), as: UTF8.self) : "error \(errno)"
    }
}

private func withSocketAddress(
    _ address: IPAddress, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
) -> Int32 {
    var storage = sockaddr_storage()
    return withUnsafeMutableBytes(of: &storage) { bytes in
        bytes.storeBytes(of: UInt16(address.family == .ipv4 ? AF_INET : AF_INET6), as: UInt16.self)
        bytes.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
        for (index, byte) in address.bytes.enumerated() { bytes[(address.family == .ipv4 ? 4 : 8) + index] = byte }
        let length = address.family == .ipv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
        return body(bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(length))
    }
}
