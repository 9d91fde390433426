public import CNIProtocol
internal import NetworkAddresses

/// How an attachment is named in what the node's packet filter holds for it: `<network>/<container id>/<interface>`.
///
/// DEL and GC find everything of an attachment by it, with nothing but the request: no namespace, no previous result,
/// no file.
public struct AttachmentTag: Hashable, Sendable, CustomStringConvertible {
    public let description: String

    public init(network: String, _ attachment: AttachmentID) {
        let id = Self.part(attachment.containerID, limit: 64)
        let interface = Self.part(attachment.interface.description, limit: 15)
        description = "\(Self.part(network, limit: 40))/\(id)/\(interface)"
    }

    /// The name itself where a comment can hold it; else its fingerprint, behind a letter that begins no such name.
    private static func part(_ name: String, limit: Int) -> String {
        let isPlain = name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\"") }
        guard isPlain, name.utf8.count <= limit, name.utf8.first != UInt8(ascii: "#") else {
            let digits = String(StableHash(name).value, radix: 16)
            return "#" + String(repeating: "0", count: 16 - digits.count) + digits
        }
        return name
    }

    /// Whether a comment names the same container and interface, in whatever network.
    ///
    /// A container has an interface once, so DEL need not know how the network was called when ADD came.
    public func isSameAttachment(as comment: String?) -> Bool {
        guard let comment else { return false }
        return comment.drop { $0 != "/" } == description.drop { $0 != "/" }
    }

    /// Whether a comment names the same container, with whatever interface.
    ///
    /// Runtimes that join a container to several networks pass its host ports to each of them.
    public func isSameContainer(as comment: String?) -> Bool {
        guard let comment else { return false }
        let containers = [comment, description].map { $0.split(separator: "/").dropFirst().first }
        return containers[0] != nil && containers[0] == containers[1]
    }

    /// Whether a comment is that of an attachment of the network that is not in `valid`.
    public static func garbage(of network: String, except valid: Set<AttachmentID>) -> (_ comment: String?) -> Bool {
        let prefix = part(network, limit: 40) + "/"
        let kept = Set(valid.map { AttachmentTag(network: network, $0).description })
        return { comment in
            guard let comment else { return false }
            return comment.hasPrefix(prefix) && !kept.contains(comment)
        }
    }

    /// The container and interface that a comment names, for people.
    public static func holder(in comment: String?) -> String {
        let parts = (comment ?? "").split(separator: "/")
        return parts.count == 3 ? "container \(parts[1]) (\(parts[2]))" : "somebody unknown"
    }
}
