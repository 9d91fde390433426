internal import AddressAllocation
internal import KernelInterface
internal import NetworkAddresses

/// Which addresses an owner has, without looking at every lease.
///
/// One small file per owner beside the leases. The index is a cache: the lease's own file is the truth, and what the
/// index says is believed only where that file agrees. It is complete as long as nobody but this type's user changed
/// the leases; the folder's modification time, noted after each change of ours, tells. Where it differs (host-local was
/// here, a process was killed half way, a person removed a lease) the index is made again from the leases.
struct LeaseIndex: ~Copyable {
    private let files: StateDirectory
    private let owners: StateDirectory

    private static let timeName = "directory-time"

    /// Opens the index of the leases in `directory`, whose lock the caller holds.
    static func open(in directory: borrowing StateDirectory) throws(KernelError) -> LeaseIndex {
        let files = try directory.subdirectory(LeaseStore.bookkeepingName, create: true, mode: 0o700)
        let owners = try files.subdirectory("by-owner", create: true, mode: 0o700)
        let index = LeaseIndex(files: files, owners: owners)
        if try index.files.read(timeName, limit: 100) != (try time(of: directory)) {
            try index.rebuild(from: directory)
        }
        return index
    }

    private init(files: consuming StateDirectory, owners: consuming StateDirectory) {
        self.files = files
        self.owners = owners
    }

    private static func time(of directory: borrowing StateDirectory) throws(KernelError) -> [UInt8] {
        let (seconds, attoseconds) = try directory.modificationTime().components
        return Array("\(seconds) s \(attoseconds / 1_000_000_000) ns".utf8)
    }

    /// Notes that the index is complete for the leases as they are now.
    func noteComplete(for directory: borrowing StateDirectory) throws(KernelError) {
        try files.overwrite(Self.timeName, Self.time(of: directory))
    }

    /// The addresses that an owner may have.
    func addresses(of owner: LeaseFile) throws(KernelError) -> [IPAddress] {
        // A name too long for a file is that of no owner of ours.
        guard owner.indexName.utf8.count <= 255 else { return [] }
        guard let bytes = try owners.read(owner.indexName, limit: 1 << 16) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { IPAddress(String($0)) }
    }

    func set(_ addresses: [IPAddress], of owner: LeaseFile) throws(KernelError) {
        guard !addresses.isEmpty else {
            if owner.indexName.utf8.count <= 255 { try owners.remove(owner.indexName) }
            return
        }
        let text = addresses.map { "\($0)\n" }.joined()
        try owners.replace(owner.indexName, Array(text.utf8), synchronized: false)
    }

    /// Makes the index again from the leases, and sweeps what killed processes left.
    private func rebuild(from directory: borrowing StateDirectory) throws(KernelError) {
        try directory.removeUnfinished()
        try files.removeUnfinished()
        try owners.removeUnfinished()
        var addresses: [String: [IPAddress]] = [:]
        for name in try directory.entries() {
            guard let address = IPAddress(name), let content = try directory.read(name, limit: LeaseFile.sizeLimit),
                let owner = LeaseFile(parsing: content)
            else { continue }
            addresses[owner.indexName, default: []].append(address)
        }
        for name in try owners.entries() where addresses[name] == nil { try owners.remove(name) }
        for (name, addresses) in addresses where name.utf8.count <= 255 {
            let bytes = Array(addresses.map { "\($0)\n" }.joined().utf8)
            // Read first, because most are right and a read costs a tenth of a write.
            if try owners.read(name, limit: 1 << 16) != bytes { try owners.replace(name, bytes, synchronized: false) }
        }
        try noteComplete(for: directory)
    }
}
