import CNIProtocol
import KernelInterface
import Logging
import NetworkAddresses
import Nftables
import PodAttachment
import ServiceLifecycle

/// Looks after what the CNI plugins left of their attachments on the node, while no runtime calls them.
///
/// What is left of a pod whose namespace is gone is removed, by the plugin's own DEL; what another program removed of
/// the packet filter of living pods is put back, by the plugin as well. So there is one place that knows how either is
/// done, and one lock.
actor AttachmentKeeper: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private let records: StateDirectory
    private let links: RouteSocket
    private let filter: NftablesSocket
    private let stateFolder: String
    private let programs: String
    /// Nil where nothing is ever removed.
    private let grace: Duration?
    private let logger: Logger
    /// When the namespace of an attachment was first seen to be gone, by the record's file.
    private var suspects: [String: ContinuousClock.Instant] = [:]
    private var nextCollection = ContinuousClock.now
    private let watch: DirectoryWatch
    /// What the packet filter is to hold for each record, by its file; those that changed are read again.
    private var parts: [String: RecordedParts] = [:]
    /// Of the packet filter, when it was last seen to hold all of that.
    private var generation: UInt32?
    private var complaint = ""

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    /// Opens its sockets in the network namespace of the process.
    ///
    /// - Parameters:
    ///   - stateFolder: where the plugins record attachments.
    ///   - programs: where the plugins are.
    ///   - grace: how long a namespace has to be gone; zero for never removing anything.
    init(stateFolder: String, programs: String, grace: Duration, logger: Logger) throws(KernelError) {
        records = try StateDirectory.open(stateFolder, create: true)
            .subdirectory(AttachmentRecord.folder, create: true)
        watch = try DirectoryWatch.open(records.path)
        links = try RouteSocket.open()
        filter = try NftablesSocket.open()
        self.stateFolder = stateFolder
        self.programs = programs
        self.grace = grace > .zero ? grace : nil
        self.logger = logger
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while (try? await Task.sleep(for: .seconds(1))) != nil { await look() }
        }
    }

    private func look() {
        do {
            let names = try records.entries()
            try restore(names.filter(AttachmentRecord.isLiving))
            guard let grace, ContinuousClock.now >= nextCollection else { return }
            nextCollection = .now + max(.seconds(1), min(.seconds(15), grace / 4))
            // A withdrawn one is what a DEL left that was cut short and that nobody has repeated.
            let present = names.filter { AttachmentRecord.isLiving($0) || AttachmentRecord.isWithdrawn($0) }
            suspects = suspects.filter { present.contains($0.key) }
            for name in present { try collect(name, grace) }
        } catch {
            complain("\(error)")
        }
    }

    // MARK: - Garbage

    private func collect(_ name: String, _ grace: Duration) throws {
        guard let record = try read(name), try isGone(record) else {
            suspects[name] = nil
            return
        }
        guard let first = suspects[name] else {
            suspects[name] = .now
            return
        }
        guard ContinuousClock.now - first >= grace else { return }
        // Once more, and by the record as it is now: the container may have been attached again meanwhile.
        guard let current = try read(name), current == record, try isGone(current),
            let configuration = current.configuration
        else { return }
        let outcome = try ChildProcess.capture(
            program, [],
            environment: [
                "CNI_COMMAND": "DEL", "CNI_CONTAINERID": current.attachment.containerID, "CNI_NETNS": "",
                "CNI_IFNAME": current.attachment.interface.description, "CNI_PATH": programs,
            ], input: Array(JSONValue.object(configuration).text.utf8), timeout: .seconds(30))
        guard outcome.status.isSuccess else {
            return complain("DEL of \(current.attachment.containerID): \(outcome.text) \(outcome.errorText)")
        }
        suspects[name] = nil
        logger.notice(
            "Removed what was left of a pod whose network namespace is gone",
            metadata: [
                "pod": "\(current.podNamespace)/\(current.podName)", "container": "\(current.attachment.containerID)",
                "addresses": "\(current.addresses.map(\.description).joined(separator: ","))",
            ])
    }

    /// Nil for what is no record, and for one that says too little to act upon.
    private func read(_ name: String) throws(KernelError) -> AttachmentRecord? {
        guard let bytes = try records.read(name, limit: 1 << 16),
            let record = try? AttachmentRecord(json: String(decoding: bytes, as: UTF8.self)),
            record.configuration != nil
        else { return nil }
        return record
    }

    private func isGone(_ record: AttachmentRecord) throws(KernelError) -> Bool {
        try NamespaceEnd.isProven(
            path: record.namespacePath, inode: record.namespaceInode, hostInterface: record.hostInterface,
            links: links)
    }

    // MARK: - The packet filter

    /// Has the plugin put back what living pods have lost.
    ///
    /// The tables are looked at where the packet filter has changed at all, and not listened to: one listener makes the
    /// kernel tell of every element that anybody writes, which costs a commit of ours half as much again.
    private func restore(_ names: [String]) throws {
        let changes = try watch.next(timeout: .zero)
        let now = try filter.generation()
        guard now != generation || !changes.isEmpty else { return }
        let known = changes.isComplete ? parts : [:]
        // Looked at once more, whatever comes of it, until nothing is missing.
        generation = nil
        parts = [:]
        for name in names {
            let unchanged = changes.names.contains(name) ? nil : known[name]
            // What the plugin cannot make sense of either, it names when it next restores something.
            parts[name] = try unchanged ?? read(name).flatMap { try? RecordedParts($0) }
        }
        guard try lacksSomething() else { return generation = now }
        let outcome = try ChildProcess.capture(
            program, ["restore", stateFolder], environment: [:], timeout: .seconds(30))
        if !outcome.status.isSuccess { complain("restore: \(outcome.text) \(outcome.errorText)") }
    }

    private func lacksSomething() throws(KernelError) -> Bool {
        for frame in RecordedParts.frames where parts.values.contains(where: { $0[frame.table] != nil }) {
            let loss = frame.loss(of: Array(parts.values), in: try filter.observe(frame.table))
            if !loss.changes.isEmpty { return true }
        }
        return false
    }

    private var program: String { "\(programs)/\(PluginConfiguration.plugin)" }

    private func complain(_ words: String) {
        guard words != complaint else { return }
        complaint = words
        logger.warning("Attachments are not looked after", metadata: ["reason": "\(words)"])
    }
}
