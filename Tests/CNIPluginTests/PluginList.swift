import CNIProtocol
import Glibc
import KernelInterface
import Testing

@testable import fairlead_cni

/// Whose program a plugin of a list is.
enum Maker: String, CaseIterable, CustomTestStringConvertible {
    case house, reference

    var testDescription: String { rawValue }
    var other: Maker { self == .house ? .reference : .house }
}

/// Where Debian's package of the reference plugins puts them.
let referenceFolder = "/usr/lib/cni"

extension Node {
    /// Puts a plugin into the node's folder of plugins, which stands in `CNI_PATH`.
    func install(_ plugin: String, of maker: Maker, as name: String? = nil) throws {
        _ = try StateDirectory.open("\(folder)/plugins", create: true)
        let target = maker == .house ? binary : "\(referenceFolder)/\(plugin)"
        try #require(symlink(target, "\(folder)/plugins/\(name ?? plugin)") == 0)
    }

    /// Runs the reference's plugin on the node.
    func runReference(
        _ plugin: String, _ command: String, _ configuration: JSONObject, id: String = "c1", netns: String = "",
        path: String = referenceFolder
    ) throws -> Answer {
        var environment = self.environment(command, id: id, interface: "eth0", netns: netns)
        environment["CNI_PATH"] = path
        // Its programs look for iptables.
        environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        let captured = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "\(referenceFolder)/\(plugin)", [], environment: environment,
                input: Array(JSONValue.object(configuration).text.utf8), timeout: .seconds(60))
        }
        guard case .exited(let status) = captured.status else { throw CNIError(.internal, "\(captured.status)") }
        return try Answer(Outcome(output: captured.text, status: status))
    }

    func run(
        _ maker: Maker, _ plugin: String, _ command: String, _ configuration: JSONObject, id: String = "c1",
        netns: String = ""
    ) throws -> Answer {
        switch maker {
        case .house: try run(plugin, command, configuration, id: id, netns: netns)
        case .reference: try runReference(plugin, command, configuration, id: id, netns: netns)
        }
    }
}

/// A network of several plugins and what the reference runtime library does with it: the previous result is passed on,
/// DEL goes from the last to the first with the result of ADD, and stops at the first failure.
final class PluginList {
    struct Entry {
        var maker: Maker
        var keys: JSONObject

        init(_ maker: Maker, _ keys: JSONObject) {
            self.maker = maker
            self.keys = keys
        }
    }

    let node: Node
    let version: String
    let name: String
    var entries: [Entry]
    /// The last plugin's result, by container: what the library keeps on disk.
    var results: [String: JSONObject] = [:]

    init(_ node: Node, version: String = "1.0.0", name: String = "pods", _ entries: [Entry]) {
        self.node = node
        self.version = version
        self.name = name
        self.entries = entries
    }

    private func run(_ entry: Entry, _ verb: String, id: String, netns: String, _ more: JSONObject) throws -> Answer {
        var configuration = entry.keys.with("cniVersion", .string(version)).with("name", .string(name))
        for member in more.members { configuration[member.key] = member.value }
        let type = try #require(entry.keys["type"]?.string)
        return try node.run(entry.maker, type, verb, configuration, id: id, netns: netns)
    }

    /// ADD of every plugin; the answer of the last, or of the first that failed.
    func add(_ pod: Pod, id: String = "c1", runtime: JSONObject = [:]) throws -> Answer {
        var more: JSONObject = ["runtimeConfig": .object(runtime)]
        var last: Answer?
        for entry in entries {
            let answer = try run(entry, "ADD", id: id, netns: pod.path, more)
            guard answer.isSuccess else { return answer }
            more["prevResult"] = .object(answer.json)
            last = answer
        }
        let answer = try #require(last)
        results[id] = answer.json
        return answer
    }

    /// CHECK or DEL.
    func visit(_ verb: String, id: String = "c1", netns: String = "", runtime: JSONObject = [:]) throws -> Answer {
        var more: JSONObject = ["runtimeConfig": .object(runtime)]
        if let result = results[id] { more["prevResult"] = .object(result) }
        for entry in verb == "DEL" ? entries.reversed() : entries {
            let answer = try run(entry, verb, id: id, netns: netns, more)
            guard answer.isSuccess else { return answer }
        }
        if verb == "DEL" { results[id] = nil }
        return try Answer(Outcome())
    }

    /// GC or STATUS, as the library calls them: with the container's variables set and empty.
    func ask(_ verb: String, _ keys: JSONObject = [:]) throws -> Answer {
        for entry in entries {
            let answer = try run(entry, verb, id: "", netns: "", keys)
            guard answer.isSuccess else { return answer }
        }
        return try Answer(Outcome())
    }
}
