import Dispatch
import FoundationEssentials
import Glibc
import KernelInterface
import KubernetesObjects
import ManifestFolder
import Testing

/// A real folder with the kernel's notifications; needs no privileges.
@Suite struct ManifestWatcherTests {
    /// A new empty folder, removed afterwards.
    private func withFolder(_ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.path + "/fairlead-manifests-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    private func pod(_ name: String, address: String = "10.244.0.1") -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: \(name), labels: {app: web}}
        spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
        status: {phase: Running, podIP: \(address)}

        """
    }

    private let service = """
        apiVersion: v1
        kind: Service
        metadata: {name: web}
        spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]}

        """

    private func write(_ text: String, to path: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }

    private func append(_ text: String, to path: String) throws {
        let before = (try? Data(contentsOf: URL(fileURLWithPath: path))) ?? Data()
        try (before + Data(text.utf8)).write(to: URL(fileURLWithPath: path))
    }

    /// What the watcher says next, as text; more than one update where the kernel tells of the changes in parts.
    private func next(_ watcher: inout ManifestWatcher, until count: Int) throws -> (events: [String], notes: [String])
    {
        var events: [String] = []
        var notes: [String] = []
        let deadline = ContinuousClock.now + .seconds(10)
        while events.count < count, ContinuousClock.now < deadline {
            guard let update = try watcher.next(timeout: .seconds(10)) else { break }
            notes = update.notes.map(\.description)
            events += update.events.map { event in
                switch event {
                case .set(let object): "set \(object.reference)"
                case .removed(let reference): "removed \(reference)"
                case .synced: "synced"
                }
            }
        }
        return (events, notes)
    }

    @Test func `what is there at the start comes first, then what changes`() throws {
        try withFolder { path in
            try write(service, to: path + "/service.yaml")
            try write(pod("one"), to: path + "/one.yml")
            try write("not a manifest: [", to: path + "/README")
            try write("not yet: [", to: path + "/.one.yaml.swp")
            var watcher = try ManifestWatcher.open(path)
            #expect(
                try next(&watcher, until: 4).events
                    == [
                        "set Pod default/one", "set Service default/web", "set EndpointSlice default/web-ipv4",
                        "synced",
                    ])
            #expect(try watcher.next(timeout: .milliseconds(10)) == nil)

            // Another pod, in JSON.
            let tree = try ManifestText.documents(in: Array(pod("two", address: "10.244.0.2").utf8))[0]
            try write(tree.description, to: path + "/two.json")
            #expect(
                try next(&watcher, until: 2).events == ["set Pod default/two", "set EndpointSlice default/web-ipv4"])

            // The same file again: nothing has changed.
            try write(pod("one"), to: path + "/one.yml")
            #expect(try watcher.next(timeout: .milliseconds(100))?.events ?? [] == [])

            try FileManager.default.removeItem(atPath: path + "/one.yml")
            #expect(
                try next(&watcher, until: 2).events == [
                    "removed Pod default/one", "set EndpointSlice default/web-ipv4",
                ])
        }
    }

    @Test func `a file written in two parts keeps its objects in between`() throws {
        try withFolder { path in
            try write(pod("one"), to: path + "/pods.yaml")
            var watcher = try ManifestWatcher.open(path)
            _ = try watcher.next()

            let text = pod("one") + "---\n" + pod("two", address: "10.244.0.2")
            let cut = text.index(text.startIndex, offsetBy: pod("one").count + 30)
            try write(String(text[..<cut]), to: path + "/pods.yaml")
            let half = try #require(try watcher.next(timeout: .seconds(10)))
            #expect(half.events == [])
            #expect(half.notes.map(\.source) == ["pods.yaml"])
            #expect(half.notes.first?.message.hasSuffix("its objects stay as they were") == true)

            try append(String(text[cut...]), to: path + "/pods.yaml")
            #expect(try next(&watcher, until: 1) == (["set Pod default/two"], []))
        }
    }

    @Test func `a file that takes another's place changes its objects at once`() throws {
        try withFolder { path in
            try write(pod("one"), to: path + "/pods.yaml")
            var watcher = try ManifestWatcher.open(path)
            _ = try watcher.next()
            try write(pod("two"), to: path + "/.new")
            #expect(rename(path + "/.new", path + "/pods.yaml") == 0)
            let update = try #require(try watcher.next(timeout: .seconds(10)))
            #expect(update.events.count == 2)

            // Under a name that is no manifest's, the objects are gone.
            #expect(rename(path + "/pods.yaml", path + "/pods.old") == 0)
            #expect(try next(&watcher, until: 1).events == ["removed Pod default/two"])
        }
    }

    @Test func `many files written together are told together`() throws {
        try withFolder { path in
            var watcher = try ManifestWatcher.open(path)
            _ = try watcher.next()
            for number in 0..<200 { try write(pod("p\(number)"), to: path + "/\(number).yaml") }
            var updates = 0
            var events = 0
            while events < 200, let update = try watcher.next(timeout: .seconds(10)) {
                updates += 1
                events += update.events.count
            }
            #expect(events == 200)
            #expect(updates < 50)
        }
    }

    @Test func `what cannot be read is named, and nothing else is harmed`() throws {
        try withFolder { path in
            try FileManager.default.createDirectory(atPath: path + "/folder.yaml", withIntermediateDirectories: false)
            try FileManager.default.createSymbolicLink(atPath: path + "/loop.yaml", withDestinationPath: "loop.yaml")
            try FileManager.default.createSymbolicLink(atPath: path + "/nowhere.yaml", withDestinationPath: "nothing")
            #expect(mkfifo(path + "/pipe.yaml", 0o600) == 0)
            try write(String(repeating: " ", count: 8 << 20 + 1), to: path + "/long.yaml")
            try write(pod("one"), to: path + "/good.yaml")
            var watcher = try ManifestWatcher.open(path)
            let (events, notes) = try next(&watcher, until: 2)
            #expect(events == ["set Pod default/one", "synced"])
            #expect(
                notes == [
                    "folder.yaml: cannot be read: Is a directory", "long.yaml: is longer than 8 MiB",
                    "loop.yaml: cannot be read: Too many levels of symbolic links",
                    "pipe.yaml: cannot be read: Invalid argument",
                ])
        }
    }

    @Test func `files that are links change with the folder they lead to`() throws {
        try withFolder { path in
            for version in ["one", "two"] {
                try FileManager.default.createDirectory(
                    atPath: path + "/..\(version)", withIntermediateDirectories: false)
                try write(pod(version), to: path + "/..\(version)/pods.yaml")
            }
            try FileManager.default.createSymbolicLink(atPath: path + "/..data", withDestinationPath: "..one")
            try FileManager.default.createSymbolicLink(
                atPath: path + "/pods.yaml", withDestinationPath: "..data/pods.yaml")
            var watcher = try ManifestWatcher.open(path)
            #expect(try next(&watcher, until: 2).events == ["set Pod default/one", "synced"])
            // As the kubelet swaps a ConfigMap.
            try FileManager.default.createSymbolicLink(atPath: path + "/..tmp", withDestinationPath: "..two")
            #expect(rename(path + "/..tmp", path + "/..data") == 0)
            #expect(try next(&watcher, until: 2).events == ["removed Pod default/one", "set Pod default/two"])
        }
    }

    @Test func `a folder that goes leaves its objects, and one in its place is followed`() throws {
        try withFolder { parent in
            let path = parent + "/manifests"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
            try write(pod("one"), to: path + "/pods.yaml")
            var watcher = try ManifestWatcher.open(path)
            _ = try watcher.next()

            #expect(rename(path, parent + "/elsewhere") == 0)
            let gone = try #require(try watcher.next(timeout: .seconds(10)))
            #expect(gone.events == [])
            #expect(gone.notes.map(\.description) == ["\(path): the folder is gone; its objects stay as they were"])
            #expect(try watcher.next(timeout: .milliseconds(50)) == nil)

            try FileManager.default.createDirectory(atPath: parent + "/new", withIntermediateDirectories: false)
            try write(pod("two"), to: parent + "/new/pods.yaml")
            #expect(rename(parent + "/new", path) == 0)
            #expect(
                try next(&watcher, until: 2) == (["removed Pod default/one", "set Pod default/two"], []))
            try write(pod("three"), to: path + "/more.yaml")
            #expect(try next(&watcher, until: 1).events == ["set Pod default/three"])
        }
    }

    @Test func `the revision is told when all before it was read`() throws {
        try withFolder { path in
            var watcher = try ManifestWatcher.open(path)
            #expect(try watcher.next() == ManifestUpdate(events: [.synced], notes: []))
            try write("1\n", to: path + "/.revision")
            #expect(try watcher.next(timeout: .seconds(10)) == ManifestUpdate(events: [], notes: [], revision: "1"))
            // A writer that does not wait: at each revision that is told, its pod must be known.
            let writing = DispatchGroup()
            DispatchQueue.global().async(group: writing) {
                for revision in 2...200 {
                    try? write(pod("r\(revision)"), to: path + "/\(revision).yaml")
                    try? write("\(revision)", to: path + "/.new")
                    rename(path + "/.new", path + "/.revision")
                }
            }
            defer { writing.wait() }
            var known: Set<String> = []
            var newest = 1
            while newest < 200, let update = try watcher.next(timeout: .seconds(10)) {
                for case .set(let object) in update.events {
                    known.insert(object.metadata.name)
                }
                guard let text = update.revision, let revision = Int(text) else { continue }
                newest = revision
                if revision > 1 { #expect(known.contains("r\(revision)")) }
            }
            #expect(newest == 200)
        }
    }

    @Test func `a folder that is none cannot be watched`() {
        #expect(throws: KernelError.self) { _ = try ManifestWatcher.open("/nonexistent") }
    }
}
