import Glibc
import KernelInterface
import NetlinkWire
import NetworkAddresses
import RouteNetlink
import SystemPackage
import Testing

private let localhost = IPAddress("127.0.0.1")!
private let localhost6 = IPAddress("::1")!
private let web = Port(8080)!
private let dns = Port(53)!

/// A pod server that serves in a namespace of its own while `body` runs.
private func withServer(
    name: String = "web-0", tcp: Set<Port> = [web], udp: Set<Port> = [dns],
    _ body: (Room) throws -> Void
) throws {
    let namespace = try NetworkNamespace.anonymous()
    let server = try namespace.withEntered { () throws(KernelError) in
        try RouteSocket.open().change(link: 1, LinkChange(isUp: true))
        return try PodServer.open(podName: name, tcpPorts: tcp, udpPorts: udp)
    }
    let shared = Serving(server: server, stop: try StopSignal.open())
    let thread = shared.start()
    defer {
        shared.stop.send()
        pthread_join(thread, nil)
    }
    try body(Room(namespace))
}

private final class Serving: Sendable {
    let server: PodServer
    let stop: StopSignal

    init(server: consuming PodServer, stop: consuming StopSignal) {
        self.server = server
        self.stop = stop
    }

    func start() -> pthread_t {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self).toOpaque()
        pthread_create(
            &thread, nil,
            { context in
                let serving = Unmanaged<Serving>.fromOpaque(context!).takeRetainedValue()
                serving.server.serve(until: serving.stop)
                return nil
            }, context)
        return thread
    }
}

/// A namespace that closures can name.
private final class Room: Sendable {
    let namespace: NetworkNamespace

    init(_ namespace: consuming NetworkNamespace) { self.namespace = namespace }

    func withEntered<Result: ~Copyable>(
        _ body: () throws(KernelError) -> Result
    ) throws(KernelError) -> Result {
        try namespace.withEntered(body)
    }

    func tcp(_ address: IPAddress, _ port: Port = web, send: String = "") throws -> Probe.Outcome {
        try withEntered { () throws(KernelError) in
            try Probe.tcp(to: SocketAddress(address, port), timeout: .seconds(5), send: send)
        }
    }

    func udp(_ address: IPAddress, _ port: Port = dns) throws -> Probe.Outcome {
        try withEntered { () throws(KernelError) in
            try Probe.udp(to: SocketAddress(address, port), timeout: .seconds(5))
        }
    }

    func connection(_ address: IPAddress) throws -> ProbeConnection {
        try withEntered { () throws(KernelError) in
            try ProbeConnection.open(to: SocketAddress(address, web), timeout: .seconds(5))
        }
    }
}

@Suite(.needsRoot) struct PodServerTests {
    @Test(arguments: [localhost, localhost6])
    func `a client that says anything gets the pod's name`(address: IPAddress) throws {
        try withServer { room throws in
            #expect(try room.tcp(address, send: "hello\n") == .reply("web-0\n"))
            #expect(try room.tcp(address, send: "\0\u{1}") == .reply("web-0\n"))
            #expect(try room.tcp(address, send: "get / lower case is no HTTP\n") == .reply("web-0\n"))
        }
    }

    @Test func `a client that says nothing gets the pod's name after 200 ms`() throws {
        try withServer { room throws in
            let start = ContinuousClock.now
            #expect(try room.tcp(localhost) == .reply("web-0\n"))
            let waited = ContinuousClock.now - start
            #expect(waited >= .milliseconds(200) && waited < .seconds(4))
        }
    }

    @Test(arguments: [localhost, localhost6])
    func `an HTTP request gets an HTTP answer with the pod and the client in its headers`(address: IPAddress) throws {
        try withServer { room throws in
            let request = "GET /cart HTTP/1.1\r\nhost: web\r\n\r\n"
            guard case .reply(let answer) = try room.tcp(address, send: request) else {
                Issue.record("no reply")
                return
            }
            let lines = answer.split(separator: "\r\n", omittingEmptySubsequences: false)
            #expect(lines.first == "HTTP/1.1 200 OK")
            #expect(lines.contains("x-pod: web-0") && lines.contains("content-type: text/plain"))
            #expect(lines.contains("connection: close") && lines.contains("content-length: 6"))
            #expect(lines.contains { $0.hasPrefix("x-client: \(address.bracketed):") })
            #expect(lines.suffix(2) == ["", "web-0\n"])
        }
    }

    @Test func `a real HTTP client is satisfied, also with a body to upload`() throws {
        try withServer { room throws in
            let got = try room.namespace.output(of: "curl", "-sS", "--max-time", "10", "http://127.0.0.1:8080/")
            #expect(got == "web-0\n")
            let body = String(repeating: "x", count: 100_000)
            let posted = try room.namespace.output(
                of: "curl", "-sS", "--max-time", "10", "-H", "expect:", "--data", body, "http://[::1]:8080/")
            #expect(posted == "web-0\n")
            let head = try room.namespace.output(of: "curl", "-sSI", "--max-time", "10", "http://127.0.0.1:8080/")
            #expect(head.contains("x-pod: web-0"))
        }
    }

    @Test func `a request that comes in pieces is still a request`() throws {
        try withServer { room throws in
            let connection = try room.connection(localhost)
            for piece in ["G", "ET / HT", "TP/1.1\r\nhost:"] {
                try connection.send(piece, timeout: .seconds(1))
                usleep(20_000)
            }
            #expect(try connection.exchange(line: " web\r\n\r", timeout: .seconds(5)).contains("HTTP/1.1 200 OK"))
        }
    }

    @Test func `a stream is held open and every line comes back with the name in front`() throws {
        try withServer { room throws in
            let connection = try room.connection(localhost6)
            #expect(try connection.exchange(line: "stream\none", timeout: .seconds(5)) == "web-0 one")
            usleep(400_000)
            #expect(try connection.exchange(line: "two", timeout: .seconds(5)) == "web-0 two")
            try connection.send("thr", timeout: .seconds(1))
            usleep(20_000)
            #expect(try connection.exchange(line: "ee", timeout: .seconds(5)) == "web-0 three")
            // Another client is served meanwhile.
            #expect(try room.tcp(localhost, send: "x") == .reply("web-0\n"))
        }
    }

    @Test(arguments: [localhost, localhost6])
    func `a datagram is answered with the name and its sender`(address: IPAddress) throws {
        try withServer { room throws in
            guard case .reply(let answer) = try room.udp(address) else {
                Issue.record("no reply")
                return
            }
            #expect(answer.hasPrefix("web-0 \(address.bracketed):") && answer.hasSuffix("\n"))
        }
    }

    @Test func `where nobody listens, probes are refused`() throws {
        try withServer { room throws in
            #expect(try room.tcp(localhost, Port(81)!) == .refused)
            #expect(try room.udp(localhost, Port(81)!) == .refused)
            #expect(try room.tcp(IPAddress("192.0.2.1")!) == .unreachable(.networkUnreachable))
        }
    }

    @Test func `where packets are dropped, probes run into their timeout`() throws {
        try withServer { room throws in
            _ = try room.namespace.output(of: "nft", "add table inet t")
            let drop = "add chain inet t in { type filter hook input priority 0; policy drop; }"
            _ = try room.namespace.output(of: "nft", drop)
            let (tcp, udp) = try room.withEntered { () throws(KernelError) in
                (
                    try Probe.tcp(to: SocketAddress(localhost, web), timeout: .milliseconds(100)),
                    try Probe.udp(to: SocketAddress(localhost, dns), timeout: .milliseconds(100))
                )
            }
            #expect(tcp == .timeout && udp == .timeout)
        }
    }

    @Test func `silent, hostile and countless clients do not stop the server`() throws {
        try withServer { room throws in
            var held: [Held] = []
            for number in 0..<700 {
                let client = Held(try room.connection(number % 2 == 0 ? localhost : localhost6))
                if number % 3 == 0 { try client.connection.send("stream\n", timeout: .seconds(1)) }
                held.append(client)
            }
            // One floods and never reads.
            let flood = String(repeating: "y", count: 1 << 20)
            let flooder = try room.connection(localhost)
            try flooder.send("stream\n", timeout: .seconds(1))
            let stuck = errno { try flooder.send(String(repeating: flood, count: 16), timeout: .milliseconds(300)) }
            #expect(stuck == .timedOut)
            // The newest is served, the oldest has lost its place.
            #expect(try room.tcp(localhost, send: "x") == .reply("web-0\n"))
            #expect(try held[699].connection.exchange(line: "still", timeout: .seconds(5)) == "web-0 still")
            #expect(errno { try held[0].connection.exchange(line: "gone?", timeout: .seconds(5)) } == .connectionReset)
        }
    }

    @Test func `a taken port is an error that names it`() throws {
        try withServer { room throws in
            let error = try room.withEntered { () throws(KernelError) in
                #expect(throws: KernelError.self) {
                    _ = try PodServer.open(podName: "web-1", tcpPorts: [Port(81)!, web], udpPorts: [])
                }
            }
            #expect(error?.errno == .addressInUse)
            #expect(error?.operation == "listen on IPv4 tcp port 8080")
            // Port 81 was opened before and is free again.
            #expect(try room.tcp(localhost, Port(81)!) == .refused)
        }
    }

    @Test func `a source address can be chosen`() throws {
        try withServer { room throws in
            let outcome = try room.withEntered { () throws(KernelError) in
                try Probe.udp(to: SocketAddress(localhost, dns), from: IPAddress("127.0.0.9"), timeout: .seconds(5))
            }
            guard case .reply(let answer) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(answer.hasPrefix("web-0 127.0.0.9:"))
        }
    }
}

/// A connection in an array.
private final class Held: Sendable {
    let connection: ProbeConnection
    init(_ connection: consuming ProbeConnection) { self.connection = connection }
}

@Suite(.needsRoot) struct ListeningSocketsTests {
    @Test func `a pod server's ports are listed in both families, each family's own`() throws {
        try withServer(tcp: [web, Port(9090)!], udp: [dns]) { room throws in
            let (tcp, udp, tcp4) = try room.withEntered { () throws(KernelError) in
                (
                    try ListeningSockets.list(.tcp), try ListeningSockets.list(.udp),
                    try ListeningSockets.list(.tcp, family: .ipv4)
                )
            }
            let anywhere = [IPAddress("0.0.0.0")!, IPAddress("::")!]
            let expected = anywhere.flatMap { address in
                [web, Port(9090)!].map { ListeningSocket(.tcp, address, $0) }
            }
            #expect(Set(tcp) == Set(expected))
            #expect(Set(udp) == Set(anywhere.map { ListeningSocket(.udp, $0, dns) }))
            #expect(Set(tcp4) == Set(expected.filter { $0.address.family == .ipv4 }))
        }
    }

    @Test func `a connected socket does not listen, and a bound one says where`() throws {
        try withServer { room throws in
            let connection = try room.connection(localhost)
            #expect(try connection.exchange(line: "stream\na", timeout: .seconds(5)) == "web-0 a")
            let script = "socat TCP-LISTEN:99,bind=127.0.0.1,so-bindtodevice=lo - & echo $!; sleep 0.3"
            let started = try room.namespace.output(of: "sh", "-c", script)
            let socat = try #require(started.split(separator: "\n").first.flatMap { Int32($0) })
            defer { kill(socat, SIGKILL) }
            let sockets = try room.withEntered { () throws(KernelError) in try ListeningSockets.list(.tcp) }
            #expect(sockets.count == 3)
            #expect(sockets.contains(ListeningSocket(.tcp, localhost, Port(99)!, link: 1)))
        }
    }
}

@Suite(.needsRoot) struct ConntrackSocketTests {
    @Test func `connections are listed with their rewriting and mark, and deleted one by one`() throws {
        try withServer { room throws in
            for rule in [
                "add table ip t", "add chain ip t out { type nat hook output priority -100; }",
                "add rule ip t out ip daddr 10.96.0.1 tcp dport 80 dnat to 127.0.0.1:8080",
                "add chain ip t in { type filter hook input priority 0; }",
                "add rule ip t in tcp dport 8080 ct mark set 42",
            ] {
                _ = try room.namespace.output(of: "nft", rule)
            }
            _ = try room.namespace.output(of: "ip", "address", "add", "10.96.0.9/24", "dev", "lo")
            let service = SocketAddress(IPAddress("10.96.0.1")!, Port(80)!)
            let connection = try room.withEntered { () throws(KernelError) in
                try ProbeConnection.open(to: service, timeout: .seconds(5))
            }
            #expect(try connection.exchange(line: "stream\na", timeout: .seconds(5)) == "web-0 a")
            let local = connection.localAddress
            let client = try #require(local)
            #expect(try room.udp(localhost6) != .timeout)

            let conntrack = try room.withEntered { () throws(KernelError) in try ConntrackSocket.open() }
            let entries = try conntrack.entries(.ipv4)
            let entry = try #require(entries.first { $0.original.destination == service.address })
            #expect(entry.original.source == client.address && entry.original.sourcePort == client.port)
            #expect(entry.original.transport == .tcp && entry.original.destinationPort == service.port)
            #expect(entry.reply.source == localhost && entry.reply.sourcePort == web)
            #expect(entry.mark == 42)
            #expect(entry.status.isSuperset(of: [.seenReply, .confirmed, .destinationNAT]))
            #expect(!entry.status.contains(.sourceNAT))
            #expect(entries.allSatisfy { $0.original.source.family == .ipv4 })
            // Without a rule of that family nothing of it is tracked.
            #expect(try conntrack.entries(.ipv6).isEmpty)

            #expect(try conntrack.delete(original: entry.original))
            #expect(try !conntrack.delete(original: entry.original))
            #expect(try conntrack.entries(.ipv4).allSatisfy { $0.original != entry.original })
        }
    }
}
