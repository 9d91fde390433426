import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import ServiceRules
import Testing

/// Other programs that write to our tables.
@Suite(.needsRoot) struct ForeignWriteTests {
    private static let services = (1...5).flatMap { ServiceTests().service($0, endpoints: 2) } + [ObjectEvent.synced]

    private func nft(_ text: String, in namespace: borrowing NetworkNamespace) throws -> ChildProcess.Captured {
        let input = Array(text.utf8)
        return try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("nft", ["-f", "-"], input: input, timeout: .seconds(30))
        }
    }

    @Test func `nobody else can write to an owned table`() async throws {
        let bed = try NodeBed()
        let socket = try bed.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let agent = try bed.reconciler([.services, .policy])
        #expect(await agent.apply([.objects(Self.services, notes: [], revision: "")]).isSynced)
        let before = try socket.observe(ServiceTable.name)
        #expect(try nft("flush ruleset\n", in: bed.namespace).status.isSuccess)
        #expect(try !nft("delete table \(ServiceTable.name)\n", in: bed.namespace).status.isSuccess)
        #expect(try !nft("flush map \(ServiceTable.name) frontends4\n", in: bed.namespace).status.isSuccess)
        #expect(try socket.observe(ServiceTable.name) == before)
        withExtendedLifetime(agent) {}
    }

    @Test(arguments: [
        "flush ruleset", "delete table inet fairlead-services", "flush map inet fairlead-services frontends4",
        "delete element inet fairlead-services endpoints4 { 10.96.0.1 . tcp . 80 . 0 }",
        "flush chain inet fairlead-services prerouting",
        "add rule inet fairlead-services prerouting drop", "delete table inet fairlead-policy",
    ])
    func `what somebody does to a shared table is undone`(deed: String) async throws {
        let bed = try NodeBed()
        let socket = try bed.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let monitor = try bed.namespace.withEntered { () throws(KernelError) in try RulesetMonitor.open() }
        let agent = try bed.reconciler([.services, .policy], ownsTables: false)
        #expect(await agent.apply([.objects(Self.services, notes: [], revision: "")]).isSynced)
        let (services, policy) = (try socket.observe(ServiceTable.name), try socket.observe(TableName(.inet, "fairlead-policy")))
        #expect(services != nil && policy != nil)
        // Its own writing does not make the agent write.
        #expect(await agent.apply([.rulesetChanged(try monitor.next(timeout: .seconds(5)))]).changes == 0)

        let result = try nft(deed + "\n", in: bed.namespace)
        #expect(result.status.isSuccess, "\(result.errorText)")
        let report = await agent.apply([.rulesetChanged(try monitor.next(timeout: .seconds(5)))])
        #expect(report.isSynced && report.changes > 0)
        #expect(try socket.observe(ServiceTable.name) == services)
        #expect(try socket.observe(TableName(.inet, "fairlead-policy")) != nil)
        #expect(await agent.apply([.rulesetChanged(try monitor.next(timeout: .seconds(5)))]).changes == 0)
    }

    @Test func `a restart takes an owned table over as a shared one, and back`() async throws {
        let bed = try NodeBed()
        for owns in [true, false, true] {
            let agent = try bed.reconciler([.services], ownsTables: owns)
            let report = await agent.apply([.objects(Self.services, notes: [], revision: "")])
            #expect(report.isSynced, "\(report.errors)")
            let result = try nft("add chain inet fairlead-services mine\n", in: bed.namespace)
            #expect(result.status.isSuccess != owns)
            withExtendedLifetime(agent) {}
        }
    }
}
