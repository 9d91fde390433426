import Glibc
import KubernetesObjects
import NetworkAddresses
import ServiceRules
import Testing

@testable import KernelInterface

private let hosts = [("out", "192.0.2.9"), ("near", "10.244.1.2"), ("near2", "10.244.1.3"), ("far", "10.244.2.2")]

/// A datagram socket that has nothing fragmented and knows how large a packet may be on its way.
private struct PathProbe: ~Copyable {
    private let socket: Descriptor
    private let family: AddressFamily

    init(to target: SocketAddress, from host: TrafficBed.Host) throws(KernelError) {
        family = target.address.family
        socket = try host.namespace.withEntered { () throws(KernelError) in
            let socket = try Descriptor.socket(.udp, target.address.family, for: "open a probe")
            let raw = socket.rawValue
            try systemCall("connect to \(target)") {
                RawSocketAddress.lend(RawSocketAddress.bytes(target.address, port: target.port.rawValue)) { connect(raw, $0, $1) }
            }
            return socket
        }
        // IP_PMTUDISC_DO: never a fragment, and too much is an error.
        var always: Int32 = 2
        let (level, option) = family == .ipv4 ? (IPPROTO_IP, IP_MTU_DISCOVER) : (IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        setsockopt(socket.rawValue, Int32(level), option, &always, socklen_t(MemoryLayout<Int32>.size))
    }

    /// What the kernel takes the way to carry.
    var pathMTU: Int32 {
        var value: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        let (level, option) = family == .ipv4 ? (IPPROTO_IP, IP_MTU) : (IPPROTO_IPV6, IPV6_MTU)
        getsockopt(socket.rawValue, Int32(level), option, &value, &size)
        return value
    }

    /// Sends a datagram of that size, and says how much comes back within five seconds; nil for nothing.
    func exchange(_ size: Int) -> Int? {
        let bytes = [UInt8](repeating: 0x78, count: size)
        guard Glibc.send(socket.rawValue, bytes, size, 0) == size else { return nil }
        var request = pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0)
        var buffer = [UInt8](repeating: 0, count: 2000)
        poll(&request, 1, 5000)
        let count = recv(socket.rawValue, &buffer, buffer.count, 0)
        return count >= 0 ? count : nil
    }
}

/// What routers and hosts say of packets that cannot get through: it is about the addresses on one side of the
/// translation, and must reach the program on the other side in its own terms.
@Suite(.needsRoot, .serialized) struct RouterMessageTests {
    private func web(_ transport: TransportProtocol, _ policy: Service.TrafficPolicy = .cluster) -> Service {
        var service = Service(
            metadata: ObjectMetadata(name: "web", namespace: "shop"), type: .nodePort,
            clusterIPs: [IPAddress("10.96.0.10")!, IPAddress("fd00:10:96::10")!],
            ports: [ServicePort(name: "http", protocol: transport, number: Port(80)!, nodePort: Port(30080)!)])
        service.externalTrafficPolicy = policy
        return service
    }

    private func apply(_ bed: TrafficBed, _ service: Service, _ name: String, port: Int = 8080) async throws {
        for (number, family) in AddressFamily.allCases.enumerated() {
            var slice = bed.slice(of: service, [bed.endpoint(name, family)], family, number: number)
            slice.ports[0].number = Port(port)!
            try await bed.apply(.service(service), .endpointSlice(slice))
        }
    }

    /// The cluster IP, and the node's address with the node port.
    private func frontends(_ family: AddressFamily) -> [SocketAddress] {
        let node = family == .ipv4 ? TrafficBed.nodeAddress : TrafficBed.sixth(TrafficBed.nodeAddress)
        let cluster = IPAddress(family == .ipv4 ? "10.96.0.10" : "fd00:10:96::10")!
        return [SocketAddress(cluster, Port(80)!), SocketAddress(node, Port(30080)!)]
    }

    /// How often a host's kernel has told somebody that a packet cannot get through.
    private func messagesSent(_ host: borrowing NetworkNamespace, _ family: AddressFamily, _ columns: [String]) throws -> Int {
        let text = try host.withEntered { () throws(KernelError) in
            try ChildProcess.capture("cat", ["/proc/self/net/snmp", "/proc/self/net/snmp6"], timeout: .seconds(20)).text
        }
        let lines = text.split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
        if family == .ipv6 {
            return lines.filter { $0.count == 2 && columns.contains($0[0]) }.compactMap { Int($0[1]) }.reduce(0, +)
        }
        let icmp = lines.filter { $0[0] == "Icmp:" }
        return columns.compactMap { icmp[0].firstIndex(of: $0) }.compactMap { Int(icmp[1][$0]) }.reduce(0, +)
    }

    @Test(arguments: AddressFamily.allCases)
    func `a client of a service learns how large a packet may be on the way to the endpoint`(family: AddressFamily) async throws {
        let bed = try TrafficBed(hosts)
        try await apply(bed, web(.udp), "far")
        try bed.narrow("far", to: 1300)
        for client in ["near", "out"] {
            for frontend in frontends(family) {
                let probe = try PathProbe(to: frontend, from: bed.hosts[client]!)
                let before = probe.pathMTU
                let tooLarge = probe.exchange(1400)
                let after = probe.pathMTU
                #expect(before == 1500 && tooLarge == nil && after == 1300, "\(client) to \(frontend)")
                let answered = probe.exchange(1200)
                #expect(answered != nil, "\(client) to \(frontend)")
            }
        }
    }

    @Test(arguments: AddressFamily.allCases, ["far", "near"])
    func `a connection carries much although the way is narrow there, back, or beyond the client`(
        family: AddressFamily, endpoint: String
    ) async throws {
        let bed = try TrafficBed(hosts)
        try bed.add("beyond", at: IPAddress("198.51.100.77")!, behind: "out", mtu: 1300)
        let tooBig = family == .ipv4 ? ["OutDestUnreachs"] : ["Icmp6OutPktTooBigs"]
        for policy in [Service.TrafficPolicy.cluster, .local] {
            try await apply(bed, web(.tcp, policy), endpoint)
            // From outside, a Local policy serves from this node's endpoints only.
            let reachable = policy == .local && endpoint == "far" ? Array(frontends(family).prefix(1)) : frontends(family)
            for frontend in reachable {
                for (client, narrow) in [("out", endpoint), ("out", "out"), ("near2", endpoint), ("near2", "near2"), ("beyond", nil)] {
                    if let narrow { try bed.narrow(narrow, to: 1300) }
                    let router = narrow == nil ? bed.hosts["out"]! : nil
                    func said() throws -> Int {
                        if let router { return try messagesSent(router.namespace, family, tooBig) }
                        return try messagesSent(bed.node, family, tooBig)
                    }
                    let before = try said()
                    let place = "\(client) to \(frontend) at \(endpoint), narrow at \(narrow ?? "the client's router")"
                    let connection = try bed.hosts[client]!.namespace.withEntered { () throws(KernelError) in
                        try ProbeConnection.open(.tcp, to: frontend, timeout: .seconds(10))
                    }
                    try connection.send("stream\n", timeout: .seconds(5))
                    let line = String(repeating: "x", count: 3900)
                    #expect(try connection.exchange(line: line, timeout: .seconds(20)) == "\(endpoint) \(line)", "\(place)")
                    #expect(try said() > before, "\(place): nothing was too large")
                    if let narrow { try bed.narrow(narrow, to: nil) }
                    try forgetPaths(bed)
                }
            }
        }
    }

    /// What the kernels have learnt about ways is no longer so.
    private func forgetPaths(_ bed: TrafficBed) throws {
        for host in bed.hosts.values {
            for family in ["-4", "-6"] {
                _ = try host.namespace.withEntered { () throws(KernelError) in
                    try ChildProcess.capture("ip", [family, "route", "flush", "cache"], timeout: .seconds(20))
                }
            }
        }
    }

    @Test(arguments: AddressFamily.allCases)
    func `an endpoint where nobody listens is refused to the client by its own kernel`(family: AddressFamily) async throws {
        let bed = try TrafficBed(hosts)
        let refusals = family == .ipv4 ? ["OutDestUnreachs"] : ["Icmp6OutDestUnreachs"]
        try await apply(bed, web(.udp), "far", port: 8081)
        for client in ["near", "out", nil] {
            for frontend in frontends(family) {
                let before = try messagesSent(bed.hosts["far"]!.namespace, family, refusals)
                #expect(try bed.ask("\(frontend.address)", Int(frontend.port.rawValue), from: client, udp: true) == "refused")
                let after = try messagesSent(bed.hosts["far"]!.namespace, family, refusals)
                #expect(after > before, "\(client ?? "the node") was refused by somebody else")
            }
        }
    }
}
