import NetworkAddresses
import Testing

@Suite struct AddressTests {
    @Test(arguments: [
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("fe80::1:0:0:2", "fe80::1:0:0:2"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("::ffff:10.0.0.1", "::ffff:a00:1"), ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ]) func `IPv6 is read and printed in its canonical form`(text: String, canonical: String) {
        #expect(IPv6Address(text)?.description == canonical)
    }

    @Test(arguments: [
        "", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7:", ":1::",
        "::1.2.3", "1.2.3.4::", "fe80::1%eth0", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
    ]) func `what is no IPv6 address is refused`(text: String) {
        #expect(IPv6Address(text) == nil)
    }

    @Test(arguments: ["", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.-4", " 1.2.3.4", "1.2.3.4\n", "1..2.3"])
    func `what is no IPv4 address is refused`(text: String) {
        #expect(IPv4Address(text) == nil)
    }

    @Test func `a prefix knows its edges and its members`() throws {
        let prefix = try #require(IPPrefix("10.244.1.7/24"))
        #expect(prefix.first == IPAddress("10.244.1.0") && prefix.last == IPAddress("10.244.1.255"))
        #expect(prefix.network.description == "10.244.1.0/24" && !prefix.isNetwork && prefix.network.isNetwork)
        #expect(prefix.contains(IPAddress("10.244.1.200")!) && !prefix.contains(IPAddress("10.244.2.1")!))
        #expect(!prefix.contains(IPAddress("::1")!))
        #expect(IPPrefix("0.0.0.0/0")!.last == IPAddress("255.255.255.255"))
        #expect(IPPrefix("::/0")!.contains(IPAddress("ffff::")!))
        #expect(IPPrefix("10.0.0.0/8")!.overlaps(prefix) && prefix.overlaps(IPPrefix("10.0.0.0/8")!))
        #expect(!prefix.overlaps(IPPrefix("10.244.2.0/24")!))
    }

    @Test(arguments: ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/08", "/8", "10.0.0.0/-1"])
    func `what is no prefix is refused`(text: String) {
        #expect(IPPrefix(text) == nil)
    }

    @Test func `an address moves on and stops at the end of its family`() {
        #expect(IPAddress("10.0.0.255")!.advanced(by: 1) == IPAddress("10.0.1.0"))
        #expect(IPAddress("255.255.255.255")!.advanced(by: 1) == nil)
        #expect(IPAddress("fd00::ffff")!.advanced(by: 1) == IPAddress("fd00::1:0"))
    }

    @Test func `bytes and addresses are one to one`() {
        for text in ["10.1.2.3", "fd00::5"] {
            #expect(IPAddress(bytes: IPAddress(text)!.bytes) == IPAddress(text))
        }
        #expect(IPAddress(bytes: [1, 2, 3]) == nil)
    }
}

@Suite struct NameTests {
    @Test(arguments: ["", ".", "..", "a/b", "a:b", "a b", "sixteen-letters!", "tab\there", "new\nline"])
    func `what the kernel would refuse is no interface name`(text: String) {
        #expect(InterfaceName(text) == nil)
    }

    @Test func `Ethernet addresses`() {
        #expect(MACAddress("02:42:AC:11:00:02")?.description == "02:42:ac:11:00:02")
        #expect(MACAddress("02:42:ac:11:00") == nil && MACAddress("02:42:ac:11:00:0") == nil)
        #expect(MACAddress(locallyAdministered: .max).bytes[0] & 3 == 2)
        #expect(MACAddress("fa:01:12:34:56:78")?.linkLocalAddress == IPv6Address("fe80::f801:12ff:fe34:5678"))
    }

    @Test func `ports and protocols`() {
        #expect(Port(0) == nil && Port(70000) == nil && Port("080") == nil && Port("443")?.rawValue == 443)
        #expect(TransportProtocol("UDP") == .udp && TransportProtocol("icmp") == nil)
        #expect(SocketAddress(IPAddress("fd00::1")!, Port(80)!).description == "[fd00::1]:80")
    }
}
