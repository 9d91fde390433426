import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

@Suite struct LawTests {
    static let epoch = PolicyEpoch(1)!

    /// The compiler and everything around it that the agent has.
    struct Driver {
        var compiler: PolicyCompiler
        var assembly = Assembly<PolicyOwner>(
            frame: PolicyTable.frame(on: PolicyNode(name: "n1"), epoch: LawTests.epoch))
        var snapshot = ClusterSnapshot()
        var attachments: [LocalAttachment] = []
        var kernel = Ruleset(PolicyTable.name)
        let bits: UInt32

        init(bits: UInt32) {
            compiler = PolicyCompiler(nodeName: "n1", bits: bits)
            self.bits = bits
        }

        mutating func apply(_ event: ObjectEvent) {
            snapshot.apply(event)
            compiler.apply(event)
        }

        mutating func attach(_ attachments: [LocalAttachment]) {
            self.attachments = attachments
            compiler.setAttachments(attachments)
        }

        mutating func take() -> PolicyUpdate {
            let update = compiler.takeContributions()
            for (owner, contribution) in update.contributions { assembly.set(contribution, for: owner) }
            for (name, chain) in update.frameChains { assembly.setFrameChain(name, chain) }
            for change in assembly.takeChanges() { kernel.apply(change) }
            return update
        }

        var whole: Ruleset {
            PolicyTable.whole(
                snapshot, attachments: attachments, nodeName: "n1", epoch: LawTests.epoch, log: DenialLog(), bits: bits)
        }
    }

    // 32 bits are the product's; with fewer, numbers collide all the time.
    @Test(arguments: 1...8, [32, 7]) func `any sequence of events leads to the table computed at once`(
        seed: Int, bits: Int
    ) {
        var random = RandomCluster(seed: seed, isUnruly: true)
        var driver = Driver(bits: UInt32(bits))
        for step in 1...120 {
            for _ in 0..<random.one([1, 1, 1, 2, 5]) { driver.apply(random.event()) }
            if random.chance(15) { driver.attach(random.attachments()) }
            _ = driver.take()
            let whole = driver.whole
            guard driver.assembly.ruleset == whole, driver.kernel == whole else {
                for (name, table) in [("assembled", driver.assembly.ruleset), ("written", driver.kernel)] {
                    let (found, expected) = (table.text.split(separator: "\n"), whole.text.split(separator: "\n"))
                    for change in found.difference(from: expected) { Issue.record("step \(step), \(name): \(change)") }
                }
                return
            }
            #expect(!driver.assembly.isContested)
        }
        // Nothing is left of anything that is gone.
        for pod in driver.snapshot.pods.keys { driver.apply(.removed(ObjectReference(.pod, pod))) }
        driver.attach([])
        _ = driver.take()
        #expect(driver.assembly.ruleset.sets == PolicyTable.frame(on: PolicyNode(name: "n1"), epoch: Self.epoch).sets)
        #expect(driver.compiler.takeContributions().isEmpty)
    }

    @Test(arguments: 1...8) func `the order of events makes no difference`(seed: Int) {
        var random = RandomCluster(seed: seed, isUnruly: true)
        var drivers = [Driver(bits: 7), Driver(bits: 7)]
        for _ in 0..<100 { drivers[0].apply(random.event()) }
        var objects = drivers[0].snapshot.namespaces.values.map(KubernetesObject.namespace)
        objects += drivers[0].snapshot.pods.values.map(KubernetesObject.pod)
        objects += drivers[0].snapshot.networkPolicies.values.map(KubernetesObject.networkPolicy)
        objects += drivers[0].snapshot.nodes.values.map(KubernetesObject.node)
        for object in objects.shuffled(using: &random.random) {
            drivers[1].apply(.set(object))
            if random.chance(20) { _ = drivers[1].take() }
        }
        for index in drivers.indices { _ = drivers[index].take() }
        #expect(drivers[0].assembly.ruleset == drivers[1].assembly.ruleset)
    }

    @Test(arguments: 1...8) func `random policies and random packets: the rules say what the oracle says`(seed: Int) {
        var random = RandomCluster(seed: seed, isUnruly: false)
        var (asked, allowed) = (0, 0)
        for _ in 1...5 {
            let cluster = random.cluster()
            let tables = ["n1", "n2"].map { PolicyTable.whole(cluster, nodeName: $0, epoch: Self.epoch) }
            let oracle = Oracle(cluster: cluster)
            let ends = cluster.pods.values.flatMap(\.addresses).sorted() + RandomCluster.outside
            for _ in 1...400 {
                let source = random.one(ends)
                let destination = random.one(ends.filter { $0.family == source.family })
                let number: UInt8 = random.one([6, 6, 17, 132, 1])
                let port = number == 1 ? nil : Port(random.one([80, 81, 82, 8080]))
                let expected = oracle.allows(from: source, to: destination, number, port)
                let found = tables.allSatisfy { $0.allows(from: source, to: destination, number, port) }
                (asked, allowed) = (asked + 1, allowed + (expected ? 1 : 0))
                #expect(found == expected, "\(source) to \(destination) \(number)/\(port?.description ?? "-")")
            }
        }
        #expect((asked / 10..<asked * 9 / 10).contains(allowed), "clusters that allow all or nothing test nothing")
    }

    @Test(arguments: 1...8) func `what was allowed in an epoch stays allowed in it`(seed: Int) {
        struct Flow: Hashable {
            var source, destination: IPAddress
            var number: UInt8
            var port: Port
        }
        var random = RandomCluster(seed: seed, isUnruly: true)
        var driver = Driver(bits: 32)
        let ends = RandomCluster.addresses + RandomCluster.outside
        let flows = (0..<80).map { _ in
            let source = random.one(ends)
            return Flow(
                source: source, destination: random.one(ends.filter { $0.family == source.family && $0 != source }),
                number: random.one([6, 17]), port: Port(random.one([80, 81, 8080]))!)
        }
        /// Those that were allowed at some time since the epoch was last swapped.
        var living: Set<Flow> = []
        var swaps = 0
        for step in 1...150 {
            driver.apply(random.event())
            if random.chance(10) { driver.attach(random.attachments()) }
            let update = driver.take()
            let table = driver.assembly.ruleset
            let allowed = Set(flows.filter { table.allows(from: $0.source, to: $0.destination, $0.number, $0.port) })
            // The first table is compared with nothing.
            if update.isRestrictive || step == 1 { living = allowed }
            swaps += update.isRestrictive ? 1 : 0
            func isThere(_ address: IPAddress) -> Bool {
                RandomCluster.outside.contains(address) || driver.compiler.claims.holder(of: address) != nil
            }
            for flow in living.subtracting(allowed) where isThere(flow.source) && isThere(flow.destination) {
                Issue.record("step \(step): \(flow) was allowed and is not, in the same epoch")
            }
            living.formUnion(allowed)
        }
        #expect((1..<140).contains(swaps))
    }
}
