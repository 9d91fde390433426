/// The name of a lab, and with it the names of all its network namespaces.
///
/// Everything a lab makes is found again by these names alone, so what a killed `lab up` left needs no record.
public struct LabName: Hashable, Sendable {
    public let description: String

    /// What `--name` is when it is not given.
    public static let `default` = LabName(unchecked: "lab")

    private init(unchecked text: String) { description = text }

    /// The namespace with the bridge that joins the nodes.
    public var underlayNamespace: String { "\(prefix)underlay" }

    /// - Parameter node: `node-1`, `node-2` …
    func namespace(ofNode node: String) -> String { prefix + node }

    func namespace(ofPod pod: PodID) -> String { "\(prefix)pod-\(pod)" }

    private var prefix: String { "fairlead-\(description)-" }

    /// Whether a network namespace of that name belongs to this lab.
    func owns(namespace: String) -> Bool { LabName(ofNamespace: namespace) == self }

    /// The lab that gave a network namespace its name; nil for a namespace of anything else.
    ///
    /// Read from the end, where what may follow a lab's name cannot be taken for a part of it: a lab `a` must not take
    /// `fairlead-a-b-node-1` for its own, which is a node of the lab `a-b`.
    init?(ofNamespace namespace: String) {
        guard namespace.hasPrefix("fairlead-") else { return nil }
        var parts = namespace.dropFirst("fairlead-".count).split(separator: "-", omittingEmptySubsequences: false)
        let last = parts.popLast() ?? ""
        if last != "underlay" {
            let isNumber = (1...3).contains(last.utf8.count) && last.utf8.allSatisfy { (0x30...0x39).contains($0) }
            switch parts.popLast() {
            case "node" where isNumber: break
            case "pod" where PodID(String(last)) != nil: break
            default: return nil
            }
        }
        self.init(parts.joined(separator: "-"))
    }
}

extension LabName: LosslessStringConvertible {
    /// 1 to 20 lower-case letters, digits and inner dashes.
    public init?(_ text: String) {
        let bytes = text.utf8
        guard (1...20).contains(bytes.count), bytes.first != UInt8(ascii: "-"), bytes.last != UInt8(ascii: "-"),
            bytes.allSatisfy({ (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") })
        else { return nil }
        description = text
    }
}

/// What names a pod in its lab: eight hexadecimal digits, chosen at random.
///
/// A pod that is deleted and made again under its old name is another pod, and its namespace has another name.
public struct PodID: Hashable, Sendable, LosslessStringConvertible {
    public let description: String

    static func random() -> PodID {
        let digits = String(UInt32.random(in: .min ... .max), radix: 16)
        return PodID(unchecked: String(repeating: "0", count: 8 - digits.count) + digits)
    }

    private init(unchecked text: String) { description = text }

    public init?(_ text: String) {
        guard text.utf8.count == 8,
            text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { return nil }
        description = text
    }
}
