import KubernetesObjects

/// A hash that is the same in every process and for ever: FNV-1a of 64 bits.
///
/// Names and addresses are made from it, so that a lab that is built again looks as it did. Swift's own hashing is
/// seeded anew by each process.
struct StableHash {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    init(_ parts: String...) {
        for part in parts { combine(part) }
    }

    mutating func combine(_ text: String) {
        for byte in text.utf8 { add(byte) }
        // Ends the part: ("a", "bc") is not ("ab", "c").
        add(0xff)
    }

    private mutating func add(_ byte: UInt8) {
        value = (value ^ UInt64(byte)) &* 0x100_0000_01b3
    }

    /// `count` characters of the alphabet Kubernetes names things with: no vowels, so no words come out by accident.
    func letters(_ count: Int) -> String {
        let alphabet = Array("bcdfghjklmnpqrstvwxz2456789")
        // The low bits of FNV are its weakest, and short inputs differ little in the high ones.
        var rest = (value ^ value >> 29) &* 0xbf58_476d_1ce4_e5b9
        rest ^= rest >> 32
        var text = ""
        for _ in 0..<count {
            text.append(alphabet[Int(rest % UInt64(alphabet.count))])
            rest /= UInt64(alphabet.count)
        }
        return text
    }
}

extension FieldValue {
    /// The same tree with the keys of all its maps sorted: their order means nothing to Kubernetes.
    var sortedByKey: FieldValue {
        switch self {
        case .null, .bool, .integer, .double, .string: self
        case .array(let elements): .array(elements.map(\.sortedByKey))
        case .object(let object):
            .object(
                FieldObject(
                    object.entries.map { .init(key: $0.key, value: $0.value.sortedByKey) }
                        .sorted { $0.key < $1.key }))
        }
    }
}
