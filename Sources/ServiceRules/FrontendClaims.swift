internal import KubernetesObjects

/// The frontends that several services claim, and who has each.
///
/// Almost always empty: what only one service claims does not appear.
struct FrontendClaims {
    private struct Contest {
        var ranks: [NamespacedName: FrontendRank]
        /// Who was last let have it, and so stands in the table.
        var holder: NamespacedName

        var winner: NamespacedName? { ranks.values.min()?.service }
    }

    private var contests: [Frontend: Contest] = [:]

    /// Whether several services claim it.
    func isContested(_ frontend: Frontend) -> Bool { !contests.isEmpty && contests[frontend] != nil }

    /// The service that may have it; nil where it is not contested.
    func winner(of frontend: Frontend) -> NamespacedName? { contests[frontend]?.winner }

    /// Notes that a second service claims what one has.
    mutating func open(_ frontend: Frontend, heldBy holder: FrontendRank) {
        contests[frontend] = Contest(ranks: [holder.service: holder], holder: holder.service)
    }

    mutating func add(_ rank: FrontendRank, to frontend: Frontend) { contests[frontend]?.ranks[rank.service] = rank }

    /// Takes back all that a service claims.
    ///
    /// - Returns: the frontends that were contested by it.
    mutating func withdraw(_ service: NamespacedName) -> [Frontend] {
        guard !contests.isEmpty else { return [] }
        let touched = contests.filter { $0.value.ranks[service] != nil }.map(\.key)
        for frontend in touched { contests[frontend]!.ranks[service] = nil }
        return touched
    }

    /// Gives the frontend to the claim that counts now, and ends the contest where it is the only one.
    ///
    /// - Returns: who loses it and who gains it, where that changed.
    mutating func settle(_ frontend: Frontend) -> Set<NamespacedName> {
        guard let contest = contests[frontend] else { return [] }
        let winner = contest.winner
        if contest.ranks.count < 2 { contests[frontend] = nil } else { contests[frontend]!.holder = winner! }
        return winner == contest.holder ? [] : Set([contest.holder, winner].compactMap(\.self))
    }

    /// The claims that lost, one note for each.
    var notes: [Note] {
        contests.flatMap { frontend, contest in
            contest.ranks.values.filter { $0.service != contest.holder }.map { loser in
                Note(
                    object: ObjectReference(.service, loser.service), field: loser.origin.field,
                    message: "\(frontend) is already that of Service \(contest.holder), which keeps it")
            }
        }.sorted { ($0.object!, $0.message) < ($1.object!, $1.message) }
    }
}
