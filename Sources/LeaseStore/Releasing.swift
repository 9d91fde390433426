public import AddressAllocation
internal import KernelInterface
public import NetworkAddresses

extension LeaseStore {
    /// Frees every address of `owner`; one that has none is no error.
    ///
    /// - Returns: the addresses that were freed.
    @discardableResult
    public func release(
        _ owner: LeaseOwner, coolDown: CoolDown = .standard, now: Duration = Self.now
    ) throws(LeaseError) -> [IPAddress] {
        try withLock { index in
            let file = LeaseFile(owner)
            let held = try addresses(of: file, in: index)
            try free(held, coolDown: coolDown, now: now)
            // After the leases: a process killed between the two leaves a folder that has changed since the index was
            // complete. And also where there were none: a killed ADD may have got no further than the index.
            try index.set([], of: file)
            guard held.isEmpty else { return held }
            // An old host-local's lease is the whole container's.
            var container = file
            container.interface = nil
            let old = try addresses(of: container, in: index)
            try free(old, coolDown: coolDown, now: now)
            try index.set([], of: container)
            return old
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
                guard let address = IPAddress(name) else { continue }
                let file = try content(address)
                if let file {
                    let isOld = file.interface == nil
                    if isOld ? validContainers.contains(file.containerID) : validFiles.contains(file) { continue }
                }
                try free([address], coolDown: coolDown, now: now)
                if let file { try index.set([], of: file) }
                freed.append(address)
            }
            return freed
        }
    }

    private func free(_ addresses: [IPAddress], coolDown: CoolDown, now: Duration) throws(KernelError) {
        guard !addresses.isEmpty else { return }
        let resting = try RestingAddresses.open(in: directory, coolDown: coolDown, now: now)
        for address in addresses {
            // In this order a process killed between the two leaves a lease, which the next DEL frees.
            try resting?.add(address)
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
                // An empty file takes no address away.
                var leases = 0
                for address in inside where try content(address) != nil { leases += 1 }
                if UInt128(leases) >= set.capacity { return set }
            }
            return nil
        } catch {
            throw .inputOutput(error)
        }
    }
}
