import CNIProtocol
import JSONText
import Testing

@Suite struct JSONTests {
    @Test func `a document is read and printed without loss`() throws {
        let text = """
            {
                "name": "a \\"quoted\\" \\\\ name\\n",
                "numbers": [
                    0,
                    -12.50,
                    1e3
                ],
                "empty": {},
                "none": [],
                "flags": [
                    true,
                    false,
                    null
                ]
            }
            """
        #expect(try JSONValue(parsing: text).text == text)
    }

    @Test(arguments: [
        ("\"\\u00e9\\u0041\"", "éA"), ("\"\\ud83d\\ude00\"", "😀"), ("\"\\ud83d\"", "\u{fffd}"),
        ("\"\\ud83dx\"", "\u{fffd}x"), ("\"\\ude00\\ud83d\"", "\u{fffd}\u{fffd}"), ("\"\\b\\f\\/\"", "\u{8}\u{c}/"),
        ("\"\\ud83d\\u0041\"", "\u{fffd}A"),
    ])
    func `escapes are read as Go's decoder reads them`(text: String, string: String) throws {
        #expect(try JSONValue(parsing: text) == .string(string))
    }

    @Test(arguments: [
        ("", #""""#), ("plain", #""plain""#), ("é😀/\u{7f}", "\"é😀/\u{7f}\""), ("\"", #""\"""#), ("\\\\", #""\\\\""#),
        ("a\nb\r\tc", #""a\nb\r\tc""#), ("\u{0}é\u{1f}", #""\u0000é\u001f""#), ("end\"", #""end\"""#),
    ])
    func `only what JSON does not allow is escaped`(string: String, text: String) throws {
        #expect(JSONValue.string(string).text == text)
        #expect(try JSONValue(parsing: text) == .string(string))
    }

    @Test(arguments: [
        "", " ", "{", "[", "\"", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1,]", "[1 2]", "{a:1}", "01", "+1", "1.", ".5",
        "1e", "-", "tru", "nul", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "\"\\u+123\"", "{} {}", "{}x", "'a'", "NaN",
        "{\"a\":1 \"b\":2}", "\u{feff}{}",
    ])
    func `what is no JSON is refused`(text: String) {
        #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    }

    @Test func `every truncation of a document is refused and none traps`() throws {
        let text = #"{"name":"n","list":[1,2.5e-3,{"a":"\u00e9\ud83d\ude00"}],"t":true,"n":null}"#
        #expect(throws: Never.self) { try JSONValue(parsing: text) }
        for count in 0..<text.utf8.count {
            #expect(throws: JSONError.self) { try JSONValue(parsing: Array(text.utf8.prefix(count))) }
        }
    }

    @Test(arguments: ["[", "{\"a\":"])
    func `a million levels of nesting are refused`(level: String) {
        let error = #expect(throws: JSONError.self) {
            try JSONValue(parsing: String(repeating: level, count: 1_000_000))
        }
        #expect(error?.reason == "nesting deeper than 128 levels")
    }

    @Test func `a document beyond the limit is refused`() {
        let bytes = Array(repeating: UInt8(ascii: " "), count: JSONValue.sizeLimit + 1)
        #expect(throws: JSONError.self) { try JSONValue(parsing: bytes) }
    }

    @Test func `invalid UTF-8 is repaired`() throws {
        #expect(try JSONValue(parsing: [0x22, 0xff, 0x22]) == "\u{fffd}")
    }

    @Test func `keys match in any case and the last one counts`() throws {
        let object = try #require(try JSONValue(parsing: #"{"HostPort":1,"hostport":2,"other":3}"#).object)
        #expect(object["hostPort"]?.integer == 2 && object["OTHER"]?.integer == 3 && object["host"] == nil)
        var changed = object
        changed["hostPort"] = 9
        #expect(JSONValue.object(changed) == ["hostPort": 9, "other": 3])
        changed["HOSTPORT"] = nil
        #expect(JSONValue.object(changed) == ["other": 3])
    }

    @Test(arguments: [("1500", 1500), ("1e3", 1000), ("1500.0", 1500), ("-0", 0)])
    func `whole numbers are whole in any notation`(text: String, number: Int) throws {
        #expect(try JSONValue(parsing: text).integer == number)
    }

    @Test(arguments: ["1.5", "1e400", "99999999999999999999", "\"1\""])
    func `what is no whole number is none`(text: String) throws {
        #expect(try JSONValue(parsing: text).integer == nil)
    }
}
