import CNIProtocol
import Glibc
import KernelInterface
import Testing

@testable import fairlead_cni

/// Plugins on a filesystem of their own, in a mount namespace of their own.
private struct Disk {
    let node: Node
    let pod: Pod
    /// Where the container `b` is to live.
    private let other: Pod
    let plugin: String
    private let output: String

    init(_ plugin: String) throws {
        self.plugin = plugin
        node = try Node()
        pod = try node.pod()
        other = try node.pod()
        output = "\(node.folder)/output"
        for folder in ["output", "disk"] { _ = try StateDirectory.open("\(node.folder)/\(folder)", create: true) }
    }

    private var configuration: JSONObject {
        let keys = Attaching(rawValue: plugin)?.keys ?? [:]
        return node.configuration(keys, ipam: ["dataDir": .string("\(node.folder)/disk/leases")])
            .with("stateDir", .string("\(node.folder)/disk/state"))
    }

    /// How many interfaces both pods have, their loopbacks included.
    func links() throws -> Int { try pod.links().count + other.links().count }

    /// Runs a script of bash with the disk mounted, in which `cni STEP VERB ID` runs the plugin.
    ///
    /// - Returns: What each step answered.
    func run(_ script: String) throws -> [String: Answer] {
        let prelude = """
            set -eu
            cd "$DISK"
            cni() {
                status=0
                netns=$CNI_NETNS; if [ "$3" = b ]; then netns=$OTHER; fi
                CNI_COMMAND=$2 CNI_CONTAINERID=$3 CNI_NETNS=$netns "$BINARY" "$PLUGIN" <<<"$CONFIGURATION" >"$OUTPUT/$1" || status=$?
                echo "$1 $status"
            }

            """
        var environment = node.environment("", id: "", interface: "eth0", netns: pod.path)
        environment["CNI_COMMAND"] = nil
        for (name, value) in [
            "DISK": "\(node.folder)/disk", "BINARY": binary, "PLUGIN": plugin, "OUTPUT": output, "OTHER": other.path,
            "CONFIGURATION": JSONValue.object(configuration).text, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        ] {
            environment[name] = value
        }
        let variables = environment
        let captured = try node.namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "unshare", ["--mount", "--propagation", "private", "bash", "-c", prelude + script],
                environment: variables, timeout: .seconds(120))
        }
        try #require(captured.status.isSuccess, "\(captured.errorText)")
        var answers: [String: Answer] = [:]
        for line in captured.text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let status = Int32(words[1]) else { continue }
            let bytes = try StateDirectory.open(output, create: false).read(String(words[0]), limit: 1 << 20) ?? []
            answers[String(words[0])] = try Answer(
                Outcome(output: String(decoding: bytes, as: UTF8.self), status: status))
        }
        return answers
    }
}

@Suite(.needsRoot) struct DiskTests {
    static let plugins = ["host-local", "fairlead", "bridge"]

    /// `size` fills up bytes, `nr_inodes` files.
    @Test(arguments: plugins, ["size=128k", "nr_inodes=24"])
    func `a full disk is an error of ADD and none of DEL`(plugin: String, limit: String) throws {
        let disk = try Disk(plugin)
        let answers = try disk.run(
            """
            mount -t tmpfs -o \(limit) none "$DISK"; cd "$DISK"
            fill() { mkdir -p full || true; for n in $(seq 64); do head -c 4096 /dev/zero >"full/$n" || break; done 2>/dev/null; }
            fill; cni empty ADD a; cni emptyDelete DEL a
            rm -r full; cni add ADD a
            fill; cni full ADD b; cni fullDelete DEL b
            cni delete DEL a; cni deleteAgain DEL a
            rm -r full; cni later ADD c; cni laterDelete DEL c
            find leases state -type f ! -name lock ! -name '*.lock' ! -name 'last_*' ! -path '*.fairlead*' | while read -r f; do cp "$f" "$OUTPUT/left"; echo "left 1"; done
            """)
        for step in ["empty", "full"] {
            #expect(answers[step]?.code == 5, "\(step): \(answers[step]?.outcome.output ?? "")")
            #expect(answers[step]?.message.contains("No space left on device") == true)
            #expect(answers[step]?.details == "")
        }
        for step in ["emptyDelete", "add", "fullDelete", "delete", "deleteAgain", "later", "laterDelete"] {
            #expect(answers[step]?.isSuccess == true, "\(step): \(answers[step]?.outcome.output ?? "")")
        }
        #expect(answers["left"] == nil)
        #expect(try disk.links() == 2)
        #expect(try disk.node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") } == [])
    }

    @Test(arguments: plugins) func `a disk that may not be written is an error where something must be`(
        plugin: String
    ) throws {
        let disk = try Disk(plugin)
        let answers = try disk.run(
            """
            mount -t tmpfs none "$DISK"; cd "$DISK"
            mount -o remount,ro "$DISK"; cni nothing ADD a; cni nothingDelete DEL a
            mount -o remount,rw "$DISK"; cni add ADD a
            mount -o remount,ro "$DISK"; cni refused ADD b; cni refusedDelete DEL b; cni delete DEL a
            mount -o remount,rw "$DISK"; cni last DEL a
            """)
        for step in ["nothing", "refused", "delete"] {
            #expect(answers[step]?.code == 5, "\(step): \(answers[step]?.outcome.output ?? "")")
            #expect(answers[step]?.message.contains("Read-only file system") == true)
        }
        for step in ["nothingDelete", "add", "refusedDelete", "last"] {
            #expect(answers[step]?.isSuccess == true, "\(step): \(answers[step]?.outcome.output ?? "")")
        }
        #expect(try disk.links() == 2)
    }

    @Test(arguments: Attaching.allCases) func `settings that cannot be written matter only where they must be other`(
        attaching: Attaching
    ) throws {
        let disk = try Disk(attaching.rawValue)
        let answers = try disk.run(
            """
            echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
            cni refused ADD a; cni again ADD a
            umount /proc/sys; echo 1 >/proc/sys/net/ipv4/ip_forward
            mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
            cni add ADD a; cni delete DEL a
            """)
        for step in ["refused", "again"] {
            #expect(answers[step]?.isSuccess == false)
            #expect(
                answers[step]?.message == "write 1 to setting net/ipv4/ip_forward: Read-only file system",
                "\(answers[step]?.outcome.output ?? "")")
        }
        #expect(answers["add"]?.isSuccess == true, "\(answers["add"]?.outcome.output ?? "")")
        #expect(answers["delete"]?.isSuccess == true)
        #expect(try disk.pod.links().count == 1)
        #expect(try disk.node.remains().filter { !$0.contains("br0") && !$0.hasPrefix("address") } == [])
    }
}
