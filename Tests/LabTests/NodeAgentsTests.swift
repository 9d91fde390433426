import Foundation
import KernelInterface
import Testing

@testable import Lab

@Suite(.needsRoot) struct NodeAgentsTests {
    /// Runs `body` with a node that has a namespace, and a program as its agent: a shell's script.
    ///
    /// The script is called as an agent is: `$6` is its state folder.
    private func withAgent(_ script: String, _ body: (NodeAgents, LabRecord.Node) throws -> Void) throws {
        try withLabName { name in
            try withLabFolder { folder throws in
                var node = LabRecord.example.nodes[0]
                node.namespace = name.namespace(ofNode: node.name)
                _ = try NetworkNamespace.create(named: node.namespace)
                try StateDirectory.open(folder.path, create: true)
                    .replace("agent", Array("#!/bin/sh\n\(script)\n".utf8), mode: 0o755)
                let agents = NodeAgents(folder: folder)
                defer { _ = try? LabProcesses(inNamespaces: [node.namespace]).end() }
                try agents.start(on: node, executable: "\(folder.path)/agent")
                try body(agents, node)
            }
        }
    }

    private func report(revision: String, synced: Bool = true) -> String {
        #"""
        printf '{"pid":%d,"node":"node-1","synced":\#(synced),"revision":"\#(revision)","notes":[],"errors":["e"]}' $$ \
            > "$6/status.json.new"
        mv "$6/status.json.new" "$6/status.json"
        """#
    }

    private func wait(_ agents: NodeAgents, _ node: LabRecord.Node, milliseconds: Int) throws -> [NodeAgents.Status] {
        try agents.waitUntilSynced(
            [node], revision: "7", timeout: .milliseconds(milliseconds), interruption: Interruption()
        ) { _ in }
    }

    @Test func `an agent that reports the revision is in sync`() throws {
        try withAgent("\(report(revision: "7"))\nexec sleep 100") { agents, node in
            let reports = try wait(agents, node, milliseconds: 10_000)
            #expect(reports.map(\.errors) == [["e"]])
            // Started once, it is not started again.
            let process = try agents.process(of: node.name)
            try agents.start(on: node, executable: "/no/such/program")
            #expect(try agents.process(of: node.name) == process)
        }
    }

    @Test(arguments: [("6", true), ("7", false)])
    func `an agent that does not get there is named, with its last words and what to do`(
        revision: String, synced: Bool
    ) throws {
        try withAgent("echo at work; \(report(revision: revision, synced: synced))\nexec sleep 100") { agents, node in
            let error = #expect(throws: LabError.self) { try wait(agents, node, milliseconds: 700) }
            let message = try #require(error?.message)
            #expect(message.contains("agent of node-1 has not programmed revision 7 within 0 seconds"), "\(message)")
            #expect(message.contains("is at revision \(revision), synced: \(synced)"), "\(message)")
            #expect(message.contains("agent.log ends with\n    at work"), "\(message)")
            #expect(error?.advice.contains("fairlead lab up") == true)
        }
    }

    @Test func `an agent that ends is named at once, with its last words`() throws {
        try withAgent("echo no such option; exit 3") { agents, node in
            let error = #expect(throws: LabError.self) { try wait(agents, node, milliseconds: 10_000) }
            let message = try #require(error?.message)
            #expect(message.contains("the agent of node-1 has ended"), "\(message)")
            #expect(message.contains("    no such option"), "\(message)")
        }
    }

    @Test func `the last word of an agent that was killed is not believed`() throws {
        try withAgent("\(report(revision: "7"))\nexec sleep 100") { agents, node in
            _ = try wait(agents, node, milliseconds: 10_000)
            let first = try #require(try agents.process(of: node.name))
            try [first].end(grace: .zero)
            #expect(try agents.process(of: node.name) == nil)
            #expect(try agents.status(of: node.name) == nil)
            // The next one says nothing.
            try StateDirectory.open(agents.folder.path, create: false)
                .replace("agent", Array("#!/bin/sh\nexec sleep 100\n".utf8), mode: 0o755)
            try agents.start(on: node, executable: "\(agents.folder.path)/agent")
            let error = #expect(throws: LabError.self) { try wait(agents, node, milliseconds: 300) }
            #expect(error?.message.contains("it has reported nothing") == true)
        }
    }
}

@Suite struct LabBinariesTests {
    @Test func `a program is looked for beside the running one, then in PATH`() throws {
        try withLabFolder { folder throws in
            let program = Array("#!/bin/sh\n".utf8)
            try StateDirectory.open("\(folder.path)/beside", create: true).replace("one", program, mode: 0o755)
            for name in ["one", "two"] {
                try StateDirectory.open("\(folder.path)/path", create: true).replace(name, program, mode: 0o755)
            }
            try StateDirectory.open("\(folder.path)/path", create: true).replace("text", program, mode: 0o644)
            let (own, path) = ("\(folder.path)/beside/fairlead", "relative::\(folder.path)/path")
            #expect(try LabBinaries.find("one", beside: own, path: path) == "\(folder.path)/beside/one")
            #expect(try LabBinaries.find("two", beside: own, path: path) == "\(folder.path)/path/two")
            let error = #expect(throws: LabError.self) { try LabBinaries.find("text", beside: own, path: path) }
            #expect(error?.message == "text is neither beside \(own) nor in PATH")
            #expect(error?.advice.contains("scripts/build") == true)
        }
    }

    @Test func `the plugin's link follows the binary`() throws {
        try withLabFolder { folder throws in
            for binary in ["/a/fairlead-cni", "/a/fairlead-cni", "/b/fairlead-cni"] {
                try folder.linkPlugin(to: binary)
                let link = try FileManager.default.destinationOfSymbolicLink(atPath: "\(folder.pluginPath)/fairlead")
                #expect(link == binary)
            }
        }
    }
}
