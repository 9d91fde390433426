public import AddressAllocation
internal import KernelInterface
public import NetworkAddresses

extension LeaseStore {
    /// Leases one address of each set to `owner`, or fails and leaves everything as it was.
    ///
    /// An owner that was there in an earlier boot, such as a container that is started again, begins anew.
    ///
    /// - Returns: an address for each set, in the order of the sets.
    public func reserve(
        _ request: AddressRequest, for owner: LeaseOwner, coolDown: CoolDown = .standard, now: Duration = Self.now
    ) throws(LeaseError) -> [IPAddress] {
        let file = LeaseFile(owner)
        return try withLock { index in
            let held = try livingAddresses(of: file, in: index)
            let chosen = try choose(request, for: owner, holding: held, in: index, coolDown: coolDown, now: now)
            do {
                // The index first: a process killed between the two leaves a lease that its owner's DEL finds.
                try index.set(held + chosen, of: file)
                for (place, address) in chosen.enumerated() {
                    try directory.create(address.description, file.bytes, mode: 0o600, synchronized: boot == nil)
                    setCursor(address, of: place)
                }
            } catch {
                for address in chosen where try holder(of: address) == file {
                    try directory.remove(address.description)
                }
                try index.set(held, of: file)
                try index.noteComplete(for: directory)
                throw error
            }
            return chosen
        }
    }

    private func choose(
        _ request: AddressRequest, for owner: LeaseOwner, holding held: [IPAddress], in index: borrowing LeaseIndex,
        coolDown: CoolDown, now: Duration
    ) throws -> [IPAddress] {
        let resting = try RestingAddresses.open(in: directory, coolDown: coolDown, now: now)
        var chosen: [IPAddress] = []
        for (place, set) in request.sets.enumerated() {
            let problem = "failed to allocate for range \(place): "
            if let named = request.named[place] {
                guard try isFree(named) || reclaim(named, in: index) else {
                    throw LeaseError.taken(
                        problem + "requested IP address \(named) is not available in range set \(set)")
                }
                chosen.append(named)
            } else if let address = held.first(where: { set.range(of: $0) != nil }) {
                throw LeaseError.duplicate(
                    problem
                        + "\(address) has been allocated to \(owner.containerID), duplicate allocation is not allowed")
            } else if let address = try nextFree(in: set, after: cursor(of: place), index: index, resting: resting) {
                chosen.append(address)
            } else {
                throw LeaseError.exhausted(problem + "no IP addresses available in range set: \(set)")
            }
        }
        return chosen
    }

    // MARK: - The cursor

    /// Host-local's file of the address that was leased last from the set at `place`.
    private static func cursorName(_ place: Int) -> String { "last_reserved_ip.\(place)" }

    /// Nil also where it cannot be read: it is only where to begin to look.
    private func cursor(of place: Int) -> IPAddress? {
        let text = (try? directory.read(Self.cursorName(place), limit: LeaseFile.sizeLimit)) ?? nil
        return text.flatMap { IPAddress(String(decoding: $0, as: UTF8.self)) }
    }

    /// Without it addresses come into use again sooner, but not before they have rested.
    private func setCursor(_ address: IPAddress, of place: Int) {
        try? directory.overwrite(Self.cursorName(place), Array(address.description.utf8), mode: 0o600)
    }

    // MARK: - Free addresses

    /// Whether nobody has the address. Under a complete index no file is empty.
    private func isFree(_ address: IPAddress) throws(KernelError) -> Bool {
        try !directory.contains(address.description)
    }

    /// The first free address after the cursor that does not rest; where there is none, one of an earlier boot, and
    /// then the one that has rested longest.
    private func nextFree(
        in set: RangeSet, after cursor: IPAddress?, index: borrowing LeaseIndex, resting: borrowing RestingAddresses?
    ) throws(KernelError) -> IPAddress? {
        // One look per candidate, and one at the whole folder once many were taken: the cost stays that of a few looks
        // in a pool with room, and that of one listing where the cursor meets a long run of leases.
        var looksLeft = 64
        var taken: Set<IPAddress>?
        var longestResting: (address: IPAddress, freed: Duration)?
        for address in set.candidates(after: cursor) {
            if taken == nil, looksLeft == 0 { taken = Set(try directory.entries().compactMap { IPAddress($0) }) }
            looksLeft -= 1
            if let taken { if taken.contains(address) { continue } } else if try !isFree(address) { continue }
            guard let freed = try resting?.freed(address) else { return address }
            if longestResting.map({ freed < $0.freed }) ?? true { longestResting = (address, freed) }
        }
        return try reclaimAny(of: set, in: index) ?? longestResting?.address
    }

    // MARK: - Leases of an earlier boot

    /// The addresses of an owner, once those of an earlier boot are freed.
    private func livingAddresses(of owner: LeaseFile, in index: borrowing LeaseIndex) throws(KernelError)
        -> [IPAddress]
    {
        let held = try addresses(of: owner, in: index)
        let dead = try index.dead(held, of: owner, in: self)
        guard !dead.isEmpty else { return held }
        let living = held.filter { !dead.contains($0) }
        for address in dead { try directory.remove(address.description) }
        try index.set(living, of: owner)
        try index.forgetFormer(owner)
        return living
    }

    /// Frees an address whose owner went with an earlier boot; false where there is no such owner.
    private func reclaim(_ address: IPAddress, in index: borrowing LeaseIndex) throws(KernelError) -> Bool {
        guard let owner = try holder(of: address), try index.dead([address], of: owner, in: self) == [address] else {
            return false
        }
        _ = try livingAddresses(of: owner, in: index)
        return true
    }

    private func reclaimAny(of set: RangeSet, in index: borrowing LeaseIndex) throws(KernelError) -> IPAddress? {
        for owner in try index.formerOwners() {
            for address in owner.addresses where set.range(of: address).map({ $0.gateway != address }) ?? false {
                if try reclaim(address, in: index) { return address }
            }
        }
        return nil
    }
}
