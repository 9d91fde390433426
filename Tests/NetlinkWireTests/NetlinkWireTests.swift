import NetlinkWire
import NetworkAddresses
import Testing

@Suite struct WritingTests {
    @Test func `a message's lengths and padding are filled in`() {
        let message = AttributeWriter.message(type: 0x1234, flags: 0x0605) { message in
            message.attribute(1, UInt8(0xaa))
            message.attribute(nested: 2) { nest in
                nest.attribute(3, bigEndian: UInt16(0x0102))
                nest.attribute(4, text: "lo")
            }
            message.attribute(5, bytes: [])
        }
        // Little-endian hosts only: the expectation is bytes.
        #expect(
            message
                == hex(
                    """
                    30000000 3412 0506 00000000 00000000
                    0500 0100 aa000000
                    1400 0280  0600 0300 01020000  0700 0400 6c6f0000
                    0400 0500
                    """))
    }

    @Test func `what is written is read back`() throws {
        let message = AttributeWriter.message(type: 7, flags: 1) { message in
            message.append(bytes: [2, 0, 0, 0])
            message.attribute(1, UInt32(0xdead_beef))
            message.attribute(2, bigEndian: UInt64.max - 1)
            message.attribute(3, text: "vxlan0")
            message.attribute(nested: 4) { $0.attribute(5, bytes: [10, 0, 0, 1]) }
        }
        var seen: [String] = []
        try message.span.forEachMessage { header, message throws(DecodeError) in
            seen.append("\(header.type) \(header.flags) \(header.length)")
            try message.forEachAttribute(from: 20) { type, value throws(DecodeError) in
                switch type {
                case 1: seen.append("\(try value.integer(as: UInt32.self) == 0xdead_beef)")
                case 2: seen.append("\(try value.bigEndian(as: UInt64.self) == .max - 1)")
                case 3: seen.append(value.text())
                case 4:
                    try value.forEachAttribute { type, value throws(DecodeError) in
                        seen.append("\(type) \(try value.address())")
                    }
                default: seen.append("?")
                }
            }
        }
        #expect(seen == ["7 1 64", "true", "true", "vxlan0", "5 10.0.0.1"])
    }
}

@Suite struct ReadingTests {
    @Test(arguments: [
        ([4, 0], DecodeError.truncated), ([3, 0, 1, 0], .badLength(3)), ([0, 0, 1, 0], .badLength(0)),
        ([8, 0, 1, 0, 1, 2, 3], .truncated), ([0xff, 0xff, 1, 0], .truncated), ([4, 0, 1, 0, 9], .truncated),
    ])
    func `an attribute that breaks its frame is refused`(bytes: [UInt8], error: DecodeError) {
        #expect(throws: error) {
            try bytes.span.forEachAttribute { _, _ throws(DecodeError) in }
        }
    }

    @Test(arguments: [
        ([UInt8](repeating: 0, count: 15), DecodeError.badLength(0)),
        ([15, 0, 0, 0] + [UInt8](repeating: 0, count: 12), .badLength(15)),
        ([17, 0, 0, 0] + [UInt8](repeating: 0, count: 12), .truncated),
        ([0xff, 0xff, 0xff, 0xff] + [UInt8](repeating: 0, count: 12), .truncated), ([16, 0, 0], .truncated),
    ])
    func `a message that breaks its frame is refused`(bytes: [UInt8], error: DecodeError) {
        #expect(throws: error) {
            try bytes.span.forEachMessage { _, _ throws(DecodeError) in }
        }
    }

    @Test func `the last attribute may lack its padding, and nothing at all is nothing`() throws {
        var lengths: [Int] = []
        let (one, none): ([UInt8], [UInt8]) = ([5, 0, 1, 0, 7], [])
        try one.span.forEachAttribute { _, value in lengths.append(value.count) }
        try none.span.forEachAttribute { _, value in lengths.append(value.count) }
        #expect(lengths == [1])
        #expect(throws: DecodeError.truncated) {
            try one.span.forEachAttribute(from: 6) { _, _ throws(DecodeError) in }
        }
    }

    @Test func `a value of the wrong size is refused`() {
        let bytes: [UInt8] = [1, 2, 3]
        #expect(throws: DecodeError.wrongSize(expected: 4, found: 3)) { try bytes.span.integer(as: UInt32.self) }
        #expect(throws: DecodeError.wrongSize(expected: 2, found: 3)) { try bytes.span.bigEndian(as: UInt16.self) }
        #expect(throws: DecodeError.wrongSize(expected: 16, found: 3)) { try bytes.span.address() }
        #expect(throws: DecodeError.truncated) { try bytes.span.bigEndian(at: 2, as: UInt16.self) }
    }

    @Test func `numbers keep their byte order and sign`() throws {
        let bytes: [UInt8] = [0xfe, 0xff, 0xff, 0xff]
        #expect(try bytes.span.integer(as: Int32.self) == -2)
        #expect(try bytes.span.bigEndian(as: UInt32.self) == 0xfeff_ffff)
        #expect(try bytes.span.integer(at: 3, as: UInt8.self) == 0xff)
    }
}

@Suite struct AcknowledgementTests {
    @Test(arguments: [
        (Captured.explainedError, "Nexthop has invalid gateway"),
        (Captured.errorWithRequest, "Nexthop has invalid gateway"), (Captured.bareError, nil),
    ])
    func `an error has the kernel's words wherever they stand`(bytes: [UInt8], words: String?) throws {
        let found = try values(in: bytes) { header, message throws(DecodeError) in
            try Acknowledgement(header: header, message: message)
        }
        #expect(found == [Acknowledgement(errorNumber: 101, message: words)])
    }

    @Test func `the end of a dump is a success`() throws {
        let found = try values(in: Captured.done) { header, message throws(DecodeError) in
            try Acknowledgement(header: header, message: message)
        }
        #expect(found == [Acknowledgement(errorNumber: 0)])
    }

    @Test func `another message is no acknowledgement`() throws {
        let found = try values(in: Captured.connections) { header, message throws(DecodeError) in
            try Acknowledgement(header: header, message: message)
        }
        #expect(found.isEmpty)
    }
}

@Suite struct ConntrackMessageTests {
    private let service = ConntrackTuple(
        source: IPAddress("10.96.0.9")!, destination: IPAddress("10.96.0.1")!, protocolNumber: 6,
        detail: .ports(source: 47484, destination: 80))

    @Test func `a rewritten connection and a ping are read whole`() throws {
        let found = try values(in: Captured.connections) { header, message throws(DecodeError) in
            try ConntrackEntry(header: header, message: message)
        }
        let home = IPAddress("127.0.0.1")!
        // IPS_SRC_NAT_DONE and IPS_DST_NAT_DONE: NAT was considered, whatever came of it.
        let natDone = ConntrackEntry.Status(rawValue: 1 << 7 | 1 << 8)
        #expect(
            found == [
                ConntrackEntry(
                    original: service,
                    reply: ConntrackTuple(
                        source: home, destination: IPAddress("10.96.0.9")!, protocolNumber: 6,
                        detail: .ports(source: 8080, destination: 47484)),
                    mark: 42,
                    status: [.seenReply, .assured, .confirmed, .destinationNAT, natDone], timeout: 431_999),
                ConntrackEntry(
                    original: ConntrackTuple(
                        source: home, destination: home, protocolNumber: 1,
                        detail: .icmp(type: 8, code: 0, identifier: 2810)),
                    reply: ConntrackTuple(
                        source: home, destination: home, protocolNumber: 1,
                        detail: .icmp(type: 0, code: 0, identifier: 2810)),
                    status: [.seenReply, .confirmed, natDone], timeout: 29),
            ])
    }

    /// `conntrack -D -p tcp --orig-port-dst 80` sends this tuple for the same connection.
    @Test func `a deletion names the original direction as conntrack does`() {
        #expect(
            ConntrackEntry.deleteRequest(original: service)
                == hex(
                    """
                    48000000 0201 0000 00000000 00000000  02000000
                    34000180 14000180 080001000a600009 080002000a600001
                    1c000280 0500010006000000 06000200b97c0000 0600030000500000
                    """))
    }

    /// `conntrack -D -p tcp --orig-port-dst 80 -d 10.96.0.1`, were it to leave the search to the kernel.
    @Test func `a filter says what of which direction is to be compared`() {
        let filter = ConntrackFilter(.ipv4, to: .init(.tcp, Port(80)!), at: service.destination)
        #expect(
            ConntrackEntry.deleteRequest(filter)
                == hex(
                    """
                    44000000 0201 0000 00000000 00000000  02010000
                    24000180 0c000180 080002000a600001
                    14000280 0500010006000000 0600030000500000
                    0c001980 080001002a000000
                    """))
    }

    @Test func `a filter meets what it names, and nothing else`() {
        let pod = IPAddress("10.88.0.2")!
        var entry = ConntrackEntry(original: service, reply: service)
        entry.reply.source = pod
        #expect(ConntrackFilter(.reply, from: pod).matches(entry))
        #expect(!ConntrackFilter(.original, from: pod).matches(entry))
        #expect(ConntrackFilter(.original, from: service.source).matches(entry))
        for (port, address, isMet) in [
            (80, nil, true), (80, service.destination, true), (81, nil, false), (80, service.source, false),
        ] as [(Int, IPAddress?, Bool)] {
            #expect(ConntrackFilter(.ipv4, to: .init(.tcp, Port(port)!), at: address).matches(entry) == isMet)
            #expect(!ConntrackFilter(.ipv4, to: .init(.udp, Port(port)!), at: address).matches(entry))
            #expect(!ConntrackFilter(.ipv6, to: .init(.tcp, Port(port)!), at: nil).matches(entry))
        }
    }

    @Test(arguments: ["10.0.0.1", "fd00::1"])
    func `every kind of tuple written is the tuple read`(address: String) throws {
        let here = IPAddress(address)!
        let details: [(UInt8, ConntrackTuple.Detail)] = [
            (17, .ports(source: 1, destination: 65535)), (1, .icmp(type: 8, code: 3, identifier: 9)), (47, .none),
        ]
        for (number, detail) in details {
            let tuple = ConntrackTuple(
                source: here, destination: here.advanced(by: 1)!, protocolNumber: number, detail: detail)
            var request = ConntrackEntry.deleteRequest(original: tuple)
            // As the kernel would say it: the original direction, the same as the reply, in a message of type NEW.
            request[4] = 0
            let nest = Array(request[20...])
            var reply = nest
            reply[2] = 2
            request += reply
            request[0] = UInt8(request.count)
            let entries = try values(in: request) { header, message throws(DecodeError) in
                try ConntrackEntry(header: header, message: message)
            }
            #expect(entries == [ConntrackEntry(original: tuple, reply: tuple)])
        }
    }

    @Test func `a tuple is shown as people write it`() {
        #expect(service.description == "tcp 10.96.0.9:47484 → 10.96.0.1:80")
    }
}

@Suite struct ListeningSocketTests {
    @Test func `an IPv4 listener is read`() throws {
        let found = try values(in: Captured.listeningTCP) { _, message throws(DecodeError) in
            try ListeningSocket(.tcp, message: message)
        }
        #expect(found == [ListeningSocket(.tcp, IPAddress("0.0.0.0")!, Port(8080)!)])
    }

    @Test func `an IPv6 socket tells whether it takes IPv4`() throws {
        let read = { (bytes: [UInt8]) in
            try values(in: bytes) { _, message throws(DecodeError) in try ListeningSocket(.udp, message: message) }
        }
        let anywhere = IPAddress("::")!
        #expect(try read(Captured.waitingUDP) == [ListeningSocket(.udp, anywhere, Port(5353)!, isDualStack: true)])
        var only = Captured.waitingUDP
        // INET_DIAG_SKV6ONLY, the second attribute.
        only[100] = 1
        #expect(try read(only) == [ListeningSocket(.udp, anywhere, Port(5353)!)])
    }

    @Test func `a socket receives what is sent to its address and port`() {
        let here = SocketAddress(IPAddress("10.0.0.1")!, Port(80)!)
        let here6 = SocketAddress(IPAddress("fd00::1")!, Port(80)!)
        let all = ListeningSocket(.tcp, IPAddress("0.0.0.0")!, Port(80)!)
        #expect(all.receives(.tcp, at: here) && !all.receives(.udp, at: here) && !all.receives(.tcp, at: here6))
        #expect(!all.receives(.tcp, at: SocketAddress(here.address, Port(81)!)))
        let one = ListeningSocket(.tcp, IPAddress("127.0.0.1")!, Port(80)!)
        #expect(!one.receives(.tcp, at: here))
        #expect(ListeningSocket(.tcp, here.address, Port(80)!).receives(.tcp, at: here))
        let dual = ListeningSocket(.tcp, IPAddress("::")!, Port(80)!, isDualStack: true)
        #expect(dual.receives(.tcp, at: here) && dual.receives(.tcp, at: here6))
        #expect(!ListeningSocket(.tcp, IPAddress("::")!, Port(80)!).receives(.tcp, at: here))
    }

    @Test func `a request asks for the waiting sockets of one family`() {
        let request = ListeningSocket.request(.tcp, .ipv6)
        #expect(request.count == 72)
        #expect(Array(request[..<24]) == hex("48000000 1400 0000 00000000 00000000 0a060000 00040000"))
    }
}

@Suite struct TruncationTests {
    /// Every reader there is, on every kind of message.
    private func readEverything(_ bytes: [UInt8]) throws(DecodeError) -> Int {
        var read = 0
        try bytes.span.forEachMessage { header, message throws(DecodeError) in
            if try Acknowledgement(header: header, message: message) != nil { read += 1 }
            if try ConntrackEntry(header: header, message: message) != nil { read += 1 }
            if header.type == 20, try ListeningSocket(.tcp, message: message) != nil { read += 1 }
        }
        return read
    }

    @Test(arguments: [
        Captured.connections, Captured.listeningTCP, Captured.waitingUDP, Captured.explainedError,
        Captured.errorWithRequest, Captured.bareError, Captured.done,
    ])
    func `every truncation of a good message throws, and none traps`(message: [UInt8]) throws {
        #expect(try readEverything(message) > 0)
        let first = Int(message[0])
        for count in 1..<message.count where count != first {
            #expect(throws: DecodeError.self, "\(count) of \(message.count) bytes") {
                try readEverything(Array(message[..<count]))
            }
        }
    }

    @Test(arguments: [
        Captured.connections, Captured.listeningTCP, Captured.waitingUDP, Captured.explainedError,
        Captured.errorWithRequest,
    ])
    func `a message cut short that says so itself throws or lacks something, and none traps`(message: [UInt8]) {
        let whole = Int(message[0])
        for count in MessageHeader.size..<whole {
            var cut = Array(message[..<count])
            cut[0] = UInt8(count)
            _ = try? readEverything(cut)
        }
    }

    @Test func `no byte changed makes a reader trap`() {
        for message in [Captured.connections, Captured.listeningTCP, Captured.waitingUDP, Captured.errorWithRequest] {
            for position in message.indices {
                for value: UInt8 in [0, 1, 3, 0x7f, 0x80, 0xff] {
                    var changed = message
                    changed[position] = value
                    _ = try? readEverything(changed)
                }
            }
        }
    }
}
