import Foundation
import Glibc
import KernelInterface
import Lab
import Testing

private let web = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: 20
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: web, ports: [{containerPort: 80}]}]}
    """

@Suite(.needsRoot) struct LifecycleTests {
    @Test func `down leaves nothing behind, not even what a person has started in the lab`() throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        let up = try lab.lab("up", "--nodes", "2", "-f", "-", input: web)
        try #require(up.status.isSuccess, "\(up.errorText)")
        #expect(try lab.namespaces().count == 23)
        #expect(try lab.processes().count == 22)
        #expect(try lab.lab("status").status.isSuccess)
        let node = try #require(try lab.state().nodes.first)
        // Its arguments do not name the lab; it is found by where it is.
        let visitor = try node.inside { () throws(KernelError) in
            try ChildProcess.spawn(executable: "sleep", arguments: ["1000"], newSession: true)
        }
        defer {
            _ = try? visitor.signal(.kill)
            _ = try? visitor.wait()
        }
        let down = try lab.lab("down")
        #expect(down.status.isSuccess, "\(down.errorText)")
        try lab.expectNothingLeft()
        #expect(visitor.identity?.isRunning != true)
        let again = try lab.lab("down")
        #expect(again.status.isSuccess)
        #expect(again.errorText.contains("nothing to remove"))
    }

    /// Killed at moments from before the first namespace to after the first pods.
    @Test(arguments: [5, 30, 100, 250, 500, 900, 1500])
    func `what a killed up leaves is removed by down`(milliseconds: Int) throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        try interrupt(lab, after: milliseconds, with: .kill)
        let down = try lab.lab("down")
        #expect(down.status.isSuccess, "\(down.errorText)")
        try lab.expectNothingLeft()
    }

    @Test(arguments: [100, 700])
    func `what a killed up leaves is finished or replaced by the next up`(milliseconds: Int) throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        try interrupt(lab, after: milliseconds, with: .kill)
        let up = try lab.lab("up", "-f", "-", input: web)
        #expect(up.status.isSuccess, "\(up.errorText)")
        #expect(try lab.state().pods.count == 20)
        // Nothing is left of pods that were begun and not finished.
        #expect(try lab.namespaces().count == 24)
        #expect(try lab.lab("status").status.isSuccess)
    }

    @Test(arguments: [30, 250, 900])
    func `an up that is stopped with Ctrl-C removes what it has made`(milliseconds: Int) throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        let status = try interrupt(lab, after: milliseconds, with: .interrupt)
        // It may have been too early for the signal to be heard, or too late: then it says so by its status.
        if status == .exited(130) { try lab.expectNothingLeft() }
        #expect([.exited(130), .signalled(.interrupt), .exited(0)].contains(status), "\(status)")
    }

    /// Begins an `up` and ends it with a signal.
    @discardableResult
    private func interrupt(
        _ lab: LabUnderTest, after milliseconds: Int, with signal: Signal
    ) throws -> ChildProcess.ExitStatus {
        let manifests = FileManager.default.temporaryDirectory.appending(path: "\(lab.name).yaml")
        try Data(web.utf8).write(to: manifests)
        defer { try? FileManager.default.removeItem(at: manifests) }
        let up = try ChildProcess.spawn(
            executable: "\(LabUnderTest.binaries)/fairlead",
            arguments: ["lab", "up", "--name", lab.name, "-f", manifests.path], standardOutput: .null,
            standardError: .null)
        usleep(UInt32(milliseconds) * 1000)
        try up.signal(signal)
        return try up.wait()
    }

    @Test func `labs side by side have the same addresses and do not see each other`() throws {
        let (one, two) = (LabUnderTest(), LabUnderTest())
        defer {
            one.down()
            two.down()
        }
        for lab in [one, two] {
            let up = try lab.lab("up", "--nodes", "1")
            try #require(up.status.isSuccess, "\(up.errorText)")
        }
        try one.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, ports: [{containerPort: 80}]}]}\n"
        )
        #expect(try one.state().pods.count == 1)
        #expect(try two.state().pods.count == 0)
        #expect(try one.state().nodes.map(\.addresses) == two.state().nodes.map(\.addresses))
        _ = try one.lab("down")
        #expect(try two.lab("status").status.isSuccess)
    }

    @Test func `an up of a lab that is up starts what is missing and leaves the rest`() throws {
        let lab = LabUnderTest()
        defer { lab.down() }
        let up = try lab.lab("up", "--nodes", "2", "-f", "-", input: web)
        try #require(up.status.isSuccess, "\(up.errorText)")
        let before = try lab.state()
        let agent = try #require(try before.agents().first?.pid)
        kill(agent, SIGKILL)
        let server = try #require(
            try lab.processes().first { pid in
                let words = (try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8)) ?? ""
                return words.contains("pod-server")
            })
        kill(server, SIGKILL)
        usleep(100_000)
        let broken = try lab.lab("status")
        #expect(broken.status == .exited(1))
        #expect(broken.text.contains("does not run"), "\(broken.text)")
        #expect(broken.text.contains("is broken"), "\(broken.text)")
        let repaired = try lab.lab("up")
        #expect(repaired.status.isSuccess, "\(repaired.errorText)")
        #expect(try lab.lab("status").status.isSuccess)
        #expect(try lab.state().pods == before.pods)
        let other = try lab.lab("up", "--nodes", "5")
        #expect(other.status == .exited(1))
        #expect(other.errorText.contains("is up with 2 nodes, not 5"), "\(other.errorText)")
    }

    @Test func `commands on a lab that is not there say so`() throws {
        let lab = LabUnderTest()
        for arguments in [
            ["get"], ["status"], ["exec", "p", "--", "true"], ["apply", "-f", "-"], ["delete", "pod/p"],
        ] {
            var words = ["lab"] + arguments
            words.insert(contentsOf: ["--name", lab.name], at: 2)
            let outcome = try ChildProcess.capture("\(LabUnderTest.binaries)/fairlead", words, timeout: .seconds(20))
            #expect(outcome.status == .exited(1), "\(arguments)")
            #expect(outcome.errorText.contains("there is no lab \(lab.name)"), "\(arguments): \(outcome.errorText)")
        }
        #expect(!lab.folderIsThere)
    }
}
