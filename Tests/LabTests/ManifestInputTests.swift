import KernelInterface
import KubernetesObjects
import Testing

@testable import Lab

@Suite struct ManifestInputTests {
    private static let namespaces = """
        apiVersion: v1
        kind: Namespace
        metadata: {name: a}
        ---
        apiVersion: v1
        kind: Namespace
        metadata: {name: b}
        """

    @Test func `objects keep their order and their trees`() {
        let input = ManifestInput(
            Self.namespaces + """

                ---
                apiVersion: v1
                kind: Pod
                metadata: {name: p, annotations: {kept: "yes"}}
                spec: {containers: [{name: c, image: i}]}
                """)
        #expect(input.objects.map(\.object.reference.description) == ["Namespace a", "Namespace b", "Pod default/p"])
        #expect(input.objects[2].tree["metadata"]?["annotations"]?["kept"] == "yes")
        #expect(input.notes == [])
        #expect(!input.hasErrors)
    }

    @Test func `the items of lists are objects of their own`() {
        let input = ManifestInput(
            """
            apiVersion: v1
            kind: List
            items:
            - {apiVersion: v1, kind: Namespace, metadata: {name: a}}
            - {apiVersion: v1, kind: Namespace, metadata: {name: b}}
            ---
            apiVersion: v1
            kind: NamespaceList
            items:
            - {metadata: {name: c}}
            """)
        #expect(input.objects.map(\.object.reference.name) == ["a", "b", "c"])
        #expect(input.objects[2].tree == ["metadata": ["name": "c"], "kind": "Namespace", "apiVersion": "v1"])
    }

    @Test func `of two objects of one name the first counts and the second is named`() {
        var input = ManifestInput(Self.namespaces, source: "one.yaml")
        input.add(
            Array("apiVersion: v1\nkind: Namespace\nmetadata: {name: b, labels: {x: other}}\n".utf8), source: "two.yaml"
        )
        #expect(input.objects.count == 2)
        #expect(input.objects[1].source == "one.yaml")
        #expect(
            input.notes.map(\.description) == ["two.yaml: Namespace b: is in one.yaml already; this one is not used"])
        #expect(input.hasErrors)
    }

    @Test func `a kind without use is named, and is no error`() {
        let input = ManifestInput("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
        #expect(input.objects == [])
        #expect(input.notes.count == 1)
        #expect(input.notes.first?.description.contains("ConfigMap default/x") == true)
        #expect(!input.hasErrors)
    }

    @Test func `an object that cannot be used is named by file, object and field, and the rest is taken`() {
        let input = ManifestInput(
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: bad}
            spec: {nodeName: 7}
            ---
            apiVersion: v1
            kind: Namespace
            metadata: {name: good}
            """)
        #expect(input.objects.map(\.object.reference.name) == ["good"])
        #expect(input.refused == [ObjectReference(kind: .pod, namespace: "default", name: "bad")])
        #expect(
            input.notes.map(\.description) == [
                "test.yaml: Pod default/bad: spec.nodeName: is a number (7), not a string"
            ])
        #expect(input.hasErrors)
    }

    @Test func `text that is no YAML is named by its line`() {
        let input = ManifestInput("kind: Pod\n  x: [\n")
        #expect(input.objects == [])
        #expect(input.notes.count == 1)
        #expect(input.notes.first?.source == "test.yaml")
        #expect(input.notes.first?.field.hasPrefix("line ") == true)
    }

    @Test func `a folder is read in the order of its names, and other files in it are not`() throws {
        try withLabFolder { folder throws in
            let directory = try StateDirectory.open(folder.path, create: true)
            func namespace(_ name: String) -> [UInt8] {
                Array("apiVersion: v1\nkind: Namespace\nmetadata: {name: \(name)}\n".utf8)
            }
            try directory.replace("2.yml", namespace("two"))
            try directory.replace("1.yaml", namespace("one"))
            try directory.replace(
                "3.json", Array(#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"three"}}"#.utf8))
            try directory.replace("README.md", Array("hello".utf8))
            try directory.replace(".hidden.yaml", namespace("hidden"))
            let input = ManifestInput(paths: [folder.path])
            #expect(input.objects.map(\.object.reference.name) == ["one", "two", "three"])
            #expect(input.objects[0].source == "\(folder.path)/1.yaml")
            #expect(input.notes == [])
        }
    }

    @Test func `a path that leads nowhere, and a folder without manifests, are named`() throws {
        try withLabFolder { folder throws in
            _ = try StateDirectory.open(folder.path, create: true)
            let input = ManifestInput(paths: ["\(folder.path)/missing.yaml", folder.path])
            #expect(
                input.notes.map(\.description) == [
                    "\(folder.path)/missing.yaml: there is no such file or folder",
                    "\(folder.path): holds no *.yaml, *.yml or *.json file",
                ])
            #expect(input.hasErrors)
        }
    }
}
