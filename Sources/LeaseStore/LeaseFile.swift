internal import AddressAllocation
internal import NetworkAddresses

/// The content of a lease's file, in host-local's notation: the container's id, CR LF, the interface's name.
struct LeaseFile: Hashable {
    var containerID: String
    /// Nil in files of host-local before 0.8, which hold no interface and belong to every interface of the container.
    var interface: String?

    init(_ owner: LeaseOwner) {
        containerID = owner.containerID
        interface = owner.interface.description
    }

    /// Nil for an empty file: somebody was killed, or the power cut, between making it and filling it.
    init?(parsing bytes: [UInt8]) {
        let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard let first = words.first else { return nil }
        containerID = String(first)
        interface = words.dropFirst().first.map(String.init)
    }

    var bytes: [UInt8] { Array("\(containerID)\r\n\(interface ?? "")".utf8) }

    /// The name of the owner's file in the index; `@` is in no container id, so no two owners share one.
    var indexName: String { "\(containerID)@\(interface ?? "")" }

    /// Longer content is no lease: an id that reaches a plugin is far shorter.
    static let sizeLimit = 4096
}
