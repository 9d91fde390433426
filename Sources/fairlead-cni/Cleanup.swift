import CNIProtocol

/// Work that goes on whatever fails in it: the first failure is reported at the end.
struct Cleanup: ~Copyable {
    private var failure: CNIError?

    mutating func run(_ body: () throws(CNIError) -> Void) {
        do throws(CNIError) { try body() } catch { failure = failure ?? error }
    }

    consuming func finish() throws(CNIError) {
        if let failure { throw failure }
    }
}
