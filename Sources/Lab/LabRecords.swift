import FoundationEssentials
import KernelInterface

/// The content of `lab.json`: what the lab is to be, written before anything of it is made.
struct LabRecord: Codable, Hashable {
    /// How far the lab is; what a killed command left behind is told by it.
    enum Phase: String, Codable {
        /// `lab up` has begun. A lab in this phase that nobody works on is a ruin.
        case building
        case up
        /// `lab down` has begun, or the undoing of a `lab up`.
        case removing
    }

    struct Node: Codable, Hashable {
        var name: String
        var namespace: String
        var addresses: [String]
        var podCIDRs: [String]
    }

    var name: String
    /// `/proc/sys/kernel/random/boot_id` of the boot the lab was made in: its namespaces and processes ended with it.
    var boot: String
    var phase: Phase
    var nodes: [Node]
    var serviceCIDRs: [String]
    /// How the agents join the nodes; nil where they were not told, and so by VXLAN.
    var overlay: LabOverlay?
}

/// The content of `pods/<id>.json`: one pod's sandbox, written before the sandbox is made.
struct PodRecord: Codable, Hashable {
    enum Phase: String, Codable {
        /// Being made; left in this phase, it is half a pod and will be removed.
        case attaching
        case running
        /// Being removed; left in this phase, it still will be.
        case removing
    }

    /// What the container's stand-in listens on.
    struct Listener: Codable, Hashable, Comparable {
        /// `tcp` or `udp`.
        var transport: String
        var port: UInt16

        static func < (left: Self, right: Self) -> Bool { (left.port, left.transport) < (right.port, right.transport) }
    }

    var id: String
    var namespace: String
    var name: String
    var uid: String
    var node: String
    /// The pod's own network namespace, or its node's where the pod asked for the node's network.
    var networkNamespace: String
    var isHostNetwork: Bool
    var addresses: [String] = []
    /// Sorted.
    var listeners: [Listener]
    var phase: Phase
}

/// A process of the lab, as it is found again: the content of `agent.json` and `<id>.server.json`.
struct ProcessRecord: Codable, Hashable {
    var pid: Int32
    var startTime: UInt64

    init(_ process: ProcessIdentity) {
        pid = process.pid
        startTime = process.startTime
    }

    var process: ProcessIdentity { ProcessIdentity(pid: pid, startTime: startTime) }
}

extension Encodable {
    /// As the lab keeps it on disk: JSON a person can read.
    var recordBytes: [UInt8] {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
        }
    }
}

extension Decodable {
    /// Reads a record back; `path` is for the message.
    init(recordBytes bytes: [UInt8], path: String) throws(LabError) {
        do {
            self = try JSONDecoder().decode(Self.self, from: Data(bytes))
        } catch {
            throw LabError(
                "\(path) is damaged", advice: "Run 'fairlead lab down' with the lab's --name, which needs no records.")
        }
    }
}
