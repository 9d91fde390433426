import Dispatch
import KernelInterface
import KubernetesObjects
import Synchronization
import Testing

@testable import Lab

@Suite struct LabFolderTests {
    @Test func `records are read back as they were written`() throws {
        try withLabFolder { folder throws in
            #expect(try folder.record() == nil)
            try folder.write(.example)
            #expect(try folder.record() == .example)
            let pod = PodRecord(
                DesiredPod(pod: Pod(metadata: ObjectMetadata(name: "p"), spec: PodSpec(nodeName: "node-1")), tree: [:]),
                in: folder.name)
            try folder.write(pod)
            #expect(try folder.podRecords() == [pod])
            try folder.removeRecord(ofPod: pod.id)
            #expect(try folder.podRecords() == [])
        }
    }

    @Test func `a damaged record is named, with what to do`() throws {
        try withLabFolder { folder throws in
            try StateDirectory.open(folder.path, create: true).replace("lab.json", Array("{".utf8))
            let error = #expect(throws: LabError.self) { try folder.record() }
            #expect(error?.message == "\(folder.path)/lab.json is damaged")
            #expect(error?.advice.contains("lab down") == true)
        }
    }
}

@Suite struct LabLockTests {
    @Test func `a lab that is not there is not made by asking for it`() throws {
        try withLabFolder { folder throws in
            #expect(try LabLock.take(folder, create: false) {} == nil)
            #expect(try folder.open("") == nil)
        }
    }

    @Test func `one command holds a lab at a time, and the next is told`() throws {
        try withLabFolder { folder throws in
            let first = try LabLock.take(folder, create: true) { Issue.record("nobody holds it") }
            var told = 0
            #expect(throws: LabError("another command is at work on lab lab", advice: "Wait for it to end.")) {
                try LabLock.take(folder, create: true, timeout: .milliseconds(120)) { told += 1 }
            }
            #expect(told == 1)
            // Used here, so that it is held until here.
            try #require(first).release(removing: folder)
        }
    }

    @Test func `whoever waited gets the lab that is made next, not the one that is gone`() throws {
        try withLabFolder { folder throws in
            let first = Collected([try #require(try LabLock.take(folder, create: true) {})])
            let told = DispatchSemaphore(value: 0)
            let done = DispatchSemaphore(value: 0)
            let second = Collected<LabLock>([])
            DispatchQueue(label: "waiter").async {
                if let lock = try? LabLock.take(folder, create: true, timeout: .seconds(10), waiting: { told.signal() })
                {
                    second.append(lock)
                }
                done.signal()
            }
            #expect(told.wait(timeout: .now() + 10) == .success)
            try first.values[0].release(removing: folder)
            first.removeAll()
            #expect(done.wait(timeout: .now() + 10) == .success)
            #expect(second.values.count == 1)
            // Held on the file that is there now: nobody else gets it.
            #expect(throws: LabError.self) { try LabLock.take(folder, create: true, timeout: .zero) {} }
        }
    }
}

@Suite struct WorkersTests {
    private func workers(
        _ interruption: Interruption = Interruption(), report: @escaping @Sendable (LabEvent) -> Void = { _ in }
    ) -> Workers {
        Workers(interruption: interruption, report: report)
    }

    @Test func `every item is done once, a few at a time, and counted in order`() {
        let counts = Collected<Int>([])
        let done = Collected<Int>([])
        let atOnce = Mutex((now: 0, most: 0))
        workers { event in
            if case .progress("Work", let done, 50) = event { counts.append(done) }
        }.run("Work", Array(0..<50)) { item in
            atOnce.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
            }
            done.append(item)
            atOnce.withLock { $0.now -= 1 }
        }
        #expect(done.values.sorted() == Array(0..<50))
        #expect(counts.values == Array(0...50))
        #expect((1...4).contains(atOnce.withLock(\.most)))
    }

    @Test func `asked to stop, no new item is begun`() {
        let interruption = Interruption()
        let done = Collected<Int>([])
        workers(interruption).run("Work", Array(0..<1000)) { item in
            interruption.request()
            done.append(item)
        }
        #expect((1...4).contains(done.values.count))
        #expect(throws: LabError.interrupted) { try interruption.check() }
    }

    @Test func `without items there is nothing to tell`() {
        workers { _ in Issue.record("told something") }.run("Work", [Int]()) { _ in Issue.record("did something") }
    }
}
