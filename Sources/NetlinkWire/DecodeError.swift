/// What is wrong with the bytes of a netlink message.
public enum DecodeError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The bytes end inside of what they began.
    case truncated
    /// A length that is shorter than its own header.
    case badLength(Int)
    /// A value of another size than its type has.
    case wrongSize(expected: Int, found: Int)

    public var description: String {
        switch self {
        case .truncated: "the message ends too early"
        case .badLength(let length): "a length of \(length) is less than its header"
        case .wrongSize(let expected, let found): "a value has \(found) bytes instead of \(expected)"
        }
    }
}
