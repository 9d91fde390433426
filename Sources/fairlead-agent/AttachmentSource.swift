import CNIProtocol
import KernelInterface
import KubernetesObjects
import Logging
import PolicyRules
import Reconciliation
import ServiceLifecycle

/// Follows the records that the CNI plugins leave of this node's attachments.
///
/// A record is there before ADD returns, and so before the pod's first packet; the pod's object may know its
/// addresses only seconds later.
actor AttachmentSource: ServiceLifecycle.Service {
    private let thread = KernelThread()
    private let folder: StateDirectory
    private var watch: DirectoryWatch
    private let mailbox: Mailbox
    private let logger: Logger
    private var attachments: [String: LocalAttachment] = [:]

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor }

    init(_ stateFolder: String, mailbox: Mailbox, logger: Logger) throws(KernelError) {
        folder = try StateDirectory.open(stateFolder, create: true)
            .subdirectory(AttachmentRecord.folder, create: true)
        // Watched before it is read, so that nothing falls between.
        watch = try DirectoryWatch.open(folder.path)
        self.mailbox = mailbox
        self.logger = logger
    }

    func run() async throws {
        try readAll()
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            let changes = try watch.next(timeout: patience)
            guard !changes.isEmpty else { continue }
            if changes.isComplete {
                for name in changes.names { read(name) }
                post()
            } else {
                // More happened than the kernel kept: only the folder itself knows.
                try readAll()
            }
        }
    }

    private func readAll() throws {
        attachments = [:]
        for name in try folder.entries() { read(name) }
        post()
    }

    private func post() { mailbox.post(.attachments(attachments.values.sorted { $0.containerID < $1.containerID })) }

    /// A record that cannot be read is as good as none: the address stays closed, and the log says why.
    private func read(_ name: String) {
        guard AttachmentRecord.isLiving(name) else { return }
        attachments[name] = nil
        do {
            guard let bytes = try folder.read(name, limit: 1 << 16) else { return }
            let record = try AttachmentRecord(json: String(decoding: bytes, as: UTF8.self))
            attachments[name] = LocalAttachment(
                containerID: record.attachment.containerID.description, podNamespace: record.podNamespace,
                podName: record.podName, addresses: record.addresses)
        } catch {
            logger.error("Unusable attachment record", metadata: ["file": "\(name)", "error": "\(error)"])
        }
    }
}
