public import KernelInterface

/// Why addresses could not be leased or released.
public enum LeaseError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Every address of the pool is taken.
    case exhausted(String)
    /// The owner has an address of that pool already.
    case duplicate(String)
    /// The address that was asked for by name is taken.
    case taken(String)
    /// Another process holds the store's lock, for longer than any work on it takes.
    case busy(String)
    case inputOutput(KernelError)

    public var description: String {
        switch self {
        case .exhausted(let text), .duplicate(let text), .taken(let text), .busy(let text): text
        case .inputOutput(let error): error.description
        }
    }
}
