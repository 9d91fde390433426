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
    ///
    /// The rest after the lab's name is compared whole: a lab `a` must not take `fairlead-a-b-node-1` for its own, which
    /// is a node of the lab `a-b`.
    func owns(namespace: String) -> Bool {
        guard namespace.hasPrefix(prefix) else { return false }
        let rest = namespace.dropFirst(prefix.count)
        if rest == "underlay" { return true }
        if rest.hasPrefix("node-") {
            let number = rest.dropFirst("node-".count)
            return (1...3).contains(number.utf8.count) && number.utf8.allSatisfy { (0x30...0x39).contains($0) }
        }
        return rest.hasPrefix("pod-") && PodID(String(rest.dropFirst("pod-".count))) != nil
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
