internal import AddressAllocation
internal import NetworkAddresses
internal import SystemPackage

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
        // Bytes and not characters: a folder of 30,000 leases is read whole at times.
        let words = bytes.split(maxSplits: 2) { $0 == 0x20 || (0x09...0x0d).contains($0) }
        guard let first = words.first else { return nil }
        containerID = String(decoding: first, as: UTF8.self)
        interface = words.dropFirst().first.map { String(decoding: $0, as: UTF8.self) }
    }

    var bytes: [UInt8] { Array("\(containerID)\r\n\(interface ?? "")".utf8) }

    /// The owner's name in the index; `@` is in no container id, so no two owners share one. Nil for an owner that no
    /// runtime names like this, and so no DEL asks for.
    var indexName: String? {
        let name = "\(containerID)@\(interface ?? "")"
        return name.utf8.count <= 255 && name.utf8.allSatisfy { $0 != 0 && $0 != UInt8(ascii: "/") } ? name : nil
    }

    /// Longer content is no lease: an id that reaches a plugin is far shorter.
    static let sizeLimit = 4096
}

/// What there is under the name of an address.
enum LeaseState {
    /// No file.
    case free
    /// An empty file, which is nobody's.
    case abandoned
    case leased(LeaseFile)
    /// Something that no program of leases makes: a folder, a link, a file without end. The address is left alone.
    case unreadable

    /// What a read of something that is no lease fails with. A disk's own errors are not among them: there may be a lease.
    static let obstacles: [Errno] = [
        .fileTooLarge, .isDirectory, .tooManySymbolicLinkLevels, .invalidArgument, .noSuchAddressOrDevice,
    ]
}
