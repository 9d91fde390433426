public import AddressAllocation
internal import KernelInterface
public import NetworkAddresses
internal import SystemPackage

extension LeaseStore {
    /// Frees every address of `owner`; one that has none is no error.
    ///
    /// - Returns: the addresses that were freed.
    @discardableResult
    public func release(
        _ owner: LeaseOwner, coolDown: CoolDown = .standard, now: Duration = Self.now
    ) throws(LeaseError) -> [IPAddress] {
        do throws(LeaseError) {
            return try withLock { index in try release(owner, in: index, coolDown: coolDown, now: now) }
        } catch .inputOutput(let error) {
            // On a full disk there may be no index to be had, and no lock; but files can be removed.
            return try releaseWithoutIndex(owner, after: error)
        }
    }

    private func release(
        _ owner: LeaseOwner, in index: borrowing LeaseIndex, coolDown: CoolDown, now: Duration
    ) throws(KernelError) -> [IPAddress] {
        let file = LeaseFile(owner)
        let held = try addresses(of: file, in: index)
        try free(held, coolDown: coolDown, now: now)
        // After the leases: a process killed between the two leaves a folder that has changed since the index was
        // complete. And also where there were none: a killed ADD may have got no further than the index.
        try index.set([], of: file)
        try index.forgetFormer(file)
        guard held.isEmpty else { return held }
        // An old host-local's lease is the whole container's.
        var container = file
        container.interface = nil
        let old = try addresses(of: container, in: index)
        guard !old.isEmpty else { return [] }
        try free(old, coolDown: coolDown, now: now)
        try index.set([], of: container)
        try index.forgetFormer(container)
        return old
    }

    /// Reads every lease, as host-local does, and removes the owner's.
    private func releaseWithoutIndex(
        _ owner: LeaseOwner, after failure: KernelError
    ) throws(LeaseError) -> [IPAddress] {
        var files = [LeaseFile(owner), LeaseFile(owner)]
        files[1].interface = nil
        let lock = try? directory.lock("lock", timeout: lockTimeout)
        do throws(KernelError) {
            var found: [IPAddress] = []
            for name in try directory.entries() {
                guard let address = IPAddress(name), let file = try holder(of: address), files.contains(file) else {
                    continue
                }
                found.append(address)
            }
            for address in found { try directory.remove(address.description) }
            for file in files { try LeaseIndex.remove(file, from: directory) }
            _ = consume lock
            return found
        } catch {
            throw .inputOutput(failure)
        }
    }

    /// Frees the addresses of every owner that is not in `valid`.
    @discardableResult
    public func releaseAll(
        except valid: Set<LeaseOwner>, coolDown: CoolDown = .standard, now: Duration = Self.now
    ) throws(LeaseError) -> [IPAddress] {
        try withLock { index in
            let validFiles = Set(valid.map(LeaseFile.init))
            let validContainers = Set(valid.map(\.containerID))
            var freed: [IPAddress] = []
            for name in try directory.entries() {
                // Other files may share the folder: only an address's file is a lease.
                guard let address = IPAddress(name), let file = try holder(of: address) else { continue }
                let isOld = file.interface == nil
                if isOld ? validContainers.contains(file.containerID) : validFiles.contains(file) { continue }
                try free([address], coolDown: coolDown, now: now)
                try index.set([], of: file)
                try index.forgetFormer(file)
                freed.append(address)
            }
            return freed
        }
    }

    private func free(_ addresses: [IPAddress], coolDown: CoolDown, now: Duration) throws(KernelError) {
        guard !addresses.isEmpty else { return }
        let resting = try? RestingAddresses.open(in: directory, coolDown: coolDown, now: now)
        for address in addresses {
            // In this order a process killed between the two leaves a lease, which the next DEL frees. On a full disk
            // the address does not rest; but it is freed.
            try? resting?.add(address)
            try directory.remove(address.description)
        }
    }

    // MARK: - Looking

    /// The addresses that `owner` has.
    public func addresses(of owner: LeaseOwner) throws(LeaseError) -> [IPAddress] {
        try withLock { index in
            var file = LeaseFile(owner)
            let held = try addresses(of: file, in: index)
            if !held.isEmpty { return held }
            file.interface = nil
            return try addresses(of: file, in: index)
        }
    }

    /// The first set that has no address left, nil where all have.
    ///
    /// Looks without the lock, because runtimes ask every few seconds and an answer that is a moment old does.
    public func exhaustedSet(of sets: [RangeSet]) throws(LeaseError) -> RangeSet? {
        do throws(KernelError) {
            let taken = try directory.entries().compactMap { IPAddress($0) }
            for set in sets {
                let inside = taken.filter { address in set.range(of: address).map { $0.gateway != address } ?? false }
                guard UInt128(inside.count) >= set.capacity else { continue }
                if UInt128(inside.count - (try takesNothingAway(inside))) >= set.capacity { return set }
            }
            return nil
        } catch {
            throw .inputOutput(error)
        }
    }

    /// How many of the addresses would be handed out though there is a file: it is empty, or its owner's boot is over.
    private func takesNothingAway(_ addresses: [IPAddress]) throws(KernelError) -> Int {
        var former: [IPAddress: String] = [:]
        for (name, had) in try LeaseIndex.formerAddresses(in: self) {
            for address in had { former[address] = name }
        }
        var count = 0
        for address in addresses {
            switch try state(of: address) {
            case .free, .abandoned: count += 1
            case .leased(let owner):
                guard let name = former[address], name == owner.indexName else { continue }
                if try isOlderThanBoot(address) { count += 1 }
            case .unreadable: continue
            }
        }
        return count
    }
}
