import KernelInterface
import NetlinkWire
import NetworkAddresses
import Testing

@Suite(.needsRoot) struct ConntrackFilterTests {
    /// Filters, and the source ports of the connections that they leave of those below.
    private static let cases: [(filters: [ConntrackFilter], left: Set<UInt16>)] = [
        ([], [1, 2, 3, 4, 5]),
        ([.init(.original, from: pod)], [2, 3, 4, 5]),
        ([.init(.reply, from: pod)], [1, 4, 5]),
        (ConntrackFilter.Direction.allCases.map { .init($0, from: pod6) }, [1, 2, 3, 5]),
        ([.init(.ipv4, to: .init(.udp, Port(53)!), at: nil)], [3, 4]),
        ([.init(.ipv4, to: .init(.udp, Port(53)!), at: pod)], [1, 3, 4, 5]),
        ([.init(.ipv6, to: .init(.udp, Port(54)!), at: nil)], [1, 2, 3, 4, 5]),
    ]
    private static let pod = IPAddress("10.88.0.2")!
    private static let pod6 = IPAddress("fd00:88::2")!

    @Test(arguments: [false, true], cases.indices)
    func `the connections that a filter meets are forgotten, and no others`(oneByOne: Bool, number: Int) throws {
        let node = try NetworkNamespace.anonymous()
        // The table is only kept where something asks for it.
        _ = try node.output(of: "nft", "add table inet t; add chain inet t c; add rule inet t c ct state new accept")
        for (port, source, destination, kind) in [
            ("1", "10.88.0.2", "192.0.2.1", ["-p", "udp", "--dport", "53"]),
            ("2", "192.0.2.1", "10.88.0.2", ["-p", "udp", "--dport", "53"]),
            ("3", "192.0.2.1", "10.88.0.2", ["-p", "tcp", "--dport", "53", "--state", "ESTABLISHED"]),
            ("4", "fd00::1", "fd00:88::2", ["-p", "udp", "--dport", "53"]),
            ("5", "192.0.2.1", "192.0.2.2", ["-p", "udp", "--dport", "53"]),
        ] {
            let words = ["-I"] + kind + ["-s", source, "-d", destination, "--sport", port, "-t", "300"]
            let made = try node.withEntered { () throws(KernelError) in
                try ChildProcess.capture("conntrack", words, timeout: .seconds(20))
            }
            #expect(made.status.isSuccess, "\(made.errorText)")
        }
        let socket = try node.withEntered { () throws(KernelError) in try ConntrackSocket.open() }
        let (filters, left) = Self.cases[number]
        if oneByOne { try socket.deleteOneByOne(filters) } else { try socket.delete(filters) }
        #expect(try Set(socket.entries().compactMap { $0.original.sourcePort?.rawValue }) == left)
    }
}
