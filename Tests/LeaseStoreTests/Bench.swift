import KernelInterface
import NetworkAddresses

@testable import AddressAllocation
@testable import LeaseStore

func pool(_ subnet: String, _ first: String? = nil, _ last: String? = nil) throws -> RangeSet {
    try RangeSet([
        AddressRange(
            subnet: IPPrefix(subnet)!, first: first.map { IPAddress($0)! }, last: last.map { IPAddress($0)! })
    ])
}

func owner(_ id: String, _ interface: String = "eth0") -> LeaseOwner {
    LeaseOwner(containerID: id, interface: InterfaceName(interface)!)
}

/// A store in a folder of its own, and what a test wants to know of it.
struct Bench: ~Copyable {
    let folder: TemporaryFolder
    let store: LeaseStore
    let files: StateDirectory
    let request: AddressRequest

    static func set(_ sets: RangeSet...) throws -> Bench { try set(sets) }

    static func set(_ sets: [RangeSet]) throws -> Bench {
        let folder = try TemporaryFolder()
        let store = try LeaseStore.open(folder.path, network: "net")
        let files = try StateDirectory.open("\(folder.path)/net", create: false)
        let request = try AddressRequest(sets: sets, requested: [])
        return Bench(folder: folder, store: store, files: files, request: request)
    }

    @discardableResult
    func reserve(_ owner: LeaseOwner, rest: Duration = .zero, now: Duration = .seconds(1000)) throws -> [String] {
        try store.reserve(request, for: owner, coolDown: CoolDown(rest: rest), now: now).map(\.description)
    }

    func release(_ owner: LeaseOwner, rest: Duration = .zero, now: Duration = .seconds(1000)) throws {
        try store.release(owner, coolDown: CoolDown(rest: rest), now: now)
    }

    func text(_ name: String) throws -> String? {
        try files.read(name, limit: 1000).map { String(decoding: $0, as: UTF8.self) }
    }

    func write(_ name: String, _ text: String) throws { try files.replace(name, Array(text.utf8)) }

    /// The addresses that have a file.
    var leases: [String] {
        get throws { try files.entries().compactMap { IPAddress($0) }.sorted().map(\.description) }
    }

    /// Every file of ours beside the leases that names an owner.
    var indexed: [String] {
        get throws { try StateDirectory.open("\(files.path)/.fairlead/by-owner", create: false).entries().sorted() }
    }
}
