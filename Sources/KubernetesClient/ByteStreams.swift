import KubernetesObjects

/// One object was longer than anything an API server stores.
struct ObjectTooLong: Error {
    /// etcd refuses 1.5 MiB; as JSON the same object may be longer than what is stored.
    static let limit = 4 << 20
}

/// Cuts a watch's stream into its lines, each of which is one event, however the network has cut it.
struct LineSplitter {
    private var pending: [UInt8] = []

    /// The lines that end in these bytes.
    mutating func lines(in bytes: some Collection<UInt8>) throws(ObjectTooLong) -> [[UInt8]] {
        var lines: [[UInt8]] = []
        var rest = bytes[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            try hold(rest[..<end])
            if !pending.isEmpty { lines.append(pending) }
            pending.removeAll(keepingCapacity: true)
            rest = rest[rest.index(after: end)...]
        }
        try hold(rest)
        return lines
    }

    private mutating func hold(_ bytes: some Collection<UInt8>) throws(ObjectTooLong) {
        guard pending.count + bytes.count <= ObjectTooLong.limit else { throw ObjectTooLong() }
        pending.append(contentsOf: bytes)
    }
}

/// Cuts a list's answer into its items as they arrive, so that no more than one of them is held as bytes.
///
/// A server may answer with everything at once, whatever limit it was given; 100,000 pods would be a gigabyte. Only
/// braces and quotation marks are looked at here: the items and the rest are read by `FieldValue(json:)`, which
/// notices everything else.
struct ListSplitter {
    /// The answer without its items: `{"kind":"ServiceList","metadata":{…},"items":[]}`.
    private(set) var envelope: [UInt8] = []

    private var depth = 0
    private var isInString = false
    private var isEscaped = false
    /// The depth-1 string that is being read or was read last: a key, if a colon follows.
    private var word: [UInt8] = []
    private var key: [UInt8] = []
    private var isInItems = false
    private var item: [UInt8] = []

    /// What came last among the items. Commas between them are left out as they are; one that is missing or too many
    /// goes to the envelope or an item, whose reader stumbles over it.
    private enum Predecessor { case none, item, comma }
    private var predecessor = Predecessor.none

    /// The items that end in these bytes.
    mutating func items(in bytes: some Sequence<UInt8>) throws(ObjectTooLong) -> [[UInt8]] {
        var items: [[UInt8]] = []
        for byte in bytes {
            let isOfItem = isInItems && (depth > 2 || byte == UInt8(ascii: "{") && predecessor != .item)
            if isOfItem {
                item.append(byte)
            } else if isInItems, byte == UInt8(ascii: ","), predecessor == .item {
                predecessor = .comma
            } else {
                if isInItems, byte == UInt8(ascii: "]"), predecessor == .comma { envelope.append(UInt8(ascii: ",")) }
                envelope.append(byte)
            }
            guard item.count <= ObjectTooLong.limit, envelope.count <= ObjectTooLong.limit else {
                throw ObjectTooLong()
            }
            take(byte)
            if isOfItem, depth == 2 {
                items.append(item)
                item.removeAll(keepingCapacity: true)
                predecessor = .item
            }
        }
        return items
    }

    private mutating func take(_ byte: UInt8) {
        if isInString {
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isInString = false
            } else if depth == 1 {
                word.append(byte)
            }
            return
        }
        switch byte {
        case UInt8(ascii: "\""):
            isInString = true
            if depth == 1 { word.removeAll(keepingCapacity: true) }
        case UInt8(ascii: ":"): if depth == 1 { key = word }
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            depth += 1
            if depth == 2, byte == UInt8(ascii: "["), key == Array("items".utf8) {
                (isInItems, predecessor) = (true, .none)
            }
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            depth -= 1
            if depth == 1 { isInItems = false }
        default: break
        }
    }
}
