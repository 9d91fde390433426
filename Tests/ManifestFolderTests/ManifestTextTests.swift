import FoundationEssentials
import KubernetesObjects
import ManifestFolder
import Testing

struct ManifestTextTests {
    private func read(_ text: String) throws(SyntaxError) -> [FieldValue] {
        try ManifestText.documents(in: Array(text.utf8))
    }

    @Test func `documents of a file are read, and empty ones are not there`() throws {
        let documents = try read(
            """
            # nothing yet
            ---
            a: 1
            ---
            ---
            # only a remark
            ---
            - b
            ...
            """)
        #expect(documents == [["a": 1], ["b"]])
        #expect(try read("") == [])
        #expect(try read("{\"a\": 1}\n{\"b\": \"\\ud83d\\ude00\"}") == [["a": 1], ["b": "😀"]])
        #expect(try read("{a: 1, b: [x]}\n") == [["a": 1, "b": ["x"]]])
    }

    @Test(
        arguments: [
            ("a", "a"), ("'80'", "80"), ("\"80\"", "80"), ("80", 80), ("-80", -80), ("+80", 80), ("0x50", 80),
            ("010", 8),
            ("0o10", 8), ("0b11", 3), ("1_000", 1000), ("80.0", 80), ("1.5", 1.5), ("1e3", 1000), (".5", 0.5),
            ("08", 8),
            ("1.2.3", "1.2.3"), ("10.0.0.1", "10.0.0.1"), ("1e", "1e"), ("-", ["-"]), ("+-1", "+-1"), ("0x-1", "0x-1"),
            ("99999999999999999999", 1e20), ("1e999", "1e999"), ("true", true), ("Yes", true), ("off", false),
            ("n", false),
            ("null", .null), ("~", .null), ("", .null), ("!!str 80", "80"), ("!!int \"80\"", 80), ("! 80", "80"),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"), ("fd00::1", "fd00::1"), ("|\n  x\n  y\n", "x\ny\n"),
            (".nan", ".nan"), ("_1", "_1"),
        ] as [(String, FieldValue)])
    func `scalars mean what they mean to kubectl`(text: String, value: FieldValue) throws {
        if text == "-" {
            #expect(try read("a:\n  - '-'\n") == [["a": value]])
        } else {
            #expect(try read("a: \(text)\n") == [["a": value]])
        }
    }

    @Test func `aliases and merges unfold`() throws {
        let documents = try read(
            """
            labels: &labels {app: web, tier: front}
            one: *labels
            two: {<<: *labels, tier: back}
            three: {<<: [{a: 1}, {a: 2, b: 3}]}
            "<<": kept
            """)
        #expect(
            documents == [
                [
                    "labels": ["app": "web", "tier": "front"], "one": ["app": "web", "tier": "front"],
                    "two": ["tier": "back", "app": "web"], "three": ["a": 1, "b": 3], "<<": "kept",
                ]
            ])
    }

    @Test(arguments: [
        ("a: b\n  c: d\n", 2, "mapping values are not allowed in this context"),
        ("a: [1, 2\nb: 3\n", 2, "did not find expected ',' or ']'"),
        ("a:\n\t- b\n", 2, "found character that cannot start any token"),
        ("a: *b\n", 1, "found undefined alias"), ("? [a]\n: b\n", 1, "has a key that is no text"),
        ("a: 1\nb: !!binary aGk=\n", 2, "has a tag that is not known"), ("a: {<<: b}\n", 1, "merges what is no map"),
        ("a: {<<: [b]}\n", 1, "merges what is no map"),
        ("\n\n{\"a\": 1", 3, "expected ',' or '}' in an object"), ("a: \u{1}\n", 1, "control characters are not allowed"),
    ])
    func `what is no YAML is named with its line`(text: String, line: Int, message: String) {
        #expect(throws: SyntaxError(line: line, message: message)) { try read(text) }
    }

    @Test(arguments: [
        "a: {b: 1, c: 2, b: 3}", "a:\n  \"b\": 1\n  c: 2\n  'b': 3", "a:\n  é: 0\n  b: 1\n  c: 2\n  b: 3\n",
    ])
    func `repeated keys reach the tree`(text: String) throws {
        let documents = try read(text)
        guard case .object(let object)? = documents.first?["a"] else {
            Issue.record("no map")
            return
        }
        #expect(object.entries.filter { $0.key == "b" }.map(\.value) == [1, 3])
        #expect(object.repeatedKey == "b")
    }

    @Test func `more repeated keys than mistakes make give up the file`() {
        let text = (0..<40).map { "k\($0 / 2): v" }.joined(separator: "\n")
        #expect(throws: SyntaxError.self) { try read(text) }
    }

    @Test func `the shop of the quickstart is read without a word`() throws {
        let shop = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("scripts/shop").path
        var kinds: Set<String> = []
        for name in try FileManager.default.contentsOfDirectory(atPath: shop) where ManifestSet.isManifest(name) {
            let bytes = try #require(FileManager.default.contents(atPath: "\(shop)/\(name)"))
            for document in try ManifestText.documents(in: Array(bytes)) {
                let decoded = KubernetesObject.decode(document, source: name)
                #expect(decoded.notes.filter { $0.severity == .error } == [])
                kinds.formUnion(decoded.objects.map(\.kind.description))
                // What the lab writes back is what was read.
                #expect(try ManifestText.documents(in: Array(ManifestText.yaml([document]).utf8)) == [document])
            }
        }
        #expect(kinds.isSuperset(of: ["Namespace", "Deployment", "Service", "NetworkPolicy"]))
    }

    // MARK: Hostile input

    @Test func `aliases that would unfold without end are refused`() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1..<12 {
            text +=
                "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ") + "]\n"
        }
        #expect(throws: SyntaxError(line: 1, message: "unfolds into far more than is written")) { try read(text) }
        for key in ["? *a11\n: x\n", "*a11 : x\n", "{[*a11]: x}\n", "b: {*a11 : x}\n"] {
            #expect(throws: SyntaxError(line: 13, message: "has aliases within keys")) { try read(text + key) }
        }
    }

    @Test(arguments: ["[", "{a: ", "- ", "a:\n"])
    func `values nested without end are refused`(opening: String) {
        for depth in [101, 500, 5000, 100_000] {
            var text = ""
            for level in 0..<(opening.hasSuffix("\n") ? min(depth, 2000) : depth) {
                if opening.hasSuffix("\n") { text += String(repeating: " ", count: level) }
                text += opening
            }
            #expect(throws: SyntaxError.self) { try read(text) }
        }
    }

    @Test func `a file that is too long or no text is refused`() {
        #expect(throws: SyntaxError(line: 1, message: "is longer than 8 MiB")) {
            try ManifestText.documents(in: [UInt8](repeating: 0x20, count: 8 << 20 + 1))
        }
        #expect(throws: SyntaxError(line: 1, message: "is no UTF-8")) { try ManifestText.documents(in: [0x61, 0xff]) }
    }

    @Test func `no beginning and no damage of a manifest does harm`() {
        let bytes = Array(Self.large.utf8)
        for length in bytes.indices {
            for document in (try? ManifestText.documents(in: Array(bytes[..<length]))) ?? [] {
                _ = KubernetesObject.decode(document, source: "f.yaml")
            }
        }
        var generator = SplitMix(seed: 7)
        for _ in 0..<3000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                damaged[Int.random(in: damaged.indices, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            for document in (try? ManifestText.documents(in: damaged)) ?? [] {
                _ = KubernetesObject.decode(document, source: "f.yaml")
            }
        }
    }

    // MARK: Writing

    @Test func `what is written reads back as the same trees`() throws {
        let documents: [FieldValue] = [
            [
                "apiVersion": "v1", "empty": [:], "none": [], "null": .null, "yes": true, "port": 80, "half": 0.5,
                "words": [
                    "80", "yes", "null", "~", "", " x ", "a: b", "# no", "- x", "10.0.0.1", "1e3", "é😀", "x\ny\n",
                    "x\n\n", "\u{1}",
                    "*a", "&a", "!t", "<<", "'", "\"", "\\", "{", "[", "tab\t", "\r\n", "%", "@", "`", "|", ">", "?",
                    ":",
                    "2026-01-31T12:00:00Z", "0o10", "010", "+1", ".5", "\u{2028}", "\u{85}",
                ],
                "nested": [["a": [["b": "c"]]]], "80": "number", "on": "word", "": "nothing", "<<": "merge",
            ],
            ["x"], "text",
        ]
        let text = ManifestText.yaml(documents)
        let again = try read(text)
        #expect(again[0]["words"]?.array == documents[0]["words"]?.array)
        #expect(again == documents)
    }

    @Test func `what is written is what a person would write`() {
        let text = ManifestText.yaml([
            [
                "apiVersion": "v1", "kind": "Service", "metadata": ["name": "web", "labels": ["version": "1"]],
                "spec": ["ports": [["port": 80, "name": "http"]], "clusterIPs": ["10.96.0.1", "fd00::1"]],
            ], ["kind": "Pod"],
        ])
        #expect(
            text == """
                apiVersion: v1
                kind: Service
                metadata:
                  name: web
                  labels:
                    version: "1"
                spec:
                  ports:
                  - port: 80
                    name: http
                  clusterIPs:
                  - 10.96.0.1
                  - fd00::1
                ---
                kind: Pod

                """)
    }

    static let large = """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {team: "a"}}
        ---
        apiVersion: v1
        kind: Service
        metadata:
          name: web
          namespace: shop
        spec:
          selector: &labels
            app: web
          clusterIPs: [10.96.0.10, "fd00:10:96::a"]
          ports:
          - name: http
            port: 80
            targetPort: http
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: web
          namespace: shop
        spec:
          replicas: 3
          selector:
            matchLabels: {app: web}
          template:
            metadata:
              labels:
                app: web
            spec:
              containers:
              - name: web
                image: "nginx:1.27"
                ports:
                - {name: http, containerPort: 8080}
        ---
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata:
          name: allow-web
          namespace: shop
        spec:
          podSelector:
            matchExpressions:
            - {key: app, operator: In, values: [web, front]}
          policyTypes: [Ingress, Egress]
          ingress:
          - from:
            - namespaceSelector: {}
              podSelector: {matchLabels: {role: 'client'}}
            - ipBlock: {cidr: 192.168.0.0/16, except: [192.168.1.0/24]}
            ports:
            - {port: 80, protocol: TCP}
            - {port: 8000, endPort: 8010}
          egress:
          - {}
        ---
        apiVersion: v1
        kind: Node
        metadata: {name: node-a}
        spec: {podCIDRs: [10.244.0.0/24, "fd00:10:244::/64"]}
        status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}

        """
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
