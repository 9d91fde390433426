import KubernetesObjects
import NetworkAddresses

extension StableHash {
    /// `count` characters of the alphabet Kubernetes names things with: no vowels, so no words come out by accident.
    func letters(_ count: Int) -> String {
        let alphabet = Array("bcdfghjklmnpqrstvwxz2456789")
        var rest = value
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
