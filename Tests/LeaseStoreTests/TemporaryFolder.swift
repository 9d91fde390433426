import KernelInterface

/// A folder of a test's own, removed with everything in it at the end of its life.
struct TemporaryFolder: ~Copyable {
    let path: String
    private let name: String

    init() throws {
        name = "fairlead-leases-\(UInt64.random(in: .min ... .max))"
        path = "/tmp/\(name)"
        _ = try StateDirectory.open(path, create: true, mode: 0o700)
    }

    deinit { _ = try? StateDirectory.open("/tmp", create: false).removeSubdirectory(name) }
}
