import KubernetesObjects
import NetworkAddresses
import Testing

/// What surrounds the fields: kinds, versions, lists, names, repeated keys.
struct DecodingTests {
    private static let pod: FieldValue = ["apiVersion": "v1", "kind": "Pod", "metadata": ["name": "a"]]

    @Test func `a list is flattened, and its bad items are named`() {
        let decoded = KubernetesObject.decode(
            [
                "apiVersion": "v1", "kind": "List",
                "items": [
                    Self.pod, .null, "pod", ["kind": "Pod"],
                    ["apiVersion": "v1", "kind": "Secret", "metadata": ["name": "s"]],
                    ["apiVersion": "v1", "kind": "List", "items": []],
                    ["apiVersion": "v1", "kind": "Namespace", "metadata": ["name": "shop"]],
                ],
            ], source: "all.yaml")
        #expect(decoded.objects.map(\.reference.description) == ["Pod default/a", "Namespace shop"])
        #expect(
            decoded.notes.map(\.description) == [
                "all.yaml: items[1]: is empty", "all.yaml: items[2]: is a string (\"pod\"), not a map",
                "all.yaml: items[3].metadata.name: is missing",
                "all.yaml: Secret default/s: items[4].kind: kind \"Secret\" is not used",
                "all.yaml: items[5].kind: kind \"List\" is not used",
            ])
        #expect(decoded.notes.map(\.severity) == [.error, .error, .error, .warning, .warning])
    }

    @Test func `the items of an API server's list take their kind from it`() {
        let decoded = KubernetesObject.decode(
            ["apiVersion": "v1", "kind": "PodList", "items": [["metadata": ["name": "a"]]]], source: "")
        #expect(decoded.objects.map(\.reference.description) == ["Pod default/a"])
        #expect(decoded.notes.isEmpty)
    }

    @Test func `the trees of a list are those of its objects`() {
        #expect(KubernetesObject.trees(in: Self.pod) == [Self.pod])
        #expect(KubernetesObject.trees(in: ["kind": "List", "items": [Self.pod, "x"]]) == [Self.pod, "x"])
        #expect(
            KubernetesObject.trees(in: ["apiVersion": "v1", "kind": "PodList", "items": [["metadata": ["name": "a"]]]])
                == [["metadata": ["name": "a"], "kind": "Pod", "apiVersion": "v1"]])
    }

    @Test(
        arguments: [
            ([:], ": kind: is missing"),
            (.null, ": is empty"),
            ("Pod", ": is a string (\"Pod\"), not a map"),
            ([Self.pod], ": is a list, not a map"),
            (["kind": 3], ": kind: is a number (3), not a string"),
            (["kind": "Pod", "metadata": ["name": "a"]], ": Pod default/a: apiVersion: is missing"),
            (
                ["apiVersion": "extensions/v1beta1", "kind": "NetworkPolicy", "metadata": ["name": "a"]],
                ": NetworkPolicy default/a: apiVersion: \"extensions/v1beta1\" is not networking.k8s.io/v1"
            ),
            (["kind": "List", "items": "none"], ": items: is a string (\"none\"), not a list"),
            (
                ["apiVersion": "v1", "kind": "Pod\u{7}", "metadata": ["name": "a"]],
                ": kind: kind \"Pod\\u{07}\" is not used"
            ),
        ] as [(FieldValue, String)])
    func `what is no object of ours costs one note`(tree: FieldValue, note: String) {
        let decoded = KubernetesObject.decode(tree, source: "f.yaml")
        #expect(decoded.objects.isEmpty)
        #expect(decoded.notes.map(\.description) == ["f.yaml" + note])
    }

    @Test func `a key given twice refuses the object`() {
        let twice = FieldValue.object(
            FieldObject([.init(key: "app", value: "a"), .init(key: "app", value: "b")]))
        var tree = Self.pod
        tree["spec"] = ["nodeSelector": twice]
        let decoded = KubernetesObject.decode(tree, source: "f.yaml")
        #expect(decoded.objects.isEmpty)
        #expect(decoded.refused.map(\.description) == ["Pod default/a"])
        #expect(decoded.notes.map(\.description) == ["f.yaml: Pod default/a: spec.nodeSelector.app: is given twice"])
    }

    @Test func `a key given twice is found among many`() {
        var entries = (0..<50).map { FieldObject.Entry(key: "k\($0)", value: "v") }
        #expect(FieldObject(entries).repeatedKey == nil)
        entries.append(.init(key: "k17", value: "v"))
        #expect(FieldObject(entries).repeatedKey == "k17")
    }

    @Test func `the owner is the controller among the references`() {
        var tree = Self.pod
        tree["metadata"]?["ownerReferences"] = [
            ["kind": "Node", "name": "n"], ["kind": "StatefulSet", "name": "db", "controller": true],
        ]
        let decoded = KubernetesObject.decode(tree, source: "")
        #expect(decoded.objects.first?.metadata.owner?.description == "StatefulSet default/db")
    }

    @Test func `text from files cannot steer a terminal`() {
        var tree = Self.pod
        tree["spec"] = ["hostNetwork": .string("\u{1b}]0;x\u{7}" + String(repeating: "y", count: 100))]
        let notes = KubernetesObject.decode(tree, source: "").notes
        #expect(
            notes.map(\.message) == [
                "is a string (\"\\u{1B}]0;x\\u{07}" + String(repeating: "y", count: 54) + "…\"), not true or false"
            ])
    }
}

struct FieldValueTests {
    @Test func `a tree is printed as JSON`() {
        let tree: FieldValue = [
            "a": [1, .double(1.5), .null, true, .double(.infinity)], "q\"\\": "line\n\u{1}\u{1f}é", "empty": [:],
        ]
        #expect(
            tree.description
                == #"{"a":[1,1.5,null,true,null],"q\"\\":"line\n\u0001\u001fé","empty":{}}"#)
    }

    @Test func `fields are replaced, added and removed in place`() {
        var tree: FieldValue = ["a": 1, "b": 2]
        tree["b"] = 3
        tree["c"] = ["d": 4]
        tree["c"]?["e"] = 5
        tree["a"] = nil
        tree["none"] = nil
        #expect(tree == ["b": 3, "c": ["d": 4, "e": 5]])
    }
}

struct TimestampTests {
    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0), ("2026-07-31T12:34:56Z", 1_785_501_296), ("2000-02-29T23:59:59Z", 951_868_799),
        ("1969-12-31T23:59:59Z", -1), ("2026-01-01T01:30:00.123456+01:30", 1_767_225_600),
        ("2025-12-31T19:00:00-05:00", 1_767_225_600),
    ])
    func `moments are read`(text: String, seconds: Int64) {
        #expect(Timestamp(text)?.secondsSince1970 == seconds)
    }

    @Test(arguments: [
        "", "2026-01-01", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+1", "2026-01-01T00:00:00Zjunk", "2026-01-01T00:00:00.", "2026-01-01 00:00:00Z",
        "２026-01-01T00:00:00Z",
    ])
    func `what is no moment is not read`(text: String) {
        #expect(Timestamp(text) == nil)
    }

    @Test func `every day of four centuries is printed as it is read`() {
        for day in stride(from: -146_097, through: 146_097, by: 1) {
            let moment = Timestamp(secondsSince1970: Int64(day) * 86400 + 3661)
            #expect(Timestamp(moment.description) == moment)
        }
        #expect(Timestamp(secondsSince1970: -1).description == "1969-12-31T23:59:59Z")
    }
}
