import KernelInterface
import KubernetesObjects
import NetworkAddresses
import Nftables
import ServiceRules
import Testing

@testable import Reconciliation

/// Contributions that the kernel does not take, beside ones that it does.
@Suite(.needsRoot) struct RefusalTests {
    private static let table = TableName(.inet, "fairlead-refusals")
    private static let frame = Ruleset(
        table, sets: ["ports": NamedSet(SetDefinition(key: [.ipv4Address, .transportProtocol, .port], data: .verdict))],
        chains: ["there": Chain([])])

    /// An entry of the map; `nowhere` is a chain the table does not have.
    private func entry(_ number: Int, to chain: String = "there") -> Contribution {
        let key = ElementKey(
            .address(IPAddress("10.96.0.\(number)")!), .transport(.tcp), .port(Port(80)!))
        return Contribution(members: [.init(Element(key, .verdict(.goto(chain)), comment: "\(number)"), in: "ports")])
    }

    private func entries(_ socket: borrowing NftablesSocket) throws -> Set<String> {
        Set(try socket.observe(Self.table)?.sets["ports"]?.elements.values.compactMap(\.comment) ?? [])
    }

    @Test func `what the kernel refuses does not keep the rest out`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let witness = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        var table = try namespace.withEntered { () throws(KernelError) in
            try AssembledTable<Int>(frame: Self.frame)
        }
        for number in 1...20 { table.set(entry(number, to: [7, 13].contains(number) ? "nowhere" : "there"), for: number) }
        #expect(throws: KernelError.self) { try table.commit() }
        #expect(try witness.observe(Self.table) == nil)
        try table.commitWithoutRefused()
        #expect(table.refused.keys.sorted() == [7, 13])
        #expect("\(table.refused[7]!.error)".contains("No such file or directory"))
        #expect(try entries(witness) == Set((1...20).filter { ![7, 13].contains($0) }.map { "\($0)" }))

        // Neither do they keep out what comes later, nor does what comes later bring them back.
        table.set(entry(21), for: 21)
        table.set(entry(7, to: "nowhere"), for: 7)
        table.set(nil, for: 1)
        try table.commitWithoutRefused()
        #expect(table.refused.keys.sorted() == [7, 13])
        #expect(try entries(witness).isSuperset(of: ["2", "21"]) && !entries(witness).contains("1"))

        table.set(entry(7), for: 7)
        table.set(nil, for: 13)
        try table.commitWithoutRefused()
        #expect(table.refused.isEmpty)
        #expect(try entries(witness) == Set((2...21).filter { $0 != 13 }.map { "\($0)" }))
        #expect(try witness.observe(Self.table) == table.assembly.ruleset)
    }

    @Test func `where everything is refused nobody is blamed, and nothing is lost`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let witness = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        var frame = Self.frame
        let wrong = ElementKey(.address(IPAddress("10.96.1.1")!), .transport(.tcp), .port(Port(80)!))
        frame.sets["ports"] = NamedSet(
            frame.sets["ports"]!.definition, [Element(wrong, .verdict(.goto("nowhere")), comment: "frame")])
        var table = try namespace.withEntered { () throws(KernelError) in try AssembledTable<Int>(frame: frame) }
        for number in 1...5 { table.set(entry(number), for: number) }
        #expect(throws: KernelError.self) { try table.commitWithoutRefused() }
        #expect(table.refused.isEmpty)
        #expect(table.assembly.ruleset.sets["ports"]?.elements.count == 6)
        #expect(try witness.observe(Self.table) == nil)
    }

    @Test func `a check carries nothing out`() throws {
        let namespace = try NetworkNamespace.anonymous()
        let socket = try namespace.withEntered { () throws(KernelError) in try NftablesSocket.open() }
        try socket.check(Self.frame.creation, to: Self.table)
        #expect(try socket.tables().isEmpty)
        #expect(try socket.knowsOwnership())
        #expect(try socket.tables().isEmpty)
        #expect(throws: KernelError.self) { try socket.check([.removeChain("nowhere")], to: Self.table) }
    }
}

@Suite struct CoalescingWindowTests {
    @Test func `a lone event does not wait, a storm is gathered`() {
        var window = CoalescingWindow()
        var now = ContinuousClock.now
        #expect(window.pause(at: now) == .zero)
        window.passed(at: now)
        var pauses: [Duration] = []
        // An event every millisecond, and passes that take no time.
        for _ in 0..<10 {
            now += .milliseconds(1)
            pauses.append(window.pause(at: now))
            now += pauses.last!
            window.passed(at: now)
        }
        #expect(pauses.prefix(4) == [.milliseconds(1), .milliseconds(2), .milliseconds(4), .milliseconds(8)])
        #expect(pauses.last == CoalescingWindow.widest)
        // Quiet again.
        #expect(window.pause(at: now + .milliseconds(50)) == .zero)
    }
}
