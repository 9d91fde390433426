import Glibc
import KernelInterface
import NetworkAddresses
import RouteNetlink
import SystemPackage
import Testing

@Suite(.needsRoot) struct RouteMonitorTests {
    @Test func `every change of a pod's arrival and departure is told`() throws {
        let bed = try Bed()
        let monitor = try bed.namespace.withEntered { () throws(KernelError) in try RouteMonitor.open() }
        let left = try bed.addPair()
        let address = InterfaceAddress(IPPrefix("10.1.0.5/24")!, link: left)
        let route = Route(to: IPPrefix("10.2.0.0/24")!, via: IPAddress("10.1.0.1"), link: left, origin: .fairlead)
        let neighbor = Neighbor(IPAddress("10.1.0.1")!, mac: .right, link: left)
        try bed.routes.add(address)
        try bed.routes.add(route)
        try bed.routes.replace(neighbor)
        try bed.routes.addVXLAN(NewLink(.tunnel, isUp: true), .overlay)
        let tunnel = try bed.index(.tunnel)
        let entry = ForwardingEntry(.right, to: IPAddress("10.9.0.2")!, link: tunnel)
        try bed.routes.replace(entry)

        let arrival = try monitor.changes { $0.contains(.forwardingEntry(entry)) }
        #expect(arrival.contains(.address(address)) && arrival.contains(.route(route)))
        #expect(arrival.contains(.neighbor(neighbor)))
        #expect(arrival.contains { if case .link(let told) = $0 { told.index == left && told.isUp } else { false } })
        #expect(!arrival.contains(.missed))

        try bed.routes.remove(entry)
        try bed.routes.remove(neighbor)
        try bed.routes.remove(route)
        try bed.routes.remove(address)
        try bed.routes.deleteLink(index: left)
        let departure = try monitor.changes {
            $0.contains { if case .linkRemoved(let told) = $0 { told.index == left } else { false } }
        }
        #expect(departure.contains(.forwardingEntryRemoved(entry)))
        #expect(departure.contains(.routeRemoved(route)) && departure.contains(.addressRemoved(address)))
        #expect(
            departure.contains {
                if case .neighborRemoved(let told) = $0 { told.address == neighbor.address } else { false }
            })
    }

    @Test func `a bridge's word about its port is no removal of the link`() throws {
        let bed = try Bed()
        let left = try bed.addPair()
        try bed.routes.addBridge(NewLink(.bridge, isUp: true))
        let bridge = try bed.index(.bridge)
        try bed.routes.change(link: left, LinkChange(bridge: bridge))
        let monitor = try bed.namespace.withEntered { () throws(KernelError) in try RouteMonitor.open() }
        try bed.routes.change(link: left, LinkChange(bridge: .some(nil)))
        let changes = try monitor.changes {
            $0.contains { if case .link(let told) = $0 { told.index == left && told.bridge == nil } else { false } }
        }
        #expect(!changes.contains { if case .linkRemoved = $0 { true } else { false } })
    }

    @Test func `where nothing changes, the timeout passes`() throws {
        let bed = try Bed()
        let monitor = try bed.namespace.withEntered { () throws(KernelError) in try RouteMonitor.open() }
        let start = ContinuousClock.now
        #expect(try monitor.next(timeout: .milliseconds(50)).isEmpty)
        #expect(ContinuousClock.now - start >= .milliseconds(50))
        #expect(try monitor.next(timeout: .zero).isEmpty)
        #expect(monitor.fileDescriptor >= 0)
    }

    @Test func `more changes than the socket holds are reported as missed, and later ones told again`() throws {
        let bed = try Bed()
        let monitor = try bed.namespace.withEntered { () throws(KernelError) in try RouteMonitor.open() }
        // As small as the kernel makes it.
        var room: Int32 = 0
        setsockopt(monitor.fileDescriptor, SOL_SOCKET, SO_RCVBUF, &room, 4)
        let left = try bed.addPair()
        for number: UInt8 in 1...100 {
            try bed.routes.replace(Neighbor(.v4(IPv4Address(10, 0, 0, number)), mac: .right, link: left))
        }
        let changes = try monitor.changes { $0.contains(.missed) }
        #expect(changes.last == .missed)
        let neighbor = Neighbor(IPAddress("10.1.0.1")!, mac: .right, link: left)
        try bed.routes.replace(neighbor)
        #expect(try monitor.changes { $0.contains(.neighbor(neighbor)) }.contains(.neighbor(neighbor)))
    }
}

extension RouteMonitor {
    /// The changes until `isEnough` says so; ten seconds without any are too long.
    fileprivate func changes(until isEnough: ([RouteChange]) -> Bool) throws -> [RouteChange] {
        var changes: [RouteChange] = []
        while !isEnough(changes) {
            let more = try next(timeout: .seconds(10))
            guard !more.isEmpty else {
                Issue.record("did not come: only \(changes)")
                break
            }
            changes += more
        }
        return changes
    }
}

@Suite struct DirectoryWatchTests {
    @Test func `files that are written, renamed and removed are named once each`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            try directory.create("old", [])
            let watch = try DirectoryWatch.open(path)
            #expect(try watch.next(timeout: .zero).isEmpty)
            let script = "cd \(path); echo a > new; echo b >> new; mv old young; touch x; rm x"
            _ = try ChildProcess.capture("sh", ["-c", script])
            let changes = try watch.next(timeout: .seconds(10))
            #expect(changes.names == ["new", "old", "x", "young"])
            #expect(changes.isComplete && !changes.isGone)
        }
    }

    @Test func `our own ways of writing are seen under the file's name`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            let watch = try DirectoryWatch.open(path)
            try directory.create("created", [1])
            #expect(try watch.next(timeout: .seconds(10)).names.contains("created"))
            try directory.replace("created", [2])
            #expect(try watch.next(timeout: .seconds(10)).names.contains("created"))
            try directory.remove("created")
            #expect(try watch.next(timeout: .seconds(10)).names == ["created"])
        }
    }

    @Test func `a file that is still open for writing has not changed yet`() throws {
        try withTemporaryDirectory { path in
            let file = open("\(path)/half", O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
            let watch = try DirectoryWatch.open(path)
            write(file, "half", 4)
            #expect(try watch.next(timeout: .milliseconds(50)).isEmpty)
            close(file)
            #expect(try watch.next(timeout: .seconds(10)).names == ["half"])
        }
    }

    @Test func `where nothing changes, the timeout passes`() throws {
        try withTemporaryDirectory { path in
            let watch = try DirectoryWatch.open(path)
            let start = ContinuousClock.now
            #expect(try watch.next(timeout: .milliseconds(50)).isEmpty)
            #expect(ContinuousClock.now - start >= .milliseconds(50))
            #expect(watch.fileDescriptor >= 0)
        }
    }

    @Test func `the end of the directory is told`() throws {
        try withTemporaryDirectory { path in
            _ = try StateDirectory.open("\(path)/inner", create: true)
            let watch = try DirectoryWatch.open("\(path)/inner")
            rmdir("\(path)/inner")
            #expect(try watch.next(timeout: .seconds(10)).isGone)
        }
    }

    @Test func `what is no directory cannot be watched`() {
        #expect(errno { try DirectoryWatch.open("/etc/passwd") } == .notDirectory)
        let error = #expect(throws: KernelError.self) { _ = try DirectoryWatch.open("/no/such") }
        #expect(error?.errno == .noSuchFileOrDirectory && error?.operation == "watch directory /no/such")
    }
}
