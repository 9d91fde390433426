internal import AddressAllocation
internal import KernelInterface
internal import NetworkAddresses
internal import SystemPackage

/// Which addresses an owner has, without looking at every lease; and which leases are of an earlier boot.
///
/// One link per owner beside the leases, which holds the owner's addresses. The index is a cache: the lease's own file
/// is the truth, and what the index says is believed only where that file agrees. It is complete as long as nobody but
/// this type's user changed the leases or the links; both folders' modification times, noted after each change of ours,
/// tell. Where one differs (host-local was here, a process was killed half way, a person removed a lease) the index is
/// made again from the leases.
///
/// Beside those times stands the boot in which it was noted. No container outlives its kernel, so the first process of a
/// new boot sets the entries of the last one aside: leases that are in no index of ours yet, as of a host-local that
/// ran until a moment ago, are not among them.
struct LeaseIndex: ~Copyable {
    private let files: StateDirectory
    private let owners: StateDirectory
    /// The running boot; empty where it cannot be told, or leases outlive boots.
    private let boot: String

    private static let noteName = "complete"
    private static let ownersName = "by-owner"
    private static let formerName = "former-boot"
    private static let noteLimit = 200

    /// What fails where something in the bookkeeping is not what we make of it.
    static let obstacles = LeaseState.obstacles + [.notDirectory]

    /// Opens the index of the leases in `store`, whose lock the caller holds.
    static func open(in store: borrowing LeaseStore) throws(KernelError) -> LeaseIndex {
        let files = try store.directory.subdirectory(LeaseStore.bookkeepingName, create: true, mode: 0o700)
        let owners = try files.subdirectory(ownersName, create: true, mode: 0o700)
        let index = LeaseIndex(files: files, owners: owners, boot: store.boot?.identifier ?? "")
        let noted = try index.files.read(noteName, limit: noteLimit)
        if noted != (try index.note(for: store.directory)) {
            if let noted, index.isOfFormerBoot(note: noted) { try index.setAside() }
            try index.rebuild(from: store)
        }
        return index
    }

    private init(files: consuming StateDirectory, owners: consuming StateDirectory, boot: String) {
        self.files = files
        self.owners = owners
        self.boot = boot
    }

    private func note(for directory: borrowing StateDirectory) throws(KernelError) -> [UInt8] {
        func text(_ time: Duration) -> String {
            "\(time.components.seconds) s \(time.components.attoseconds / 1_000_000_000) ns"
        }
        return Array(
            "\(text(try directory.modificationTime())), \(text(try owners.modificationTime()))\n\(boot)\n".utf8)
    }

    /// Notes that the index is complete for the leases as they are now.
    func noteComplete(for directory: borrowing StateDirectory) throws(KernelError) {
        try files.overwrite(Self.noteName, note(for: directory))
    }

    // MARK: - Owners

    /// The addresses that an owner may have.
    func addresses(of owner: LeaseFile) throws(KernelError) -> [IPAddress] {
        guard let name = owner.indexName else { return [] }
        return try owners.addresses(of: name)
    }

    func set(_ addresses: [IPAddress], of owner: LeaseFile) throws(KernelError) {
        guard let name = owner.indexName else { return }
        if addresses.isEmpty {
            try owners.remove(name)
        } else {
            try set(addresses, of: name)
        }
    }

    private func set(_ addresses: [IPAddress], of name: String) throws(KernelError) {
        let text = addresses.map(\.description).joined(separator: " ")
        // Longer than a link may be, for an owner of some hundred addresses.
        let isLong = text.utf8.count > 4095
        if !isLong {
            do throws(KernelError) { return try owners.makeLink(name, text) } catch where error.errno == .fileExists {}
        }
        // A process that is killed before the entry has its name leaves a half-made one: the next makes the index again.
        try files.remove(Self.noteName)
        if isLong {
            try owners.replace(name, Array(text.utf8), synchronized: false)
        } else {
            try owners.replaceLink(name, text)
        }
    }

    /// Makes the index again from the leases, and sweeps what killed processes left.
    private func rebuild(from store: borrowing LeaseStore) throws(KernelError) {
        try store.directory.removeUnfinished()
        try files.removeUnfinished()
        try owners.removeUnfinished()
        var addresses: [String: [IPAddress]] = [:]
        for name in try store.directory.entries() {
            guard let address = IPAddress(name) else { continue }
            switch try store.state(of: address) {
            case .leased(let owner): if let name = owner.indexName { addresses[name, default: []].append(address) }
            // Everybody who makes leases holds the lock until they are whole.
            case .abandoned: try store.directory.remove(name)
            case .free, .unreadable: continue
            }
        }
        for name in try owners.entries() where addresses[name] == nil { try owners.remove(name) }
        if let former = try former() {
            for name in try former.entries() where addresses[name] == nil { try former.remove(name) }
        }
        for (name, addresses) in addresses {
            // Read first, because most are right and a read costs a tenth of a write.
            if try owners.addresses(of: name) != addresses { try set(addresses, of: name) }
        }
        try noteComplete(for: store.directory)
    }

    // MARK: - Leases of an earlier boot

    private func isOfFormerBoot(note: [UInt8]) -> Bool {
        let lines = String(decoding: note, as: UTF8.self).split(separator: "\n")
        return lines.count == 2 && !boot.isEmpty && lines[1] != boot
    }

    private func setAside() throws(KernelError) {
        let former = try files.subdirectory(Self.formerName, create: true, mode: 0o700)
        // What a process that was killed here has not moved yet, the next one moves.
        for name in try owners.entries() { try owners.move(name, to: former) }
    }

    private func former() throws(KernelError) -> StateDirectory? {
        do throws(KernelError) {
            return try files.subdirectory(Self.formerName, create: false)
        } catch where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Those of the addresses that an owner had in an earlier boot and not since.
    func dead(_ addresses: [IPAddress], of owner: LeaseFile, in store: borrowing LeaseStore) throws(KernelError)
        -> [IPAddress]
    {
        guard !addresses.isEmpty, let name = owner.indexName, let former = try former() else { return [] }
        let had = try former.addresses(of: name)
        var dead: [IPAddress] = []
        for address in addresses where had.contains(address) {
            if try store.isOlderThanBoot(address) { dead.append(address) }
        }
        return dead
    }

    /// The names of the owners of an earlier boot whose leases may be there still, and the addresses of each.
    func formerOwners() throws(KernelError) -> [(name: String, addresses: [IPAddress])] {
        guard let former = try former() else { return [] }
        var owners: [(String, [IPAddress])] = []
        for name in try former.entries() { owners.append((name, try former.addresses(of: name))) }
        return owners
    }

    /// Forgets that an owner had leases in an earlier boot.
    func forgetFormer(_ owner: LeaseFile) throws(KernelError) {
        guard let name = owner.indexName, let former = try former() else { return }
        try former.remove(name)
    }

    // MARK: - Without a complete index

    /// Removes an owner's entry where there is one.
    static func remove(_ owner: LeaseFile, from directory: borrowing StateDirectory) throws(KernelError) {
        guard let name = owner.indexName else { return }
        do throws(KernelError) {
            let files = try directory.subdirectory(LeaseStore.bookkeepingName, create: false)
            for folder in [ownersName, formerName] { try files.subdirectory(folder, create: false).remove(name) }
        } catch where error.errno == .noSuchFileOrDirectory {
            // There is nothing noted, or nothing of an earlier boot.
        }
    }

    /// What the leases of an earlier boot are, as far as they are known to be, for who only looks.
    static func formerAddresses(in store: borrowing LeaseStore) throws(KernelError) -> [(String, [IPAddress])] {
        guard let boot = store.boot?.identifier else { return [] }
        do throws(KernelError) {
            let files = try store.directory.subdirectory(LeaseStore.bookkeepingName, create: false)
            let owners = try files.subdirectory(ownersName, create: false)
            let index = LeaseIndex(files: files, owners: owners, boot: boot)
            // Nothing has been done since the boot: all of the index is of an earlier one.
            if let noted = try index.files.read(noteName, limit: noteLimit), index.isOfFormerBoot(note: noted) {
                var found: [(String, [IPAddress])] = []
                for name in try index.owners.entries() { found.append((name, try index.owners.addresses(of: name))) }
                return found
            }
            return try index.formerOwners()
        } catch where error.errno == .noSuchFileOrDirectory || obstacles.contains(error.errno) {
            return []
        }
    }
}

extension StateDirectory {
    /// The addresses in an owner's entry.
    fileprivate func addresses(of name: String) throws(KernelError) -> [IPAddress] {
        let text: String
        if let content = try linkContent(name) {
            text = content
        } else {
            guard let content = try read(name, limit: 1 << 24) else { return [] }
            text = String(decoding: content, as: UTF8.self)
        }
        return text.split(separator: " ").compactMap { IPAddress(String($0)) }
    }
}
