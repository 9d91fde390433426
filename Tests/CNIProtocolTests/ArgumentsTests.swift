import NetworkAddresses
import Testing

@testable import CNIProtocol

@Suite struct ArgumentsTests {
    @Test func `Kubernetes' arguments are read in any order`() throws {
        let arguments = try CNIArguments(
            parsing:
                "K8S_POD_NAME=web-0;IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_UID=u;FOO=bar;MAC=02:00:00:00:00:07;IP=10.1.2.3/24"
        )
        #expect(arguments["K8S_POD_NAMESPACE"] == "shop" && arguments["K8S_POD_NAME"] == "web-0")
        #expect(try arguments.requestedMAC() == MACAddress("02:00:00:00:00:07"))
        #expect(try arguments.requestedAddress() == IPAddress("10.1.2.3"))
    }

    @Test func `no arguments are none`() throws {
        #expect(try CNIArguments(parsing: "") == CNIArguments())
        #expect(try CNIArguments(parsing: "IP=").requestedAddress() == nil)
    }

    @Test(arguments: [
        ("FOO", #"CNI_ARGS: invalid pair "FOO""#), ("A=B=C", #"CNI_ARGS: invalid pair "A=B=C""#),
        ("IP=10.1.2.3;", #"CNI_ARGS: invalid pair """#), ("FOO=bar;IP=1.2.3.4", #"CNI_ARGS: unknown args ["FOO=bar"]"#),
        ("FOO=bar;IgnoreUnknown=0", #"CNI_ARGS: unknown args ["FOO=bar"]"#),
        ("FOO=bar;IgnoreUnknown=maybe", #"CNI_ARGS: error parsing value of pair "IgnoreUnknown=maybe": no boolean"#),
        ("ip=1.2.3.4", #"CNI_ARGS: unknown args ["ip=1.2.3.4"]"#),
    ])
    func `malformed arguments are refused by pair`(text: String, message: String) {
        let error = #expect(throws: CNIError.self) { try CNIArguments(parsing: text) }
        #expect(error?.code == .invalidEnvironment && error?.message == message)
    }

    @Test func `a value that is none is refused where it is asked for`() throws {
        let arguments = try CNIArguments(parsing: "IP=10.1.2;MAC=zz")
        #expect(
            throws: CNIError(.invalidEnvironment, #"CNI_ARGS: error parsing value of pair "IP=10.1.2": no IP address"#)
        ) {
            try arguments.requestedAddress()
        }
        #expect(throws: CNIError.self) { try arguments.requestedMAC() }
    }
}

@Suite struct ValidAttachmentsTests {
    private func attachments(_ text: String) throws -> Set<AttachmentID> {
        let object = try #require(try JSONValue(parsing: text).object)
        return try NetworkConfiguration(json: object, version: .v1_1_0, name: "n").validAttachments()
    }

    @Test func `the list has two names and its absence is an empty list`() throws {
        let one: Set = [AttachmentID(containerID: "c", interface: InterfaceName("eth0")!)]
        #expect(try attachments(#"{"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}"#) == one)
        #expect(try attachments(#"{"cni.dev/attachments":[{"containerID":"c","ifname":"eth0"}]}"#) == one)
        #expect(try attachments(#"{"cni.dev/valid-attachments":[]}"#).isEmpty)
        #expect(try attachments("{}").isEmpty)
    }

    @Test(arguments: [
        #"{"cni.dev/valid-attachments":{}}"#, #"{"cni.dev/valid-attachments":["c"]}"#,
        #"{"cni.dev/valid-attachments":[{"containerID":"c"}]}"#,
        #"{"cni.dev/valid-attachments":[{"ifname":"eth0"}]}"#,
        #"{"cni.dev/valid-attachments":[{"containerID":"c","ifname":"a/b"}]}"#,
    ])
    func `what is no list of attachments frees nothing`(text: String) {
        let error = #expect(throws: CNIError.self) { try attachments(text) }
        #expect(error?.code == .invalidConfiguration)
    }
}

@Suite struct AttachmentRecordTests {
    static let record = AttachmentRecord(
        attachment: AttachmentID(containerID: "c1", interface: InterfaceName("eth0")!), network: "pods",
        namespacePath: "/run/netns/x", podNamespace: "shop", podName: "web-0", podUID: "u",
        addresses: [IPAddress("10.1.2.3")!, IPAddress("fd00::3")!], hostInterface: InterfaceName("fl0123456789a")!,
        hostMAC: MACAddress("02:00:00:00:00:01")!, podMAC: MACAddress("02:00:00:00:00:02")!)

    @Test func `a record is read as it was written`() throws {
        #expect(try AttachmentRecord(json: Self.record.json) == Self.record)
        #expect(
            try JSONValue(parsing: Self.record.json) == [
                "containerID": "c1", "ifname": "eth0", "network": "pods", "netns": "/run/netns/x",
                "podNamespace": "shop",
                "podName": "web-0", "podUID": "u", "addresses": ["10.1.2.3", "fd00::3"],
                "hostInterface": "fl0123456789a", "hostMAC": "02:00:00:00:00:01", "podMAC": "02:00:00:00:00:02",
            ])
    }

    @Test(arguments: [
        "", "{}", "[]", #"{"containerID":"c","ifname":"a/b"}"#, #"{"containerID":"c","ifname":"e","addresses":["x"]}"#,
    ])
    func `a record that is none is refused`(text: String) {
        #expect(throws: CNIError.self) { try AttachmentRecord(json: text) }
    }

    @Test func `file names tell attachments apart and fit`() {
        let name = { (id: String, interface: String) in
            AttachmentRecord.fileName(of: AttachmentID(containerID: id, interface: InterfaceName(interface)!))
        }
        #expect(name("c1", "eth0") == "c1-eth0.json")
        #expect(name("a-eth0", "b") == "a-eth0-b.json" && name("a", "eth0-b") != "a-eth0-b.json")
        let long = String(repeating: "x", count: 10_000)
        #expect(name(long, "eth0").utf8.count <= 255 && name(long, "eth0") != name(long + "y", "eth0"))
    }

    @Test func `the fingerprint is the same for all time`() {
        // The number is in the names of interfaces of running pods: a change of the function would orphan them.
        #expect(Self.record.attachment.fingerprint == 0xecdf_dd16_2ccb_905e)
    }
}
