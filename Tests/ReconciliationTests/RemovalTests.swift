import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Reconciliation
import RouteNetlink
import Testing

@Suite(.needsRoot) struct RemovalTests {
    /// What the namespace holds, as people's tools tell it.
    private func everything(_ bed: NodeBed) throws -> Set<String> {
        let texts = try [
            ["ip", "-o", "link"], ["ip", "-o", "-4", "route"], ["ip", "-o", "-6", "route"],
            ["ip", "-o", "neigh", "show", "nud", "permanent"],
            ["bridge", "fdb"], ["nft", "list", "ruleset"],
        ].map { words in
            let outcome = try bed.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture(words[0], Array(words.dropFirst()), timeout: .seconds(20))
            }
            try #require(outcome.status.isSuccess, "\(words): \(outcome.errorText)")
            return outcome.text
        }
        // The groups that an interface is in are the kernel's: it joins that of all routers where forwarding is switched
        // on, which stays on, because nobody can tell who else wants it.
        return Set(texts.flatMap { $0.split(separator: "\n").map(String.init) }).filter { !$0.hasPrefix("33:33:") }
    }

    @Test func `all that the agent made goes, and nothing else`() async throws {
        let bed = try NodeBed()
        // Of others: routes, a device like ours, a table; and of the plugins: a pod's route with our mark, and a table.
        for command in [
            "link add foreign.1 type vxlan id 7 dstport 4789 nolearning", "addr add 10.99.0.1/24 dev foreign.1",
            "link set foreign.1 up", "route add 10.250.0.0/16 via 172.30.0.254",
            "route add 10.251.0.0/16 via 172.30.0.254 proto static",
            "neigh add 10.99.0.2 lladdr 02:00:00:00:00:09 dev foreign.1 nud permanent",
            "route add 10.244.1.2/32 dev wire proto \(RouteOrigin.fairlead.rawValue)",
        ] {
            let outcome = try bed.namespace.withEntered { () throws(KernelError) in
                try ChildProcess.capture("ip", command.split(separator: " ").map(String.init), timeout: .seconds(20))
            }
            try #require(outcome.status.isSuccess, "ip \(command): \(outcome.errorText)")
        }
        let socket = try bed.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        for name in ["foreign", "fairlead-hostports"] {
            let table = TableName(.inet, name)
            try socket.apply(Ruleset(table).creation, to: table)
        }
        let before = try everything(bed)
        do {
            let agent = try bed.reconciler([.overlay, .services, .policy])
            let report = await agent.apply(
                objects(.set(.node(node(1))), .set(.node(node(2))), .set(.node(node(3))), .synced))
            try #require(report.isSynced, "\(report.errors)")
            #expect(try bed.overlay() == entries(2, 3))
        }
        let removed = try bed.namespace.withEntered { () throws(KernelError) in
            try removeEverythingOfTheAgent(device: InterfaceName("fairlead.1")!)
        }
        #expect(
            removed.sorted() == [
                "device fairlead.1", "route to 10.244.2.0/24", "route to 10.244.3.0/24",
                "route to fd00:10:244:2::/64", "route to fd00:10:244:3::/64", "table inet fairlead-policy",
                "table inet fairlead-services",
            ])
        let after = try everything(bed)
        #expect(after == before, "\(after.symmetricDifference(before))")
        let again = try bed.namespace.withEntered { () throws(KernelError) in
            try removeEverythingOfTheAgent(device: InterfaceName("fairlead.1")!)
        }
        #expect(again == [])
    }
}
