import NetworkAddresses
import Synchronization
import Testing

@testable import CNIProtocol

/// A plugin that does nothing but write down what it was asked.
private final class Witness: Plugin {
    let name = "witness"
    let asked = Mutex<[String]>([])
    let failure: CNIError?

    init(failing failure: CNIError? = nil) { self.failure = failure }

    private func note(_ verb: String) throws(CNIError) {
        asked.withLock { $0.append(verb) }
        if let failure { throw failure }
    }

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        try note("ADD \(request.attachment.containerID) \(request.attachment.interface) \(request.namespacePath)")
        return try request.configuration.previousResult() ?? AttachmentResult()
    }
    func delete(_ request: AttachmentRequest) throws(CNIError) { try note("DEL '\(request.namespacePath)'") }
    func check(_ request: AttachmentRequest) throws(CNIError) { try note("CHECK") }
    func collectGarbage(_ request: NetworkRequest) throws(CNIError) { try note("GC") }
    func status(_ request: NetworkRequest) throws(CNIError) { try note("STATUS") }
}

private let add = [
    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
]

private func outcome(
    _ environment: [String: String], _ input: String = #"{"name":"net","cniVersion":"1.1.0"}"#,
    of plugin: Witness = Witness()
) -> Outcome {
    run(plugin, environment: environment, input: { Array(input.utf8) }, isOwnNamespace: { $0 == "/own" })
}

private func failure(_ outcome: Outcome) throws -> (code: Int?, message: String, details: String?) {
    #expect(outcome.status != 0 && outcome.diagnostics.isEmpty)
    let object = try #require(try JSONValue(parsing: outcome.output).object)
    return (object["code"]?.integer, object["msg"]?.string ?? "", object["details"]?.string)
}

@Suite struct RunTests {
    @Test func `ADD reaches the plugin with what the environment says`() throws {
        let witness = Witness()
        let outcome = outcome(add, of: witness)
        #expect(witness.asked.withLock { $0 } == ["ADD c1 eth0 /run/netns/x"])
        #expect(try JSONValue(parsing: outcome.output) == ["cniVersion": "1.1.0"])
        #expect(outcome.status == 0 && outcome.diagnostics.isEmpty)
    }

    @Test(arguments: ["DEL", "CHECK", "GC", "STATUS"])
    func `the other verbs print nothing on success`(verb: String) {
        let witness = Witness()
        #expect(outcome(add.merging(["CNI_COMMAND": verb]) { $1 }, of: witness) == Outcome())
        #expect(witness.asked.withLock { $0.count } == 1)
    }

    @Test func `VERSION needs nothing else and leaves standard input alone`() throws {
        let outcome = run(
            Witness(), environment: ["CNI_COMMAND": "VERSION"],
            input: { () throws(CNIError) in
                Issue.record("standard input was read")
                return []
            }, isOwnNamespace: { _ in false })
        #expect(
            try JSONValue(parsing: outcome.output) == [
                "cniVersion": "1.1.0",
                "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
            ])
        #expect(outcome.status == 0)
    }

    @Test(arguments: [[:], ["CNI_COMMAND": ""]]) func `without a command a person is told what this is`(
        environment: [String: String]
    ) {
        let outcome = outcome(environment)
        #expect(outcome.output.isEmpty && outcome.status == 0)
        #expect(outcome.diagnostics.contains("witness") && outcome.diagnostics.contains("0.1.0, 0.2.0, 0.3.0"))
    }

    @Test(arguments: [
        ("ADD", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("CHECK", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("DEL", ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]), ("GC", ["CNI_PATH"]), ("STATUS", ["CNI_PATH"]),
    ])
    func `all missing variables are named at once`(verb: String, missing: [String]) throws {
        let failure = try failure(outcome(["CNI_COMMAND": verb, "CNI_CONTAINERID": ""]))
        #expect(failure.code == 4)
        #expect(failure.message == "required env variables [\(missing.joined(separator: ","))] missing")
    }

    @Test func `GC and STATUS come with an empty container id and DEL without a namespace`() {
        for verb in ["GC", "STATUS"] {
            #expect(
                outcome(["CNI_COMMAND": verb, "CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_PATH": "/x"]).status == 0)
        }
        let witness = Witness()
        #expect(outcome(add.merging(["CNI_COMMAND": "DEL", "CNI_NETNS": ""]) { $1 }, of: witness).status == 0)
        #expect(witness.asked.withLock { $0 } == ["DEL ''"])
    }

    @Test(arguments: [
        "-c", ".c", "_c", "../../etc", "a/b", "a b", "a\nb", "ä", "a;b", String(repeating: "/", count: 10_000),
    ])
    func `a container id with other characters is refused`(id: String) throws {
        let witness = Witness()
        let failure = try failure(outcome(add.merging(["CNI_CONTAINERID": id]) { $1 }, of: witness))
        #expect(failure.code == 4 && failure.message == "invalid characters in containerID")
        #expect(failure.details == String(id.prefix(200)))
        #expect(witness.asked.withLock { $0.isEmpty })
    }

    @Test(arguments: [
        ("sixteen-letters!", "interface name is too long"), (".", "interface name is . or .."),
        ("..", "interface name is . or .."), ("a/b", "interface name contains"), ("a:b", "interface name contains"),
        ("a b", "interface name contains"), ("a\nb", "interface name contains"),
        ("a\u{2003}b", "interface name contains"),
        (String(repeating: "x", count: 10_000), "interface name is too long"),
    ])
    func `an interface name that the kernel would refuse is refused`(name: String, message: String) throws {
        let failure = try failure(outcome(add.merging(["CNI_IFNAME": name]) { $1 }))
        #expect(failure.code == 4 && failure.message.contains(message) && failure.message.contains("CNI_IFNAME"))
    }

    @Test(arguments: [
        ("", 6, "error unmarshall network config"), ("[]", 6, "error unmarshall network config"),
        ("{", 6, "error unmarshall network config"), (#"{"name":7}"#, 6, "error unmarshall network config"),
        ("{}", 7, "missing network name"), (#"{"name":""}"#, 7, "missing network name"),
        (#"{"name":null}"#, 7, "missing network name"),
        (#"{"name":"a/b"}"#, 7, "invalid characters found in network name"),
        (#"{"name":"../x"}"#, 7, "invalid characters found in network name"),
        (#"{"name":"n","cniVersion":7}"#, 6, "decoding version from network config"),
        (#"{"name":"n","cniVersion":"0.5.0"}"#, 1, "incompatible CNI versions"),
        (#"{"name":"n","cniVersion":"1.1"}"#, 1, "incompatible CNI versions"),
        (#"{"name":"n","cniVersion":"99999999999999999999"}"#, 1, "incompatible CNI versions"),
        (#"{"name":"n","cniVersion":"1.2.0"}"#, 1, "incompatible CNI versions"),
    ])
    func `a configuration that is none is refused with the specification's code`(
        input: String, code: Int, message: String
    ) throws {
        let witness = Witness()
        let failure = try failure(outcome(add, input, of: witness))
        #expect(failure.code == code && failure.message.hasPrefix(message))
        #expect(witness.asked.withLock { $0.isEmpty })
    }

    @Test func `an unsupported version is answered with both sides`() throws {
        let failure = try failure(outcome(add, #"{"name":"n","cniVersion":"2.0.0"}"#))
        #expect(
            failure.details
                == #"config is "2.0.0", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#)
    }

    @Test(arguments: [
        ("CHECK", "0.3.1", 1, "config version does not allow CHECK"), ("CHECK", "x", 6, "decoding version"),
        ("CHECK", "2.0.0", 1, "plugin version does not allow CHECK"),
        ("CHECK", "0.5.0", 1, "incompatible CNI versions"),
        ("GC", "1.0.0", 1, "config version does not allow GC"),
        ("STATUS", "0.4.0", 1, "config version does not allow STATUS"),
        ("ADD ", "1.1.0", 4, "unknown CNI_COMMAND: ADD "), ("add", "1.1.0", 4, "unknown CNI_COMMAND: add"),
    ])
    func `a verb is refused where the version has none`(verb: String, version: String, code: Int, message: String)
        throws
    {
        let failure = try failure(
            outcome(add.merging(["CNI_COMMAND": verb]) { $1 }, #"{"name":"n","cniVersion":"\#(version)"}"#))
        #expect(failure.code == code && failure.message.hasPrefix(message))
    }

    @Test func `a missing version is the first one`() throws {
        #expect(try JSONValue(parsing: outcome(add, #"{"NAME":"n"}"#).output) == ["cniVersion": "0.1.0", "dns": [:]])
    }

    @Test(arguments: ["ADD", "DEL"])
    func `the plugin's own namespace is refused before anything is done`(verb: String) throws {
        let own = add.merging(["CNI_COMMAND": verb, "CNI_NETNS": "/own"]) { $1 }
        let witness = Witness()
        #expect(try failure(outcome(own, of: witness)).code == 8)
        #expect(witness.asked.withLock { $0.isEmpty })
        for value in ["1", "true", "TRUE"] {
            #expect(outcome(own.merging(["CNI_NETNS_OVERRIDE": value]) { $1 }).status == 0)
        }
        #expect(outcome(own.merging(["CNI_NETNS_OVERRIDE": "yes"]) { $1 }).status != 0)
    }

    @Test func `a plugin's error is printed as it is and alone`() throws {
        let witness = Witness(failing: CNIError(.tryAgainLater, "no \"address\"", details: "pool\nfull"))
        #expect(
            try JSONValue(parsing: outcome(add, of: witness).output) == [
                "cniVersion": "1.1.0", "code": 11, "msg": "no \"address\"", "details": "pool\nfull",
            ])
    }

    @Test func `a previous result without a version is in the configuration's`() throws {
        let input = #"{"name":"n","cniVersion":"0.4.0","prevResult":{"ips":[{"version":"4","address":"10.1.2.3/24"}]}}"#
        #expect(
            try JSONValue(parsing: outcome(add, input).output) == [
                "cniVersion": "0.4.0", "ips": [["version": "4", "address": "10.1.2.3/24"]], "dns": [:],
            ])
        #expect(outcome(add, #"{"name":"n","prevResult":null}"#).status == 0)
    }
}
