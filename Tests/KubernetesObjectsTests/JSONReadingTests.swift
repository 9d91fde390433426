import KubernetesObjects
import Testing

struct JSONReadingTests {
    @Test(
        arguments: [
            (" {} ", [:]), ("[]", []),
            ("[ 1 , -2,0, -0, 1.5e3, 1E-2, 9223372036854775807]", [1, -2, 0, 0, 1500.0, 0.01, .integer(.max)]),
            ("9223372036854775808", .double(9_223_372_036_854_775_808)),
            (
                #"{"a":{"b":[true,false,null]},"a":1}"#,
                .object(FieldObject([.init(key: "a", value: ["b": [true, false, .null]]), .init(key: "a", value: 1)]))
            ),
            (#""a\"\\\/\b\f\n\r\tA\u00e9\ud83d\ude00é""#, "a\"\\/\u{8}\u{c}\n\r\tAé😀é"),
            ("\u{feff}\n\t\r \"x\"", "x"),
        ] as [(String, FieldValue)])
    func `JSON is read`(text: String, value: FieldValue) throws {
        #expect(try FieldValue(json: Array(text.utf8)) == value)
    }

    @Test(arguments: [
        ("", 1, "unexpected end of the document"), ("{\n\"a\": ", 2, "unexpected end of the document"),
        ("[1,]", 1, "unexpected character"), ("[1\n2]", 2, "expected ',' or ']' in an array"),
        ("{\"a\" 1}", 1, "expected ':' after a key"), ("{a: 1}", 1, "expected a key in quotes"),
        ("{\"a\":1,}", 1, "expected a key in quotes"), ("tru", 1, "unexpected character"),
        ("01", 1, "unexpected text after the document"), ("[-012]", 1, "expected ',' or ']' in an array"),
        ("-", 1, "expected a digit"), ("1.", 1, "expected a digit"), ("1e", 1, "expected a digit"),
        ("1e999", 1, "number out of range"), ("\"a", 1, "unexpected end of a string"),
        ("\"a\\", 1, "unexpected end of a string"), ("\"\\x\"", 1, "unknown escape"),
        ("\"\\u12g4\"", 1, "expected four hexadecimal digits"), ("\"\\ud800\"", 1, "half a surrogate pair"),
        ("\"\\ud800\\u0041\"", 1, "half a surrogate pair"), ("\"\\udc00\"", 1, "half a surrogate pair"),
        ("\"a\nb\"", 1, "control character in a string"), ("1 2", 1, "unexpected text after the document"),
        (String(repeating: "[", count: 200), 1, "nesting deeper than 128 levels"),
    ])
    func `what is no JSON is named with its line`(text: String, line: Int, message: String) {
        #expect(throws: SyntaxError(line: line, message: message)) { try FieldValue(json: Array(text.utf8)) }
    }

    @Test func `bytes that are no UTF-8 are refused`() {
        let refusal = SyntaxError(line: 1, message: "text that is no UTF-8")
        #expect(throws: refusal) { try FieldValue(json: [0x22, 0xff, 0x22]) }
        #expect(throws: refusal) { try FieldValue(json: [0x22, 0x5c, 0x6e, 0xc3, 0x22]) }
    }

    @Test func `values one after the other are read`() throws {
        #expect(try FieldValue.all(json: Array("{}\n[1] \"a\"\n".utf8)) == [[:], [1], "a"])
        #expect(try FieldValue.all(json: []) == [])
    }

    @Test func `what is printed reads back, and no part of it does harm`() throws {
        let tree: FieldValue = [
            "kind": "Pod", "metadata": ["name": "a", "labels": ["q\"": "\u{1}\n😀"]],
            "list": [1, -2.5, true, .null, [:], []],
        ]
        let bytes = Array(tree.description.utf8)
        #expect(try FieldValue(json: bytes) == tree)
        for length in bytes.indices {
            #expect(throws: SyntaxError.self) { try FieldValue(json: Array(bytes[..<length])) }
        }
        var generator = SplitMix(seed: 1)
        for _ in 0..<5000 {
            var damaged = bytes
            damaged[Int.random(in: damaged.indices, using: &generator)] = .random(in: 0...255, using: &generator)
            _ = try? FieldValue(json: damaged)
        }
    }
}

/// A generator of which a failing test's seed gives the same numbers again.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = (state ^ state >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
