import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

/// The tables in the real kernel, and beside nft.
@Suite(.needsRoot) struct KernelTests {
    private static let tables: [Ruleset] = {
        var random = RandomCluster(seed: 1, isUnruly: false)
        let clusters = (1...3).map { _ in random.cluster() } + [Cluster.withEveryRule.snapshot]
        return clusters.map { PolicyTable.whole($0, nodeName: "n1", epoch: PolicyEpoch(1)!) }
    }()

    @Test(arguments: tables) func `the kernel keeps a table as it was written, and nft reads and rereads it`(
        table: Ruleset
    ) throws {
        let place = try PolicedRoom.Place()
        let socket = try place.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        try socket.apply(table.creation, to: table.table)
        #expect(try socket.observe(table.table) == table)

        let listing = try place.run("nft", "list", "ruleset")
        #expect(listing.status.isSuccess && !listing.text.contains("invalid type"), "\(listing.errorText)")
        #expect(try place.run("nft", "-j", "list", "ruleset").status.isSuccess)
        for comment in table.chains.values.flatMap(\.rules).compactMap(\.comment) {
            #expect(listing.text.contains("comment \"\(comment)\""))
        }
        let other = try PolicedRoom.Place()
        let loaded = try other.run("nft", "-f", "-", input: listing.text)
        #expect(loaded.status.isSuccess, "\(loaded.errorText)")
        #expect(try other.run("nft", "list", "ruleset").text == listing.text)
        // Our own text is nft's language too.
        let third = try PolicedRoom.Place()
        let ours = try third.run("nft", "-f", "-", input: table.text)
        #expect(ours.status.isSuccess, "\(ours.errorText)")
    }

    @Test(arguments: 1...3) func `increments lead the kernel to the same table`(seed: Int) throws {
        var random = RandomCluster(seed: seed + 100, isUnruly: true)
        let place = try PolicedRoom.Place()
        let socket = try place.namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        var compiler = PolicyCompiler(nodeName: "n1", bits: 8)
        var assembly = Assembly<PolicyOwner>(frame: PolicyTable.frame(on: compiler.node, epoch: PolicyEpoch(1)!))
        for _ in 1...60 {
            for _ in 1...3 { compiler.apply(random.event()) }
            let update = compiler.takeContributions()
            for (owner, contribution) in update.contributions { assembly.set(contribution, for: owner) }
            for (name, chain) in update.frameChains { assembly.setFrameChain(name, chain) }
            try socket.apply(assembly.takeChanges(), to: PolicyTable.name)
        }
        #expect(try socket.observe(PolicyTable.name) == assembly.ruleset)
    }

    @Test func `the kernel decides on packets that belong to no connection`() throws {
        let room = try PolicedRoom()
        room.cluster.policy(
            "shop/p",
            ["podSelector": ["matchLabels": ["app": "server"]], "ingress": [["from": [["podSelector": [:]]]]]])
        try room.commit()
        let untracked = """
            table inet raw {
                chain prerouting { type filter hook prerouting priority -300; policy accept; tcp dport 81 notrack; tcp sport 81 notrack; }
            }
            """
        #expect(try room.node.run("nft", "-f", "-", input: untracked).status.isSuccess)
        // A rule about peers looks at the connection, and there is none: closed. Refused is the server's own answer.
        #expect(try room.attempt(81) == .timeout)
        room.cluster.policy("shop/p", ["podSelector": ["matchLabels": ["app": "server"]], "ingress": [[:]]])
        try room.commit()
        #expect(try room.attempt(81) == .refused)
    }
}
