import Testing

@testable import KubernetesClient

/// How long is waited, and that no two nodes wait alike.
@Suite struct BackoffTests {
    /// The first delays of a backoff.
    private func delays(seed: UInt64, _ count: Int = 200) -> [Duration] {
        var backoff = Backoff(seed: seed)
        return (0..<count).map { _ in backoff.next() }
    }

    @Test(arguments: 0..<50 as Range<UInt64>)
    func `each delay lies between the least and three times the one before, and never above the most`(seed: UInt64) {
        var previous = Backoff.least
        for delay in delays(seed: seed) {
            #expect(delay >= Backoff.least && delay <= min(previous * 3, Backoff.most))
            previous = delay
        }
    }

    @Test func `delays grow until they fill what they may`() {
        let all = (0..<200).map { delays(seed: $0) }
        func mean(_ index: Int) -> Duration { all.reduce(.zero) { $0 + $1[index] } / all.count }
        #expect(mean(0) < .milliseconds(600) && mean(0) < mean(2) && mean(2) < mean(5))
        // Half of least…most, were each drawn from all of it; a server that is gone for long is asked about that often.
        let settled = all.flatMap { $0[50...] }
        #expect((Duration.seconds(6)...(.seconds(15))).contains(settled.reduce(.zero, +) / settled.count))
        #expect(settled.max()! > Backoff.most * 9 / 10)
    }

    @Test func `after a reset it begins anew`() {
        for seed in 0..<50 as Range<UInt64> {
            var backoff = Backoff(seed: seed)
            for _ in 0..<20 { _ = backoff.next() }
            backoff.reset()
            #expect(backoff.next() <= Backoff.least * 3)
            #expect(backoff.next() <= Backoff.least * 9)
        }
    }

    @Test func `a seed says all, and two seeds have nothing in common`() {
        #expect(delays(seed: 7) == delays(seed: 7))
        // Seeds beside each other, as those of a cluster's nodes may be.
        let firsts = (0..<1000).map { delays(seed: $0, 1)[0] }
        let window = (Backoff.least * 3 - Backoff.least) / 4
        for quarter in 0..<4 {
            let from = Backoff.least + window * quarter
            #expect((180...320).contains(firsts.count { $0 >= from && $0 < from + window }), "quarter \(quarter)")
        }
    }

    @Test func `a range that is upside down is its lower end`() {
        var backoff = Backoff(seed: 1)
        #expect(backoff.draw(from: .seconds(2), upTo: .seconds(1)) == .seconds(2))
        #expect(backoff.draw(from: .zero, upTo: .zero) == .zero)
    }
}
