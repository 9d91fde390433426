import KernelInterface
import KubernetesObjects
import Logging
import NetlinkWire
import NetworkAddresses
import PolicyRules
import Reconciliation
import Testing

/// Connections that rested while the epoch's numbers went round must not pass as judged.
@Suite(.needsRoot) struct EpochTests {
    private static let mask: UInt32 = 0x0030_0000
    /// Bits of another program, which stay.
    private static let foreign: UInt32 = 0x2a

    /// An agent whose epochs are 1, 2 and 3, and a connection within its node.
    private struct Bed: ~Copyable {
        let node: NodeBed
        let conntrack: ConntrackSocket

        init() throws {
            let node = try NodeBed()
            try node.namespace.run("ip", "link", "set", "lo", "up")
            try node.namespace.run("nft", "add table ip t; add chain ip t o { type filter hook output priority 0; ct state new accept; }")
            let conntrack = try node.namespace.withEntered { () throws(KernelError) in try ConntrackSocket.open() }
            self.node = node
            self.conntrack = conntrack
        }

        func agent() throws -> NodeReconciler {
            var logger = Logger(label: "test")
            logger.logLevel = .critical
            let configuration = NodeReconciler.Configuration(
                nodeName: "n1", components: [.policy], firstEpoch: PolicyEpoch(1, mask: EpochTests.mask)!)
            return try node.namespace.withEntered { () throws(KernelError) in
                try NodeReconciler(configuration, logger: logger)
            }
        }

        /// Makes the connection one that passed in that epoch.
        func stamp(_ number: UInt32) throws {
            for entry in try conntrack.entries() { try conntrack.delete(original: entry.original) }
            try node.namespace.run(
                "conntrack", "-I", "-p", "udp", "-s", "10.244.1.2", "-d", "10.244.1.3", "--sport", "1000", "--dport", "2000",
                "-t", "600", "-m", "\(number << 20 | EpochTests.foreign)")
        }

        /// The connection's epoch; its other bits are checked.
        func stamp() throws -> UInt32 {
            let entries = try conntrack.entries(.ipv4)
            let mark = try #require(entries.first { $0.original.transport == .udp }).mark
            #expect(mark & ~EpochTests.mask == EpochTests.foreign)
            return (mark & EpochTests.mask) >> 20
        }
    }

    private static let pod = Pod(
        metadata: ObjectMetadata(name: "p", namespace: "shop"), spec: PodSpec(nodeName: "n1"),
        addresses: [IPAddress("10.244.1.3")!])

    /// Takes rights away by the policy that is not there, or gives them back.
    private static func policy(_ isThere: Bool) -> ObjectEvent {
        let policy = NetworkPolicy(metadata: ObjectMetadata(name: "none", namespace: "shop"), directions: [.ingress])
        return isThere ? .set(.networkPolicy(policy)) : .removed(ObjectReference(.networkPolicy, policy.key))
    }

    @Test func `a number that comes round again is cleared before, and others are left alone`() async throws {
        let bed = try Bed()
        try bed.stamp(2)
        let agent = try bed.agent()
        let attachment = LocalAttachment(
            containerID: "c", podNamespace: "shop", podName: "p", addresses: Self.pod.addresses)
        func apply(_ events: [ObjectEvent]) async {
            let report = await agent.apply([.objects(events, notes: [], revision: "")])
            #expect(report.isSynced && report.errors.isEmpty)
        }
        _ = await agent.apply([.attachments([attachment])])
        await apply([.set(.node(node(1))), .set(.pod(Self.pod)), .synced])
        // No table was there: nobody knows what the stamp meant.
        #expect(try bed.stamp() == 0)

        var left: [UInt32: UInt32] = [:]
        // Epoch 1 is in force; the restrictive changes begin 2, 3 and 1.
        for (next, carried) in [(2, 3), (3, 1), (1, 1), (2, 1), (3, 2), (1, 2)] as [(UInt32, UInt32)] {
            try bed.stamp(carried)
            await apply([Self.policy(false)])
            #expect(try bed.stamp() == carried, "what gives rights changes no epoch")
            await apply([Self.policy(true)])
            left[next * 10 + carried] = try bed.stamp()
        }
        #expect(left == [23: 0, 31: 1, 11: 0, 21: 1, 32: 2, 12: 2])
    }

    @Test func `a restart goes on with the epoch and clears nothing`() async throws {
        let bed = try Bed()
        let events: [ObjectEvent] = [.set(.node(node(1))), .synced]
        _ = await (try bed.agent()).apply([.objects(events, notes: [], revision: "")])
        try bed.stamp(1)
        let report = await (try bed.agent()).apply([.objects(events, notes: [], revision: "")])
        #expect(try report.changes == 0 && bed.stamp() == 1)
    }
}

extension NetworkNamespace {
    fileprivate func run(_ program: String, _ arguments: String...) throws {
        let result = try withEntered { () throws(KernelError) in
            try ChildProcess.capture(program, arguments, timeout: .seconds(20))
        }
        try #require(result.status.isSuccess, "\(program): \(result.errorText)")
    }
}
