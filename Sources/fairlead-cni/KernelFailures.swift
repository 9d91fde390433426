import CNIProtocol
import KernelInterface
import LeaseStore

extension CNIError {
    /// The kernel refused something that the attachment needs.
    init(_ error: KernelError) { self.init(.internal, error.description) }

    /// The kernel refused something, and `attempt` says what for.
    init(_ attempt: String, _ error: KernelError) { self.init(.internal, "\(attempt): \(error)") }

    init(_ error: LeaseError) {
        switch error {
        case .exhausted, .busy: self.init(.tryAgainLater, error.description)
        case .duplicate, .taken: self.init(.internal, error.description)
        case .inputOutput: self.init(.inputOutput, error.description)
        }
    }
}

/// Runs `body` with the kernel's refusals as CNI errors.
@discardableResult
func kernel<Result: ~Copyable>(_ body: () throws(KernelError) -> Result) throws(CNIError) -> Result {
    do throws(KernelError) { return try body() } catch { throw CNIError(error) }
}

/// Runs `body` with the lease store's failures as CNI errors.
func leases<Result: ~Copyable>(_ body: () throws(LeaseError) -> Result) throws(CNIError) -> Result {
    do throws(LeaseError) { return try body() } catch { throw CNIError(error) }
}
