import NetworkAddresses
import Nftables
import Testing

private let frame = Ruleset(
    TableName(.inet, "t"),
    sets: [
        "m": NamedSet(.init(key: [.number, .number], data: .verdict)),
        "s": NamedSet(.init(key: [.number, .number])),
    ],
    chains: ["entry": Chain(hook: Hook(.filter, .forward, priority: 0), [Rule(.dispatch([.constant(1), .constant(2)], map: "m"))])])

private func key(_ number: Int) -> ElementKey { ElementKey(.number(UInt32(number)), .number(0)) }

private func chain(_ number: Int) -> Chain { Chain([Rule(.match(.replySourcePort, .port(Port(number + 1)!)), .accept)]) }

/// An object's contribution made of a random number: some private elements, some that others claim too, shared parts.
private func contribution(_ seed: Int) -> Contribution? {
    guard seed % 5 != 0 else { return nil }
    let shared = seed % 3
    var contribution = Contribution()
    contribution.members = (0..<seed % 4).map {
        Contribution.Member(Element(key(seed * 10 + $0), comment: "of \(seed)"), in: "s")
    }
    let element = Element(key(shared), .verdict(.goto("c\(shared)")), comment: seed % 2 == 0 ? "even" : nil)
    contribution.members.append(Contribution.Member(element, in: "m"))
    contribution.chains["c\(shared)"] = chain(shared)
    if seed % 7 < 3 { contribution.sets["x\(seed % 7)"] = NamedSet(.init(key: [.number, .number]), [Element(key(seed % 7))]) }
    return contribution
}

/// The whole table computed at once: what the increments must add up to.
private func whole(_ objects: [Int: Contribution]) -> Ruleset {
    var ruleset = frame
    for (_, contribution) in objects.sorted(by: { $0.key > $1.key }) {
        // In falling order, so that the least owner writes last and wins.
        for member in contribution.members { ruleset.sets[member.set]!.elements[member.element.key] = member.element }
        ruleset.chains.merge(contribution.chains) { $1 }
        ruleset.sets.merge(contribution.sets) { $1 }
    }
    return ruleset
}

@Suite struct AssemblyTests {
    @Test(arguments: 1...20) func `increments add up to the whole, in value and in changes`(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var assembly = Assembly<Int>(frame: frame)
        var objects: [Int: Contribution] = [:]
        var kernel = Ruleset(frame.table)
        for step in 1...300 {
            let owner = Int.random(in: 0..<12, using: &random)
            let new = contribution(Int.random(in: 0..<1000, using: &random))
            objects[owner] = new
            assembly.set(new, for: owner)
            if step % 4 == 0 {
                for change in assembly.takeChanges() { kernel.apply(change) }
                #expect(kernel == whole(objects))
            }
            #expect(assembly.ruleset == whole(objects))
        }
        for owner in 0..<12 { assembly.set(nil, for: owner) }
        for change in assembly.takeChanges() { kernel.apply(change) }
        #expect(kernel == frame && assembly.ruleset == frame)
    }

    @Test func `a key with two claims goes to the lesser owner, and back when that is gone`() {
        var assembly = Assembly<String>(frame: frame)
        assembly.set(Contribution(members: [.init(Element(key(1), .verdict(.drop)), in: "m")]), for: "b")
        assembly.set(Contribution(members: [.init(Element(key(1), .verdict(.accept)), in: "m")]), for: "a")
        #expect(assembly.ruleset.sets["m"]!.elements[key(1)]?.value == .verdict(.accept))
        #expect(assembly.holder(of: key(1), in: "m") == "a" && assembly.isContested)
        assembly.set(nil, for: "a")
        #expect(assembly.ruleset.sets["m"]!.elements[key(1)]?.value == .verdict(.drop))
    }

    @Test func `an unchanged contribution changes nothing`() {
        var assembly = Assembly<Int>(frame: frame)
        #expect(assembly.takeChanges() == frame.creation)
        assembly.set(contribution(2), for: 1)
        #expect(!assembly.takeChanges().isEmpty)
        assembly.set(contribution(2), for: 1)
        assembly.set(nil, for: 1)
        assembly.set(contribution(2), for: 1)
        #expect(assembly.takeChanges().isEmpty)
    }
}

@Suite struct ChangesTests {
    @Test(arguments: 1...20) func `the changes from one table to another lead there`(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let tables = (0..<2).map { _ in
            whole(Dictionary(uniqueKeysWithValues: (0..<6).compactMap { owner in
                contribution(Int.random(in: 0..<1000, using: &random)).map { (owner, $0) }
            }))
        }
        var table = tables[0]
        for change in table.changes(to: tables[1]) { table.apply(change) }
        #expect(table == tables[1])
        #expect(table.changes(to: tables[1]).isEmpty)
    }

    @Test func `what is led to comes before what leads there, and goes after it`() {
        var other = frame
        other.chains["new"] = chain(1)
        other.sets["m"]!.elements[key(1)] = Element(key(1), .verdict(.goto("new")))
        #expect(
            frame.changes(to: other).map(\.summary)
                == ["chain new", "element of set m", "rules of chain new"])
        #expect(other.changes(to: frame).map(\.summary) == ["element of set m", "rules of chain new", "chain new"])
    }
}

@Suite struct TextTests {
    @Test func `a table in nft's words`() {
        var table = frame
        table.sets["m"]!.elements[key(7)] = Element(key(7), .verdict(.goto("c0")), comment: "say \"hi\"\n")
        table.chains["c0"] = Chain(comment: "shared", [Rule(.counter, .drop, comment: "np:a/b")])
        #expect(
            table.text == """
                table inet t {
                    map m {
                        typeof numgen inc mod 2 . numgen inc mod 2 : verdict
                        elements = {
                            7 . 0 comment "say ?hi??" : goto c0,
                        }
                    }

                    set s {
                        typeof numgen inc mod 2 . numgen inc mod 2
                    }

                    chain c0 {
                        comment "shared"
                        counter drop comment "np:a/b"
                    }

                    chain entry {
                        type filter hook forward priority 0; policy accept;
                        numgen inc mod 1 offset 1 . numgen inc mod 1 offset 2 vmap @m
                    }
                }
                """)
    }

    @Test func `a comment keeps to what the tools can carry`() {
        let rule = Rule(.accept, comment: String(repeating: "é", count: 300))
        #expect(rule.comment?.utf8.count == longestComment)
    }
}

/// A generator whose numbers repeat with its seed (xorshift64*).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
}

@Suite struct RecreationTests {
    @Test func `a table that cannot be edited is made anew in one go`() {
        var other = frame
        other.chains["entry"]!.hook!.priority = 5
        let changes = frame.changes(to: other)
        #expect(changes.first == .removeTable && changes.dropFirst().first == .addTable)
        var table = frame
        for change in changes { table.apply(change) }
        #expect(table == other)
    }
}
