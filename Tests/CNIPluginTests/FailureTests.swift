import CNIProtocol
import Glibc
import KernelInterface
import NetworkAddresses
import PodAttachment
import RouteNetlink
import Synchronization
import Testing

@testable import fairlead_cni

/// Fails the step of one number; counts them all.
private final class Tripwire: Sendable {
    private let state: Mutex<(passed: Int, tripped: String?)>
    private let number: Int

    init(at number: Int) {
        self.number = number
        state = Mutex((0, nil))
    }

    func step(_ name: String) throws(CNIError) {
        let isHit = state.withLock { state in
            state.passed += 1
            guard state.passed == number else { return false }
            state.tripped = name
            return true
        }
        if isHit { throw CNIError(.internal, "tripped at \(name)") }
    }

    /// The step that was made to fail; nil where there was none of that number.
    var tripped: String? { state.withLock { $0.tripped } }
}

extension Attaching {
    fileprivate func plugin(_ wire: Tripwire) -> any Plugin {
        let interruption: AttachmentExecutor.Interruption = { name throws(CNIError) in try wire.step(name) }
        return switch self {
        case .fairlead: FairleadPlugin(interruption: interruption)
        case .bridge: BridgePlugin(interruption: interruption)
        case .ptp: PointToPointPlugin(interruption: interruption)
        }
    }
}

@Suite(.needsRoot) struct FailureTests {
    @Test(arguments: Attaching.allCases) func `a failure at any step leaves nothing`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        // Addresses by name, because a step's description holds them and round robin would change them.
        let configuration = node.configuration(attaching.keys).with("ipMasq", true)
            .with("clusterCIDRs", clusterRanges).with("macspoofchk", true)
            .with(
                "runtimeConfig",
                [
                    "ips": ["10.88.0.7", "fd00:88::7"], "portMappings": [["hostPort": 8080, "containerPort": 80]],
                    "bandwidth": ["egressRate": 8000, "egressBurst": 8000],
                ])
        var steps: [String] = []
        while true {
            let wire = Tripwire(at: steps.count + 1)
            // Twice: the second try fails for the same reason and not for what the first one left.
            let answers = try (0..<2).map { _ in
                try node.run(attaching.plugin(Tripwire(at: steps.count + 1)), "ADD", configuration, netns: pod.path)
            }
            let last = try node.run(attaching.plugin(wire), "ADD", configuration, netns: pod.path)
            guard let step = wire.tripped else {
                #expect(answers[0].isSuccess && last.message.contains("already exists"))
                break
            }
            for answer in answers + [last] { #expect(answer.message == "tripped at \(step)" && answer.details.isEmpty) }
            #expect(try node.remains() == [], "after a failure at: \(step)")
            #expect(try pod.links().map(\.name) == [name("lo")], "after a failure at: \(step)")
            steps.append(step)
        }
        // Every kind of change was failed once.
        for word in ["reserve", "make veth", "add address", "add route", "set the pod's eth0 up"] {
            #expect(steps.contains { $0.hasPrefix(word) }, "\(steps)")
        }
        if attaching != .fairlead { #expect(steps.last == "masquerade the pod's addresses") }
        #expect(steps.contains("check the pod's Ethernet address") == (attaching == .bridge))
        if attaching == .fairlead {
            #expect(
                steps.suffix(5) == [
                    "limit the pod's bandwidth", "map host ports", "masquerade the pod's addresses",
                    "write the attachment record", "pass the policy gate",
                ])
        }
        #expect(try node.run(attaching.rawValue, "DEL", configuration, netns: pod.path).isSuccess)
    }

    @Test func `an ADD that fails leaves a bridge that was there as it was`() throws {
        let node = try Node()
        let host = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try host.addBridge(NewLink(name("br0")))
        let bridge = try #require(try host.link(named: name("br0")))
        try host.add(InterfaceAddress(IPPrefix("10.9.9.1/24")!, link: bridge.index))
        let before = try node.remains()
        let pod = try node.pod()
        let configuration = node.configuration(Attaching.bridge.keys).with("forceAddress", true)
        var count = 0
        while true {
            let wire = Tripwire(at: count + 1)
            let answer = try node.run(Attaching.bridge.plugin(wire), "ADD", configuration, netns: pod.path)
            guard wire.tripped != nil else {
                #expect(answer.isSuccess)
                break
            }
            #expect(try node.remains() == before)
            count += 1
        }
        #expect(count > 15)
    }

    @Test(arguments: Attaching.allCases) func `an exhausted pool is the error, also the second time`(
        attaching: Attaching
    ) throws {
        let node = try Node()
        let configuration = node.configuration(ranges: ["10.88.0.0/30"], attaching.keys)
        let pods = [try node.pod(), try node.pod()]
        #expect(try node.run(attaching.rawValue, "STATUS", configuration).isSuccess)
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "c1", netns: pods[0].path).isSuccess)
        for _ in 0..<2 {
            let refused = try node.run(attaching.rawValue, "ADD", configuration, id: "c2", netns: pods[1].path)
            #expect(refused.code == 11)
            #expect(
                refused.message
                    == "failed to allocate for range 0: no IP addresses available in range set: 10.88.0.1-10.88.0.2")
            #expect(try pods[1].links().count == 1)
        }
        let status = try node.run(attaching.rawValue, "STATUS", configuration)
        #expect(status.code == 50 && status.message.contains("no IP addresses available"))
    }

    @Test(arguments: Attaching.allCases) func `an interface of that name is an error before anything is done`(
        attaching: Attaching
    ) throws {
        let node = try Node()
        let pod = try node.pod()
        let inside = try pod.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try inside.addBridge(NewLink(name("eth0")))
        let answer = try node.run(attaching.rawValue, "ADD", node.configuration(attaching.keys), netns: pod.path)
        #expect(answer.message.hasPrefix(#"container veth name ("eth0") peer provided ("#))
        #expect(answer.message.hasSuffix("already exists"))
        #expect(try node.remains() == [])
    }

    @Test(arguments: ["fairlead", "bridge", "ptp", "loopback"], ["ADD", "CHECK"])
    func `a namespace that is none is refused`(plugin: String, verb: String) throws {
        let node = try Node()
        var configuration = node.configuration()
        if verb == "CHECK" { configuration["prevResult"] = ["cniVersion": "1.1.0"] }
        for path in ["/run/netns/no-such-namespace", "/etc/passwd", "/dev/null", "/proc/self/ns/mnt", "/"] {
            let answer = try node.run(plugin, verb, configuration, netns: path)
            #expect(
                answer.code == 8 && answer.message.hasPrefix("failed to open netns \"\(path)\""), "\(answer.message)")
        }
        #expect(try node.remains() == [])
    }

    @Test(arguments: ["fairlead", "bridge", "ptp", "loopback"]) func `the host's own namespace is refused`(
        plugin: String
    )
        throws
    {
        let node = try Node()
        for verb in ["ADD", "DEL"] {
            let answer = try node.run(plugin, verb, node.configuration(), netns: "/proc/thread-self/ns/net")
            #expect(
                answer.code == 8 && answer.message == "plugin's netns and netns from CNI_NETNS should not be the same")
        }
        #expect(try node.remains() == [])
    }
}

/// What may have become of an attachment before its DEL.
enum Ruin: String, CaseIterable, CustomTestStringConvertible {
    case nothing = "nothing"
    case noPath = "an empty path"
    case closed = "a path that is gone"
    case plainFile = "a path that is a plain file"
    case noPodInterface = "no interface in the pod"
    case foreignHostEnd = "a host's end of another name"
    case noLease = "no lease"
    case noRecord = "no record"
    case noState = "no folders at all"

    var testDescription: String { rawValue }

    /// Makes it so; gives the path that DEL then comes with.
    fileprivate func happen(to pod: Pod, on node: Node, host: InterfaceName) throws -> String {
        switch self {
        case .nothing: break
        case .noPath: return ""
        case .closed: try pod.close()
        case .plainFile: return "/etc/passwd"
        case .noPodInterface:
            let inside = try pod.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
            try inside.deleteLink(index: try #require(try inside.link(named: name("eth0"))).index)
        case .foreignHostEnd:
            let outside = try node.namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
            let link = try #require(try outside.link(named: host))
            try outside.change(link: link.index, LinkChange(isUp: false))
            try outside.change(link: link.index, LinkChange(name: name("veth1a2b3c4d")))
        case .noLease:
            let leases = try StateDirectory.open("\(node.folder)/leases/pods", create: false)
            for address in ["10.88.0.3", "fd00:88::3"] { #expect(try leases.remove(address)) }
        case .noRecord:
            _ = try StateDirectory.open("\(node.folder)/state", create: true).removeSubdirectory("attachments")
        case .noState:
            for name in ["leases", "state"] {
                _ = try StateDirectory.open(node.folder, create: false).removeSubdirectory(name)
            }
        }
        return pod.path
    }
}

@Suite(.needsRoot) struct DeleteTests {
    @Test(arguments: Attaching.allCases, Ruin.allCases)
    func `DEL succeeds in every ruin, and nothing is left`(attaching: Attaching, ruin: Ruin) throws {
        let node = try Node()
        let pod = try node.pod()
        let neighbor = try node.pod()
        let configuration = node.configuration(attaching.keys)
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "other", netns: neighbor.path).isSuccess)
        let before = try node.remains()
        #expect(try node.run(attaching.rawValue, "ADD", configuration, netns: pod.path).isSuccess)
        let attachment = AttachmentID(containerID: "c1", interface: name("eth0"))
        let host = attaching == .fairlead ? attachment.routedHostInterface : attachment.bridgedHostInterface
        let path = try ruin.happen(to: pod, on: node, host: host)
        for _ in 0..<2 {
            let deleted = try node.run(attaching.rawValue, "DEL", configuration, netns: path)
            #expect(deleted.outcome == Outcome(), "\(deleted.outcome.output)")
        }
        let untouched = try node.remains()
        switch ruin {
        case .noRecord: #expect(untouched == before.filter { !$0.hasPrefix("record") })
        case .noState: #expect(untouched == before.filter { $0.hasPrefix("link") || $0.hasPrefix("address") })
        default: #expect(untouched == before)
        }
    }

    @Test(arguments: Attaching.allCases)
    func `a late DEL spares the container that has the namespace now`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        let configuration = node.configuration(attaching.keys)
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "old", netns: pod.path).isSuccess)
        #expect(try node.run(attaching.rawValue, "DEL", configuration, id: "old", netns: pod.path).isSuccess)
        #expect(try node.run(attaching.rawValue, "ADD", configuration, id: "new", netns: pod.path).isSuccess)
        #expect(try node.run(attaching.rawValue, "DEL", configuration, id: "old", netns: pod.path).isSuccess)
        #expect(try pod.links().contains { $0.name == name("eth0") })
        // Its own DEL does not.
        #expect(try node.run(attaching.rawValue, "DEL", configuration, id: "new", netns: pod.path).isSuccess)
        #expect(try pod.links().count == 1)
    }

    @Test(arguments: Attaching.allCases) func `DEL of what never was succeeds`(attaching: Attaching) throws {
        let node = try Node()
        let pod = try node.pod()
        for id in ["never", String(repeating: "x", count: 10_000)] {
            for path in ["", pod.path] {
                let answer = try node.run(
                    attaching.rawValue, "DEL", node.configuration(attaching.keys), id: id, netns: path,
                    environment: ["CNI_ARGS": "this;is;no=argument=list"])
                #expect(answer.outcome == Outcome(), "\(answer.outcome.output)")
            }
        }
        #expect(try node.remains() == [])
    }
}
