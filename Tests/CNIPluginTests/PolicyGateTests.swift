import CNIProtocol
import KernelInterface
import NetworkAddresses
import Nftables
import Testing

@testable import fairlead_cni

/// Makes the agent's table with its two sets of admitted pods.
private func makePolicyTable(on node: Node, admitting addresses: String...) throws {
    let socket = try node.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
    var ruleset = Ruleset(PolicyGate.table)
    for family in AddressFamily.allCases {
        let members = addresses.compactMap { IPAddress($0) }.filter { $0.family == family }
        ruleset.sets[PolicyGate.set(of: family)] = NamedSet(
            SetDefinition(key: [.address(family)]),
            members.map { Element(ElementKey(.address($0))) })
    }
    try socket.apply([.addTable] + Ruleset(PolicyGate.table).changes(to: ruleset), to: PolicyGate.table)
}

@Suite(.needsRoot) struct PolicyGateTests {
    private func add(_ node: Node, _ pod: Pod, _ gate: String, timeout: Int = 50) throws -> Answer {
        let keys: JSONObject = ["policyGate": .string(gate), "policyGateTimeout": .number(JSONNumber(timeout))]
        return try node.run("fairlead", "ADD", node.configuration(keys), netns: pod.path)
    }

    @Test func `without the agent's table there is nothing to wait for`() throws {
        let node = try Node()
        #expect(try add(node, node.pod(), "wait").isSuccess)
    }

    @Test func `a pod that is not admitted in time is not attached`() throws {
        let node = try Node()
        let pod = try node.pod()
        try makePolicyTable(on: node, admitting: "10.88.0.2", "fd00:88::99")
        let refused = try add(node, pod, "wait")
        #expect(refused.code == 11)
        #expect(refused.message == "the node agent has not admitted fd00:88::2 to its policy in time")
        #expect(try node.remains() == [])
        #expect(try pod.links().count == 1)
    }

    @Test func `a pod whose addresses are all admitted passes`() throws {
        let node = try Node()
        try makePolicyTable(on: node, admitting: "10.88.0.2", "fd00:88::2")
        #expect(try add(node, node.pod(), "wait", timeout: 0).isSuccess)
    }

    @Test(arguments: ["closed", "open", ""]) func `the other gates wait for nobody`(gate: String) throws {
        let node = try Node()
        try makePolicyTable(on: node)
        #expect(try add(node, node.pod(), gate).isSuccess)
    }
}

@Suite(.needsRoot) struct AttachmentRecordFileTests {
    @Test func `the record says whose pod it is and goes with it`() throws {
        let node = try Node()
        let pod = try node.pod()
        let arguments =
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1;K8S_POD_INFRA_CONTAINER_ID=c1"
        let added = try node.run(
            "fairlead", "ADD", node.configuration(), netns: pod.path, environment: ["CNI_ARGS": arguments])
        let folder = try StateDirectory.open("\(node.folder)/state/attachments", create: false)
        let bytes = try #require(try folder.read("c1-eth0.json", limit: 10_000))
        let record = try AttachmentRecord(json: String(decoding: bytes, as: UTF8.self))
        #expect(record.podNamespace == "shop" && record.podName == "web-0" && record.podUID == "u-1")
        #expect(record.network == "pods" && record.namespacePath == pod.path)
        #expect(record.addresses.map(\.description) == added.hosts)
        let interfaces = added.json["interfaces"]?.array ?? []
        #expect(interfaces.first?.object?["name"]?.string == record.hostInterface.description)
        #expect(
            interfaces.map { $0.object?["mac"]?.string } == [record.hostMAC.description, record.podMAC.description])
        #expect(try node.run("fairlead", "DEL", node.configuration(), netns: pod.path).isSuccess)
        #expect(try folder.entries() == [])
    }

    @Test func `a record that cannot be written is a failure that leaves nothing`() throws {
        let node = try Node()
        let pod = try node.pod()
        // A plain file where the folder should be.
        try StateDirectory.open("\(node.folder)/state", create: true).create("attachments", [])
        let answer = try node.run("fairlead", "ADD", node.configuration(), netns: pod.path)
        #expect(answer.code == 5 && answer.message.hasPrefix("attachment record: "))
        #expect(try node.remains() == [])
        #expect(try node.run("fairlead", "DEL", node.configuration(), netns: pod.path).isSuccess)
    }
}
