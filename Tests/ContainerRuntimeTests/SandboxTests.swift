import Foundation
import KernelInterface
import Testing

/// The plugins called by containerd's service for Kubernetes, which a client tells what a kubelet would.
@Suite(.serialized, .enabled(if: getuid() == 0, "namespaces and containers need root")) struct SandboxTests {
    let machine: Machine
    private let socket = "/run/containerd/containerd.sock"

    /// How many sandboxes there are at a time; `FAIRLEAD_SANDBOXES=200` is the full size.
    private static let count = ProcessInfo.processInfo.environment["FAIRLEAD_SANDBOXES"].flatMap { Int($0) } ?? 12

    init() throws {
        machine = try Machine()
        let folder = machine.folder
        for path in ["net.d", "image"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(path)", withIntermediateDirectories: true)
        }
        try machine.run(
            Machine.script("make-image"), "\(folder)/image", "localhost/pause:test", "/bin/httpd", "-f", "-p", "80",
            "-h", "/www")
        try Data(
            """
            version = 2
            root = "\(folder)/disk/containerd"
            state = "/run/containerd"
            [grpc]
            address = "\(socket)"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "localhost/pause:test"
            disable_apparmor = true
            # A container's own root may not be allowed to be killed last.
            restrict_oom_score_adj = true
            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "native"
            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "/opt/cni/bin"
            conf_dir = "\(folder)/net.d"
            """.utf8
        ).write(to: URL(filePath: "\(folder)/containerd.toml"))
    }

    private func configure(_ plugins: String) throws {
        try Data(#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [\#(plugins)]}"#.utf8)
            .write(to: URL(filePath: "\(machine.folder)/net.d/10-pods.conflist"))
    }

    private static let ipam = """
        {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]],
         "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
        """

    /// The house's own plugin, and the reference's names in a chain.
    static let networks = [
        """
        {"type": "fairlead", "policyGate": "open", "capabilities": {"portMappings": true, "bandwidth": true,
         "io.kubernetes.cri.pod-annotations": true}, "ipam": \(ipam)}
        """,
        """
        {"type": "bridge", "bridge": "br0", "isGateway": true, "hairpinMode": true, "ipam": \(ipam)},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}}
        """,
    ]

    private func startContainerd() throws -> ChildProcess {
        let started = try machine.start(
            "containerd", "--config", "\(machine.folder)/containerd.toml", log: "containerd.log")
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            let status = try? machine.attempt(["/usr/bin/python3", Machine.script("cri"), socket, "status"])
            if let status, status.status.isSuccess, status.text.contains("NetworkReady True") { return started }
            let log = try? String(contentsOfFile: "\(machine.folder)/containerd.log", encoding: .utf8)
            try #require(
                ContinuousClock.now < deadline,
                "containerd is not ready: \(status?.text ?? "")\(status?.errorText ?? "")\(log ?? "")")
            usleep(50_000)
        }
    }

    private func stop(_ containerd: ChildProcess) throws {
        // nsenter waits for containerd, and containerd ends with its own signal only.
        try machine.run("pkill", "--exact", "--signal", "KILL", "containerd")
        try containerd.wait()
    }

    private func importImage() throws {
        try machine.run(
            "ctr", "--address", socket, "--namespace", "k8s.io", "image", "import", "--snapshotter", "native",
            "\(machine.folder)/image/image.tar")
    }

    @discardableResult
    private func cri(_ arguments: [String]) throws -> [[String]] {
        let result = try machine.attempt(["/usr/bin/python3", Machine.script("cri"), socket] + arguments)
        try #require(result.status.isSuccess, "cri \(arguments): \(result.text)\(result.errorText)")
        return result.text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    }

    /// Runs sandboxes, and gives each one's id and addresses.
    private func run(_ name: String, count: Int = 1, _ more: String = "") throws -> [[String]] {
        let options = #"{"name": "\#(name)", "group": "\#(machine.controlGroup)"\#(more)}"#
        return try cri(["run", "\(count)", options])
    }

    @Test(arguments: Self.networks)
    func `sandboxes have ports and limits, outlive containerd and a loss of power, and leave nothing`(
        network: String
    ) throws {
        try configure(network)
        var containerd = try startContainerd()
        try importImage()
        let web = try run(
            "web",
            """
            , "ports": [{"host": 8080, "pod": 80}, {"host": 5353, "pod": 53, "protocol": "UDP"}],
            "annotations": {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
            """)
        let other = try run("other")
        let id = try #require(web.first?.first)
        #expect(web[0].count == 3 && web[0][1].hasPrefix("10.88.") && web[0][2].hasPrefix("fd00:88::"), "\(web)")
        #expect(try machine.fetch("198.51.100.1:8080", fromOutside: true) == "hello")
        #expect(try machine.fetch("[fd00:51::1]:8080", fromOutside: true) == "hello")
        #expect(try machine.fetch(web[0][1]) == "hello" && machine.fetch("[\(web[0][2])]") == "hello")
        let shaping = try machine.run("tc", "qdisc")
        #expect(shaping.contains("rate 10Mbit") && shaping.contains("rate 20Mbit"), "\(shaping)")
        #expect(try machine.run("nft", "list", "ruleset").contains("udp . 5353"))

        // containerd dies, and so does the namespace of one of the sandboxes.
        try stop(containerd)
        let spec = try #require(other.first?.first)
        containerd = try startContainerd()
        #expect(try machine.fetch("198.51.100.1:8080", fromOutside: true) == "hello")
        let info = try machine.run("ctr", "--address", socket, "-n", "k8s.io", "container", "info", spec)
        let start = try #require(info.range(of: "/var/run/netns/cni-"))
        let namespace = String(info[start.lowerBound...].prefix { $0 != "\"" })
        try machine.run("ctr", "--address", socket, "-n", "k8s.io", "task", "kill", "--signal", "9", spec)
        try machine.run("umount", namespace)
        try machine.run("rm", namespace)
        try cri(["stop", spec])
        try cri(["stop", spec])
        try cri(["remove", spec])
        #expect(try !machine.run("ls", "/var/lib/cni/networks/pods").contains(other[0][1] + "\n"))

        // Then the power goes: the runtime finds the sandbox dead, and its DEL comes without a namespace.
        try machine.reboot()
        let afterwards = try startContainerd()
        #expect(try cri(["list"]) == [[id, "not", "ready"]])
        try cri(["stop", id])
        try cri(["remove", id])
        #expect(try machine.remains() == [])
        let again = try run("web", #", "ports": [{"host": 8080, "pod": 80}]"#)
        #expect(try machine.fetch("198.51.100.1:8080", fromOutside: true) == "hello")
        try cri(["stop", again[0][0]])
        try cri(["remove", again[0][0]])
        #expect(try machine.remains() == [])
        try stop(afterwards)
    }

    @Test func `many sandboxes at a time have addresses of their own, and leave nothing`() throws {
        try configure(Self.networks[0])
        let containerd = try startContainerd()
        try importImage()
        let clock = ContinuousClock()
        var sandboxes: [[String]] = []
        let starting = try clock.measure { sandboxes = try run("many", count: Self.count) }
        #expect(sandboxes.count == Self.count)
        #expect(Set(sandboxes.flatMap { $0.dropFirst() }).count == 2 * Self.count)
        let ids = sandboxes.map { $0[0] }
        let stopping = try clock.measure { try cri(["stop"] + ids) }
        try cri(["remove"] + ids)
        #expect(try machine.remains() == [])
        if Self.count >= 100 { print("\(Self.count) sandboxes: started in \(starting), stopped in \(stopping)") }
        try stop(containerd)
    }
}
