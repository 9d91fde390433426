import KubernetesObjects
import Testing

@testable import KubernetesClient

/// Bytes as the network cuts them.
@Suite struct StreamTests {
    static let list = ServerModel.list(
        kind: "Service", apiVersion: "v1", [service("a"), service("b{}[]\\\"'"), service("c")], version: 12,
        token: "more")

    @Test(arguments: [1, 2, 3, 7, 64, 100_000])
    func `a list's items are found however it is cut`(size: Int) throws {
        let reader = MessageReader(kind: .service, source: "")
        var splitter = ListSplitter()
        var items: [VersionedObject] = []
        var rest = Array(Self.list.utf8)[...]
        while !rest.isEmpty {
            for item in try splitter.items(in: rest.prefix(size)) { items.append(try reader.item(item)) }
            rest = rest.dropFirst(size)
        }
        #expect(items.map(\.name.name) == ["a", "b{}[]\\\"'", "c"])
        #expect(try reader.end(splitter.envelope) == PageEnd(version: "12", token: "more"))
    }

    @Test func `no beginning of a list is taken for a whole one`() throws {
        let reader = MessageReader(kind: .service, source: "")
        let bytes = Array(Self.list.utf8)
        for length in bytes.indices {
            var splitter = ListSplitter()
            _ = try splitter.items(in: bytes[..<length])
            #expect(throws: Gibberish.self) { try reader.end(splitter.envelope) }
        }
    }

    @Test(arguments: [
        "", "hello", "[]", "{}", "{\"items\":[1,2]}",
        "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[]}",
        "{\"kind\":\"ServiceList\",\"metadata\":{},\"items\":[]}",
        "{\"kind\":\"ServiceList\",\"metadata\":{\"resourceVersion\":\"1\"}}", "}}}}{{{{", "{\"items\":{\"items\":[{}]}}",
        "{\"kind\":\"ServiceList\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[\"{\"]}",
    ])
    func `what is no list is not read as one`(text: String) {
        #expect(throws: Gibberish.self) {
            let reader = MessageReader(kind: .service, source: "")
            var splitter = ListSplitter()
            for item in try splitter.items(in: text.utf8) { _ = try reader.item(item) }
            _ = try reader.end(splitter.envelope)
        }
    }

    @Test func `a list without items is empty, also where it says null`() throws {
        let reader = MessageReader(kind: .service, source: "")
        for items in ["[]", "null", " [ ] "] {
            var splitter = ListSplitter()
            let text = "{\"kind\":\"ServiceList\",\"metadata\":{\"resourceVersion\":\"5\"},\"items\":\(items)}\n"
            #expect(try splitter.items(in: text.utf8) == [])
            #expect(try reader.end(splitter.envelope).version == "5")
        }
    }

    @Test func `lines are put together again`() throws {
        var splitter = LineSplitter()
        #expect(try splitter.lines(in: "ab".utf8) == [])
        #expect(try splitter.lines(in: "c\nde\n\nf".utf8) == [Array("abc".utf8), Array("de".utf8)])
        #expect(try splitter.lines(in: "\n".utf8) == [Array("f".utf8)])
    }

    @Test func `an answer's own code counts, and an event's Status where there is no answer`() {
        let body = ServerModel.status(410, "Expired")
        #expect(ServerStatus(code: 500, body: body) == ServerStatus(code: 500, reason: "Expired"))
        #expect(ServerStatus(code: nil, body: body).code == 410)
        #expect(ServerStatus(code: 503, body: "upstream") == ServerStatus(code: 503))
    }

    @Test func `no object is longer than the limit`() {
        let chunk = [UInt8](repeating: 0x20, count: ObjectTooLong.limit)
        #expect(throws: ObjectTooLong.self) {
            var splitter = LineSplitter()
            _ = try splitter.lines(in: chunk)
            _ = try splitter.lines(in: chunk)
        }
        #expect(throws: ObjectTooLong.self) {
            var splitter = ListSplitter()
            _ = try splitter.items(in: "{\"items\":[{\"a\":\"".utf8)
            _ = try splitter.items(in: chunk)
        }
    }
}
