import Foundation
import KernelInterface
import NetworkAddresses
import Nftables
import RouteNetlink
import Synchronization
import SystemPackage
import Testing

/// Lists that change while the kernel hands them out, in pieces, are asked for again (`NLM_F_DUMP_INTR`).
@Suite(.needsRoot) struct InterruptedDumpTests {
    /// Looks again and again while another thread changes what is looked at, in bursts.
    ///
    /// A list that changes without pause is never whole, so the bursts leave time for about two looks between them.
    private func looking(
        bursts: Int, while change: @escaping @Sendable (Int) throws -> Void, _ look: () throws -> Void
    ) throws {
        let quiet = try ContinuousClock().measure { try look() }
        let pause = 2 * (quiet / .seconds(1))
        let (isOver, failure) = (Flag(), Flag())
        // Not a task: those wait for a thread that no other test keeps busy.
        Thread.detachNewThread {
            for number in 0..<bursts where !failure.isUp {
                do { try change(number) } catch { failure.raise() }
                Thread.sleep(forTimeInterval: pause)
            }
            isOver.raise()
        }
        do { while !isOver.isUp { try look() } } catch {
            failure.raise()
            throw error
        }
        #expect(!failure.isUp, "a change failed")
    }

    private final class Flag: Sendable {
        private let state = Mutex(false)
        var isUp: Bool { state.withLock { $0 } }
        func raise() { state.withLock { $0 = true } }
    }

    @Test func `addresses that stay are never missed while others go`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let other = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try socket.addBridge(NewLink(InterfaceName("many")!))
        let link = try #require(try socket.link(named: InterfaceName("many")!)).index
        func address(_ number: Int) -> InterfaceAddress {
            InterfaceAddress(IPPrefix("10.\(number >> 8).\(number & 255).1/32")!, link: link)
        }
        // The kernel counts its way through a list of addresses: when one at the front goes, it skips another.
        let all = (0..<2000).map(address)
        for address in all { try socket.add(address) }
        // The last ones are left out: where it skips all that is left, it goes on to IPv6 and forgets to tell.
        let stable = Set(all[600..<1980].map(\.prefix))
        try looking(bursts: 60) { burst in
            for victim in all[(10 * burst)..<(10 * burst + 10)] { _ = try other.remove(victim) }
        } _: {
            let missed = stable.subtracting(try socket.addresses().map(\.prefix)).count
            #expect(missed == 0)
        }
    }

    @Test func `a table is of one moment while another program exchanges all in it`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let other = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        let table = TableName(.inet, "exchanged")
        // All of one comment, or all of the other.
        let sides = ["even", "odd"].map { comment in
            (0..<2000).map { number in
                Element(ElementKey(.address(IPAddress("10.0.\(number >> 8).\(number & 255)")!)), comment: comment)
            }
        }
        let whole = Ruleset(table, sets: ["members": NamedSet(.init(key: [.ipv4Address]), sides[1])])
        try socket.apply(whole.creation, to: table)
        try looking(bursts: 20) { burst in
            let turn = burst % 2
            try other.apply(
                [.removeElements(sides[1 - turn], set: "members"), .addElements(sides[turn], set: "members")],
                to: table)
        } _: {
            let elements = try #require(try socket.observe(table)?.sets["members"]?.elements.values)
            let (count, comments) = (elements.count, Set(elements.map(\.comment)))
            #expect(count == 2000 && comments.count == 1)
        }
    }
}
