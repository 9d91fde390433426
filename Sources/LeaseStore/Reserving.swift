public import AddressAllocation
internal import KernelInterface
public import NetworkAddresses

extension LeaseStore {
    /// Leases one address of each set to `owner`, or fails and leaves everything as it was.
    ///
    /// - Returns: an address for each set, in the order of the sets.
    public func reserve(
        _ request: AddressRequest, for owner: LeaseOwner, coolDown: CoolDown = .standard, now: Duration = Self.now
    ) throws(LeaseError) -> [IPAddress] {
        let file = LeaseFile(owner)
        return try withLock { index in
            let held = try addresses(of: file, in: index)
            let chosen = try choose(request, for: owner, holding: held, coolDown: coolDown, now: now)
            do {
                // The index first: a process killed between the two leaves a lease that its owner's DEL finds.
                try index.set(held + chosen, of: file)
                for (place, address) in chosen.enumerated() {
                    try directory.create(address.description, file.bytes, mode: 0o600, synchronized: false)
                    try setCursor(address, of: place)
                }
            } catch {
                for address in chosen where try content(address) == file { try directory.remove(address.description) }
                try index.set(held, of: file)
                try index.noteComplete(for: directory)
                throw error
            }
            return chosen
        }
    }

    private func choose(
        _ request: AddressRequest, for owner: LeaseOwner, holding held: [IPAddress], coolDown: CoolDown, now: Duration
    ) throws -> [IPAddress] {
        let resting = try RestingAddresses.open(in: directory, coolDown: coolDown, now: now)
        var chosen: [IPAddress] = []
        for (place, set) in request.sets.enumerated() {
            let problem = "failed to allocate for range \(place): "
            if let named = request.named[place] {
                guard try isFree(named) else {
                    throw LeaseError.taken(
                        problem + "requested IP address \(named) is not available in range set \(set)")
                }
                chosen.append(named)
            } else if let address = held.first(where: { set.range(of: $0) != nil }) {
                throw LeaseError.duplicate(
                    problem
                        + "\(address) has been allocated to \(owner.containerID), duplicate allocation is not allowed")
            } else if let address = try nextFree(in: set, after: cursor(of: place), resting: resting) {
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

    private func cursor(of place: Int) throws(KernelError) -> IPAddress? {
        try directory.read(Self.cursorName(place), limit: LeaseFile.sizeLimit).flatMap {
            IPAddress(String(decoding: $0, as: UTF8.self))
        }
    }

    private func setCursor(_ address: IPAddress, of place: Int) throws(KernelError) {
        try directory.overwrite(Self.cursorName(place), Array(address.description.utf8), mode: 0o600)
    }

    // MARK: - Free addresses

    /// Whether nobody has the address. An empty file is removed: it is nobody's.
    private func isFree(_ address: IPAddress) throws(KernelError) -> Bool {
        guard let bytes = try directory.read(address.description, limit: LeaseFile.sizeLimit) else { return true }
        guard LeaseFile(parsing: bytes) == nil else { return false }
        try directory.remove(address.description)
        return true
    }

    /// The first free address after the cursor that does not rest; where all that are free rest, the one that has
    /// rested longest.
    private func nextFree(
        in set: RangeSet, after cursor: IPAddress?, resting: borrowing RestingAddresses?
    ) throws(KernelError) -> IPAddress? {
        // One look per candidate, and one at the whole folder once many were taken: the cost stays that of a few looks
        // in a pool with room, and that of one listing where the cursor meets a long run of leases.
        var looksLeft = 64
        var taken: Set<String>?
        var longestResting: (address: IPAddress, freed: Duration)?
        for address in set.candidates(after: cursor) {
            if taken == nil, looksLeft == 0 { taken = Set(try directory.entries()) }
            looksLeft -= 1
            if let taken, taken.contains(address.description) { continue }
            if taken == nil, try !isFree(address) { continue }
            guard let freed = try resting?.freed(address) else { return address }
            if longestResting.map({ freed < $0.freed }) ?? true { longestResting = (address, freed) }
        }
        if let longestResting { return longestResting.address }
        // The listing does not tell empty files from leases.
        for address in set.candidates(after: cursor) where try isFree(address) { return address }
        return nil
    }
}
