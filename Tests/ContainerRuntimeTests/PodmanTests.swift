import Foundation
import KernelInterface
import Testing

/// The plugins called by Debian's podman, with its CNI backend, as networks of two bridges.
@Suite(.serialized, .enabled(if: getuid() == 0, "namespaces and containers need root")) struct PodmanTests {
    let machine: Machine

    init() throws {
        machine = try Machine()
        let folder = machine.folder
        let files = FileManager.default
        for path in ["net.d", "rootfs/bin", "rootfs/www", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/etc"] {
            try files.createDirectory(atPath: "\(folder)/\(path)", withIntermediateDirectories: true)
        }
        try machine.run("sh", "-c", "cp $(command -v busybox) \(folder)/rootfs/bin/busybox")
        for applet in ["httpd", "ip"] {
            try files.createSymbolicLink(atPath: "\(folder)/rootfs/bin/\(applet)", withDestinationPath: "busybox")
        }
        try Data("hello".utf8).write(to: URL(filePath: "\(folder)/rootfs/www/index.html"))
        try Data(
            """
            [network]
            network_backend = "cni"
            cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
            network_config_dir = "\(folder)/net.d"
            default_network = "one"
            [engine]
            cgroup_manager = "cgroupfs"
            runtime = "runc"
            events_logger = "file"
            tmp_dir = "/run/libpod"
            static_dir = "\(folder)/disk/libpod"
            volume_path = "\(folder)/disk/volumes"
            [containers]
            log_driver = "k8s-file"
            """.utf8
        ).write(to: URL(filePath: "\(folder)/containers.conf"))
        try Data(
            """
            [storage]
            driver = "vfs"
            runroot = "/run/containers/storage"
            graphroot = "\(folder)/disk/storage"
            """.utf8
        ).write(to: URL(filePath: "\(folder)/storage.conf"))
        for (name, digits) in [("one", "88"), ("two", "89")] {
            try Data(
                """
                {"cniVersion": "1.0.0", "name": "\(name)", "plugins": [
                  {"type": "bridge", "bridge": "br-\(name)", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                   "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                            "ranges": [[{"subnet": "10.\(digits).0.0/16"}], [{"subnet": "fd00:\(digits)::/64"}]]}},
                  {"type": "portmap", "capabilities": {"portMappings": true}}]}
                """.utf8
            ).write(to: URL(filePath: "\(folder)/net.d/\(name).conflist"))
        }
    }

    @discardableResult
    func podman(_ arguments: String...) throws -> String {
        let result = try machine.attempt(
            ["podman"] + arguments,
            environment: [
                "CONTAINERS_CONF": "\(machine.folder)/containers.conf",
                "CONTAINERS_STORAGE_CONF": "\(machine.folder)/storage.conf",
            ])
        try #require(result.status.isSuccess, "podman \(arguments): \(result.text)\(result.errorText)")
        return result.text
    }

    /// Starts a container that serves its files.
    func serve(_ name: String, _ options: [String]) throws {
        let arguments =
            ["run", "--detach", "--name", name, "--cgroup-parent", machine.controlGroup, "--stop-timeout", "0"]
            + options + ["--rootfs", "\(machine.folder)/rootfs", "/bin/httpd", "-f", "-p", "80", "-h", "/www"]
        let result = try machine.attempt(
            ["podman"] + arguments,
            environment: [
                "CONTAINERS_CONF": "\(machine.folder)/containers.conf",
                "CONTAINERS_STORAGE_CONF": "\(machine.folder)/storage.conf",
            ])
        try #require(result.status.isSuccess, "\(arguments): \(result.text)\(result.errorText)")
    }

    private func expectBothServed(_ when: String) throws {
        for address in ["198.51.100.1:8080", "[fd00:51::1]:8080"] {
            #expect(try machine.fetch(address, fromOutside: true) == "hello", "\(when): \(address) from outside")
            #expect(try machine.fetch(address) == "hello", "\(when): \(address) from the machine itself")
        }
        #expect(try machine.fetch("127.0.0.1:8080") == "hello", "\(when)")
        // Its mapping was passed to both networks, and is to lead to one of them.
        #expect(try machine.fetch("127.0.0.1:8081") == "hello", "\(when)")
        #expect(try machine.fetch("198.51.100.1:8081", fromOutside: true) == nil, "\(when): bound to 127.0.0.1")
    }

    @Test func `containers on one and on two networks live, restart, move and leave nothing`() throws {
        try serve("a", ["--network", "one", "-p", "8080:80", "-p", "5353:53/udp"])
        try serve("b", ["--network", "one,two", "-p", "127.0.0.1:8081:80"])
        try expectBothServed("at first")
        let addresses = try podman("exec", "b", "/bin/ip", "-o", "address")
        for network in ["10.88.", "10.89.", "fd00:88::", "fd00:89::"] { #expect(addresses.contains(network)) }
        let routes = try podman("exec", "b", "/bin/ip", "route")
        #expect(routes.contains("default via 10.88.0.1") && routes.contains("default via 10.89.0.1"), "\(routes)")

        try podman("restart", "a", "b")
        try expectBothServed("restarted")
        try podman("network", "reload", "a", "b")
        try expectBothServed("reloaded")
        try podman("stop", "a", "b")
        #expect(try machine.remains() == [])
        try podman("start", "a", "b")
        try expectBothServed("started again")

        try podman("network", "disconnect", "two", "b")
        #expect(try !podman("exec", "b", "/bin/ip", "-o", "address").contains("10.89."))
        try podman("network", "connect", "two", "b")
        #expect(try podman("exec", "b", "/bin/ip", "-o", "address").contains("10.89."))
        try podman("rm", "--force", "--time", "0", "a", "b")
        #expect(try machine.remains() == [])
    }

    @Test func `a network that podman made itself, with foreign plugins behind ours`() throws {
        try podman("network", "create", "--subnet", "10.90.0.0/24", "--subnet", "fd00:90::/64", "--ipv6", "three")
        let list = try String(contentsOfFile: "\(machine.folder)/net.d/three.conflist", encoding: .utf8)
        for plugin in ["bridge", "portmap", "firewall", "tuning"] { #expect(list.contains("\"\(plugin)\"")) }
        try serve(
            "c", ["--network", "three", "-p", "8080:80", "--ip", "10.90.0.77", "--mac-address", "02:11:22:33:44:55"])
        let interface = try podman("exec", "c", "/bin/ip", "address", "show", "eth0")
        for text in ["10.90.0.77/24", "fd00:90::2/64", "02:11:22:33:44:55"] {
            #expect(interface.contains(text), "\(text) in \(interface)")
        }
        #expect(try machine.fetch("198.51.100.1:8080", fromOutside: true) == "hello")
        try podman("rm", "--force", "--time", "0", "c")
        #expect(try machine.remains() == [])
        try podman("network", "rm", "three")
    }

    @Test func `after a loss of power everything comes back`() throws {
        try serve("a", ["--network", "one", "-p", "8080:80", "-p", "5353:53/udp"])
        try serve("b", ["--network", "one,two", "-p", "127.0.0.1:8081:80"])
        try serve("gone", ["--network", "two"])
        try machine.reboot()
        #expect(try !machine.run("ip", "link").contains("br-one"))
        #expect(try machine.run("find", "/var/lib/cni/networks").contains("10.88."), "leases are on the disk")
        #expect(try machine.run("find", "/var/lib/cni/results").contains("eth0"), "and so are results of ADD")
        // No DEL comes before the ADD.
        try podman("start", "a", "b")
        try expectBothServed("after the reboot")
        try podman("rm", "--force", "--time", "0", "a", "b", "gone")
        // Of the container that never started again, podman has no network to tear down: what the disk holds of it
        // is a lease of a dead boot, which the next ADD or GC reclaims.
        let remains = try machine.remains().filter { !$0.contains("/two") }
        #expect(remains == [])
    }
}
