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
        ("", 1, "ends where a value should be"), ("{\n\"a\": ", 2, "ends where a value should be"),
        ("[1,]", 1, "holds something else where a value should be"), ("[1\n2]", 2, "lacks ',' or ']'"),
        ("{\"a\" 1}", 1, "lacks ':' after a key"), ("{a: 1}", 1, "lacks a key in quotation marks"),
        ("{\"a\":1,}", 1, "lacks a key in quotation marks"), ("tru", 1, "holds something else where a value should be"),
        ("01", 1, "holds a malformed number"), ("-", 1, "holds a malformed number"),
        ("1.", 1, "holds a malformed number"),
        ("-012", 1, "holds a malformed number"), ("1e", 1, "holds a malformed number"),
        ("1e999", 1, "holds a number out of range"),
        ("\"a", 1, "ends within a string"), ("\"a\\", 1, "holds an unknown escape in a string"),
        ("\"\\x\"", 1, "holds an unknown escape in a string"), ("\"\\u12g4\"", 1, "holds a malformed \\u escape"),
        ("\"\\ud800\"", 1, "holds half a surrogate pair"), ("\"\\ud800\\u0041\"", 1, "holds half a surrogate pair"),
        ("\"\\udc00\"", 1, "holds half a surrogate pair"), ("\"a\nb\"", 1, "holds a control character in a string"),
        ("1 2", 1, "there is more after the value"),
        (String(repeating: "[", count: 200), 1, "values are nested more than 128 deep"),
    ])
    func `what is no JSON is named with its line`(text: String, line: Int, message: String) {
        #expect(throws: SyntaxError(line: line, message: message)) { try FieldValue(json: Array(text.utf8)) }
    }

    @Test func `bytes that are no UTF-8 are refused`() {
        #expect(throws: SyntaxError(line: 1, message: "is no UTF-8")) { try FieldValue(json: [0x22, 0xff, 0x22]) }
        #expect(throws: SyntaxError(line: 1, message: "is no UTF-8")) {
            try FieldValue(json: [0x22, 0x5c, 0x6e, 0xc3, 0x22])
        }
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
