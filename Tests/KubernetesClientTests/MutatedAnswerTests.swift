import KubernetesObjects
import Testing

@testable import KubernetesClient

/// Answers with damage of any kind.
@Suite struct MutatedAnswerTests {
    /// The same numbers in every run, so that a failure can be found again (SplitMix64).
    private struct Numbers: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
            return value ^ value >> 31
        }
    }

    /// Up to four bytes removed, added, changed or said again.
    private func mutated(_ text: String, _ random: inout Numbers) -> [UInt8] {
        let alphabet = Array(#"{}[]",:0129-+.eE\u truefalsnitemkd"#.utf8) + [0, 0x0a, 0x80, 0xff]
        var bytes = Array(text.utf8)
        for _ in 0...Int.random(in: 0..<4, using: &random) {
            let place = Int.random(in: bytes.indices, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: bytes.remove(at: place)
            case 1: bytes.insert(alphabet.randomElement(using: &random)!, at: place)
            case 2: bytes[place] = alphabet.randomElement(using: &random)!
            default: bytes.insert(contentsOf: bytes[place...].prefix(Int.random(in: 1...60, using: &random)), at: place)
            }
        }
        return bytes
    }

    private let list = ServerModel.list(
        kind: "Service", apiVersion: "v1", [service("a"), service("b", "None"), service("c")], version: 12, token: "")

    /// What is read piece by piece, and a list is taken for whole only if this throws nothing.
    private func items(of bytes: [UInt8]) throws -> [VersionedObject] {
        let reader = MessageReader(kind: .service, source: "")
        var splitter = ListSplitter()
        var items: [VersionedObject] = []
        for chunk in stride(from: 0, to: bytes.count, by: 97) {
            for item in try splitter.items(in: bytes[chunk...].prefix(97)) { items.append(try reader.item(item)) }
        }
        _ = try reader.end(splitter.envelope)
        return items
    }

    @Test func `a damaged list is read as the whole text would be, or refused`() throws {
        var random = Numbers(state: 7)
        var (taken, refused) = (0, 0)
        for _ in 0..<4000 {
            let bytes = mutated(list, &random)
            do {
                let items = try items(of: bytes)
                let whole = try FieldValue(json: bytes)
                #expect(
                    items.map(\.name.name) == whole["items"]?.array?.map { $0["metadata"]?["name"]?.string },
                    "\(String(decoding: bytes, as: UTF8.self))")
                taken += 1
            } catch is Gibberish {
                refused += 1
            } catch {
                Issue.record("taken piece by piece, refused whole: \(String(decoding: bytes, as: UTF8.self)): \(error)")
            }
        }
        #expect(taken > 300 && refused > 300)
    }

    /// Whatever a watch says, only the objects it names change, and the version it goes on from is one that was said.
    @Test func `a damaged watch changes nothing it does not name`() throws {
        let events = [
            ServerModel.event("ADDED", service("d")), ServerModel.event("MODIFIED", service("a", "None")),
            ServerModel.event("DELETED", service("c")),
            #"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"77"}}}"# + "\n",
            ServerModel.event("ERROR", ServerModel.status(410, "Expired")),
        ]
        var random = Numbers(state: 11)
        var (told, refused) = (0, 0)
        for _ in 0..<2000 {
            let reader = MessageReader(kind: .service, source: "")
            var reflector = Reflector(.services, source: "", seed: random.next(), usesStreams: false)
            _ = reflector.received(.ready, at: .zero)
            _ = reflector.received(.opened, at: .zero)
            _ = reflector.received(.items(try items(of: Array(list.utf8))), at: .zero)
            _ = reflector.received(.pageEnded(PageEnd(version: "12", token: "")), at: .zero)
            _ = reflector.received(.opened, at: .zero)
            let bytes = mutated(events.randomElement(using: &random)!, &random)
            do {
                var lines = LineSplitter()
                for line in try lines.lines(in: bytes) {
                    let change = try reader.change(line)
                    let actions = reflector.received(.changes([change]), at: .seconds(1))
                    for case .announce(let events) in actions {
                        #expect(events.count == 1)
                        told += 1
                    }
                }
            } catch is Gibberish {
                refused += 1
            }
            #expect(
                !reflector.version.isEmpty && (1...4).contains(reflector.known.count),
                "\(String(decoding: bytes, as: UTF8.self)) \(reflector.version) \(reflector.known)")
        }
        #expect(told > 100 && refused > 100)
    }
}
