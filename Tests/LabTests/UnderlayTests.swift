import Glibc
import KernelInterface
import NetworkAddresses
import Testing

@testable import Lab

@Suite(.needsRoot) struct UnderlayTests {
    @Test func `every node reaches every other and the gateway in both families`() throws {
        try withLabName { name in
            let network = LabNetwork(nodeCount: 3)
            let underlay = Underlay(name: name, network: network)
            try underlay.make()
            for node in network.nodes { try underlay.join(node) }
            let targets = network.nodes.flatMap(\.interface).map(\.address) + network.gateways.map(\.address)
            for node in network.nodes {
                let namespace = try NetworkNamespace.open(
                    NetworkNamespace.path(named: name.namespace(ofNode: node.name)))
                for target in targets {
                    let ping = try namespace.withEntered { () throws(KernelError) in
                        try ChildProcess.capture("ping", ["-c1", "-W2", "-n", "\(target)"], timeout: .seconds(5))
                    }
                    #expect(ping.status.isSuccess, "\(node.name) to \(target): \(ping.text)")
                }
            }
        }
    }

    @Test func `a packet to nowhere is refused by the gateway and not swallowed`() throws {
        try withLabName { name in
            let network = LabNetwork(nodeCount: 1)
            let underlay = Underlay(name: name, network: network)
            try underlay.make()
            try underlay.join(network.nodes[0])
            let namespace = try NetworkNamespace.open(NetworkNamespace.path(named: name.namespace(ofNode: "node-1")))
            for target in ["192.0.2.1", "2001:db8::1"] {
                let ping = try namespace.withEntered { () throws(KernelError) in
                    try ChildProcess.capture("ping", ["-c1", "-W2", "-n", target], timeout: .seconds(5))
                }
                #expect(!ping.status.isSuccess)
                #expect(ping.text.lowercased().contains("unreachable"), "\(ping.text)")
            }
        }
    }

    @Test func `nodes do not forward until an agent tells them to`() throws {
        try withLabName { name in
            let underlay = Underlay(name: name, network: LabNetwork(nodeCount: 1))
            try underlay.make()
            try underlay.join(underlay.network.nodes[0])
            let namespace = try NetworkNamespace.open(NetworkNamespace.path(named: name.namespace(ofNode: "node-1")))
            try namespace.withEntered { () throws(KernelError) in
                #expect(try KernelSetting.read(["net", "ipv4", "ip_forward"]) == "0")
            }
        }
    }
}

@Suite(.needsRoot) struct LabProcessesTests {
    @Test func `the processes in a lab's namespaces are ended, and no others`() throws {
        try withLabName { name in
            let inside = try NetworkNamespace.create(named: name.underlayNamespace)
            // One that ignores the polite request, one that heeds it, and one outside.
            let stubborn = try inside.withEntered { () throws(KernelError) in
                try ChildProcess.spawn(executable: "sh", arguments: ["-c", "trap '' TERM; while :; do sleep 1; done"])
            }
            let polite = try inside.withEntered { () throws(KernelError) in
                try ChildProcess.spawn(executable: "sleep", arguments: ["100"])
            }
            let outside = try ChildProcess.spawn(executable: "sleep", arguments: ["100"])
            defer {
                for child in [stubborn, polite, outside] {
                    _ = try? child.signal(.kill)
                    _ = try? child.wait()
                }
            }
            // The shell must have set its trap, or it is as polite as the other.
            usleep(200_000)
            let processes = try LabProcesses(inNamespaces: [name.underlayNamespace, "no-such-namespace"])
            #expect(Set(try processes.list().map(\.pid)).isSuperset(of: [stubborn.pid, polite.pid]))
            #expect(try processes.end() == [])
            #expect(stubborn.identity?.isRunning != true)
            #expect(polite.identity?.isRunning != true)
            #expect(outside.identity?.isRunning == true)
        }
    }

    @Test func `this process's own namespace is never one of the lab's, whatever its name says`() throws {
        try withLabName { name in
            let attach = try ChildProcess.capture("ip", ["netns", "attach", name.underlayNamespace, "\(getpid())"])
            try #require(attach.status.isSuccess, "\(attach.errorText)")
            let processes = try LabProcesses(inNamespaces: [name.underlayNamespace])
            #expect(try processes.list() == [])
            #expect(processes.member(1) == nil)
        }
    }
}
